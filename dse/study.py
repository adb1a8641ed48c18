"""Studies: what is measured over many designs or runs, recorded so that it can be drawn again.

A study's directory holds ``<name>.csv``, ``<name>.png`` and ``study.json`` (settings, command,
date, environment). Drawing reads the CSV alone.
"""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from costs.errors import InputError
from costs.library import read_chip
from dse.csv_rows import read_rows, write_rows
from dse.environment import read_environment
from dse.experiment_spec import Experiment
from dse.figures.style import save
from dse.rundir import write_atomically

RECORD = "study.json"
DRAWERS = {
    "optimality": "dse.figures.optimality:draw_optimality",
    "compare": "dse.figures.compare:draw_compare",
    "break_even": "dse.figures.break_even:draw_break_even",
    "rounding": "dse.figures.rounding:draw_rounding",
    "bottlenecks": "dse.figures.bottlenecks:draw_bottlenecks",
}
"""Study -> what draws it from its rows; imported on use."""

Row = Mapping[str, Any]


def write_study(
    folder: Path, name: str, rows: Sequence[Row], settings: Mapping[str, Any]
) -> list[Path]:
    """Write a study's table, record and figure.

    Args:
        folder: directory, made if it is not there.
        name: one of `DRAWERS`.
        rows: the table; all rows have the same columns.
        settings: what a reader needs to repeat it, seeds included.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{name}.csv"
    write_rows(table, rows)
    record = {
        "study": name,
        "settings": dict(settings),
        "command": shlex.join(["dse", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "environment": read_environment(),
    }
    write_atomically(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return [table, folder / RECORD, *draw_study(folder)]


def decisive(
    config: Experiment, *, include: set[str] | None = None, exclude: set[str] | None = None
) -> dict[str, Any]:
    """The parts of an experiment that a cell depends on, as plain data.

    The chip is there by its content, so that cells may be moved with their experiment.

    Args:
        config: the experiment.
        include: names of parts; none means all.
        exclude: names of parts to leave out.
    """
    found = config.model_dump(mode="json", include=include, exclude=exclude)
    if found.get("chip"):
        found["chip"] = read_chip(found["chip"])
    return found


def kept_cell(file: Path, fixed: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What `make` gives, or gave when the file was written: a study goes on where it was stopped.

    Args:
        file: where this part of the study is kept.
        fixed: the configuration it belongs to, as plain data.
        make: gives plain data.

    Raises:
        InputError: if the file is damaged or was made with another configuration.
    """
    if file.exists():
        try:
            cell = json.loads(file.read_text())
            config, row = cell["config"], cell["row"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("not a whole cell: delete it to compute it anew", file=file) from error
        if config != fixed:
            raise InputError("made with another configuration", file=file)
        return row
    row = make()
    write_atomically(file, (json.dumps({"config": fixed, "row": row}) + "\n").encode())
    return row


def draw_study(folder: Path) -> list[Path]:
    """Draw a recorded study again, from its table.

    Raises:
        InputError: if the directory holds no study.
    """
    try:
        name = json.loads((folder / RECORD).read_text())["study"]
        rows = read_rows(folder / f"{name}.csv")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "not the directory of a study", file=folder, allowed=f"one with a sound {RECORD}"
        ) from error
    if name not in DRAWERS:
        raise InputError(file=folder / RECORD, key="study", value=name, allowed=sorted(DRAWERS))
    module, function = DRAWERS[name].split(":")
    draw: Callable[[Sequence[Row]], Any] = getattr(import_module(module), function)
    return [save(draw(rows), folder / f"{name}.png")]
