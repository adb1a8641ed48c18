"""`dse run` and `dse resume`: work, then show the front."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from costs.errors import InputError
from dse import session
from dse.config import Experiment, load_config, naming
from dse.console import print_json, print_line, print_table
from dse.front_table import Front, Row, answer_words, read_front
from dse.rundir import (
    ANSWERS_FILE,
    EPOCHS_FILE,
    FRONT_FILE,
    REPORT_FILE,
    RESULT_FILE,
    WEIGHTS_FILE,
    RunDir,
    new_run_path,
)

if TYPE_CHECKING:
    from dse.runner import Phase

RUNS = Path("runs")
COMPARISONS = ("insitu", "skipping")
"""Methods that compare a few networks instead of making a front."""
COLUMNS = (
    "id",
    "validation_accuracy",
    "test_accuracy",
    "io_bytes",
    "link_bytes",
    "dram_bytes",
    "energy_pj",
    "latency_s",
    "area_mm2",
    "cores_used",
)
"""Columns of front.csv that a person sees first, where the file has them."""
RESULT_COLUMNS = (
    "network",
    "data",
    "parameters",
    "epochs",
    "validation_accuracy",
    "test_accuracy",
    "test_low",
    "test_high",
    "pictures_per_s",
)
"""Likewise of result.csv, with the speed from timing.jsonl."""


def run_command(config: Path, out: Path | None, overrides: Sequence[str], *, as_json: bool) -> None:
    """Make a run and work until it is done."""
    experiment = load_config(config, list(overrides))
    path = out or new_run_path(RUNS, experiment.name)
    with naming(config):
        session.begin(experiment, path, make_phases)
    show_run(RunDir(path), as_json=as_json)


def resume_command(path: Path, overrides: Sequence[str], *, as_json: bool) -> None:
    """Continue a run and work until it is done."""
    session.resume(path, overrides, make_phases)
    show_run(RunDir(path), as_json=as_json)


def report_command(path: Path) -> None:
    """Draw the report of a finished run again, from its files."""
    method = method_of(path)
    if method == "train":
        from dse.train_report import write_train_report as write
    elif method in COMPARISONS:
        from dse.comparison_report import write_comparison_report as write
    else:
        from dse.report import write_report as write
    for file in write(path):
        print_line(str(file))


def export_command(path: Path, pick: str | None, out: Path, *, as_json: bool) -> None:
    """Write one design of a run, or the network of a run without a chip, for others."""
    if method_of(path) in ("train", *COMPARISONS):
        if pick is not None:
            raise InputError(
                "the run has one network to export", key="--pick", value=pick, allowed="none"
            )
        from dse.export_network import export_network

        written = export_network(path, out)
    else:
        if pick is None:
            raise InputError(
                "missing", key="--pick", allowed="an id, knee, or bounds: accuracy>=0.9,energy"
            )
        from dse.export import export_design

        written = export_design(path, pick, out)
    if as_json:
        print_json({"files": [str(file) for file in written]})
    else:
        for file in written:
            print_line(str(file))
        for line in json.loads(written[0].read_text())["not_written"]:
            print_line(f"not written: {line}")


def make_phases(config: Experiment, rundir: RunDir) -> Sequence[Phase]:
    """The phases of an experiment; imports jax, so it is called in the working thread only."""
    from dse.experiment import phases

    return phases(config, rundir)


def method_of(path: Path) -> str:
    """The method of a run; only `surface` and `joint` have a front."""
    rundir = RunDir(path)
    rundir.require_run()
    return session.load_config_of(rundir).method


def show_run(rundir: RunDir, *, as_json: bool) -> None:
    """The front of a finished run, as a table and where its files are, or as JSON."""
    method = method_of(rundir.path)
    if method == "train":
        _show_result(rundir, as_json=as_json)
        return
    if method in COMPARISONS:
        _show_comparison(rundir, as_json=as_json)
        return
    from dse.csv_rows import read_rows

    front = read_front(rundir.path / FRONT_FILE)
    asked = rundir.path / ANSWERS_FILE
    answers = read_rows(asked) if asked.exists() else []
    if as_json:
        rows = [_json_row(row) for row in front.rows]
        told = {"answers": answers} if answers else {}
        print_json({"run": str(rundir.path), "front": rows, **told})
        return
    print_front(front)
    for row in answers:
        print_line(f"{row['request']}: {answer_words(row)}")
    names = [FRONT_FILE, REPORT_FILE, "figures", "designs"]
    count = "1 design" if len(front) == 1 else f"{len(front)} designs"
    print_line(f"{count} in {rundir.path}: {', '.join(names)}")


def _show_result(rundir: RunDir, *, as_json: bool) -> None:
    """What `method: train` reached."""
    from dse.train_report import read_result

    result = read_result(rundir.path)
    if as_json:
        print_json({"run": str(rundir.path), "result": result})
        return
    columns = [name for name in RESULT_COLUMNS if name in result]
    print_table(columns, [[result[name] for name in columns]])
    names = ", ".join((RESULT_FILE, EPOCHS_FILE, WEIGHTS_FILE, REPORT_FILE))
    print_line(f"trained in {rundir.path}: {names}")


def _show_comparison(rundir: RunDir, *, as_json: bool) -> None:
    """The networks that a run has compared."""
    from dse.comparison_report import result_columns
    from dse.csv_rows import read_rows

    rows = read_rows(rundir.path / RESULT_FILE)
    if as_json:
        print_json({"run": str(rundir.path), "result": rows})
        return
    columns = result_columns(rows)
    print_table(columns, [[row[name] for name in columns] for row in rows])
    print_line(f"compared in {rundir.path}: {RESULT_FILE}, {REPORT_FILE}, figures")


def print_front(front: Front) -> None:
    """The main columns of a front, one design a row."""
    columns = [name for name in COLUMNS if name in front.columns]
    print_table(columns, [[row[name] for name in columns] for row in front.rows])


def _json_row(row: Row) -> Row:
    """A row for JSON, which knows no NaN: blanks are left out."""
    return {name: value for name, value in row.items() if value == value}
