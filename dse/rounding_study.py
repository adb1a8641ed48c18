"""What rounding costs under each relaxation: all cells, and the gaps paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from costs.errors import InputError
from dse import assignment_relaxations
from dse.compare import paired_interval
from dse.experiment_spec import Experiment
from dse.rounding_assignments import measure_assignment, train_assignment
from dse.rounding_setting import COSTS, Part, Row, make_correct, make_setting, make_step
from dse.rounding_widths import measure_widths, train_widths
from dse.study import decisive, kept_cell
from models import relax

KINDS = {
    "widths": (train_widths, measure_widths),
    "assignment": (train_assignment, measure_assignment),
}
RELAXATIONS = (
    *(f"widths.{name}" for name in relax.RELAXATIONS),
    *(f"assignment.{name}" for name in assignment_relaxations.RELAXATIONS),
)
_WHEN = ("before", "after")


def run_cells(
    config: Experiment,
    seeds: int,
    steps: int,
    folder: Path,
    progress: Callable[[str, int, int, int], None],
    names: Sequence[str] = RELAXATIONS,
    part: Part = "validation",
    *,
    run_missing: bool = True,
) -> list[Row]:
    """All cells, seed by seed, those that stand in the folder taken from there.

    Args:
        config: an experiment whose boundaries are given.
        seeds: paired seeds, from the experiment's own on.
        steps: training steps of each.
        folder: where each cell is kept.
        progress: told (relaxation, seed, number, of) before each.
        names: of `RELAXATIONS`.
        part: the pictures that accuracy is measured on.
        run_missing: whether to run cells that are missing, or leave them out.

    Raises:
        InputError: if the folder holds cells of another experiment, or none at all, or a name is
            unknown.
    """
    for name in names:
        if name not in RELAXATIONS:
            raise InputError("unknown relaxation", value=name, allowed=list(RELAXATIONS))
    folder.mkdir(parents=True, exist_ok=True)
    deciding = decisive(config, exclude={"seed"})
    fixed = {"experiment": deciding, "steps": steps, "part": part}
    setting = lru_cache(maxsize=1)(lambda: make_setting(config))
    correct = lru_cache(maxsize=1)(lambda: make_correct(setting(), part))
    step = lru_cache(maxsize=1)(lambda: make_step(setting()))  # compiled once for all
    cells = [(name, config.seed + s) for s in range(seeds) for name in names]
    rows = []
    for number, (whole, seed) in enumerate(cells):

        def make(whole: str = whole, seed: int = seed, number: int = number) -> Row:
            progress(whole, seed, number + 1, len(cells))
            kind, _, name = whole.partition(".")
            train, measure = KINDS[kind]
            params, parameters = train(setting(), name, step(), seed, steps)
            return measure(setting(), name, correct(), params, parameters, seed)

        file = folder / f"{whole}-{seed}.json"
        if run_missing or file.exists():
            rows.append(kept_cell(file, fixed, make))
    if not rows:
        raise InputError("holds no cell of this study", file=folder)
    return rows


def groups(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(kind, relaxation) of all rows, in their order, widths first."""
    found = dict.fromkeys((row["kind"], row["relaxation"]) for row in rows)
    return sorted(found, key=lambda pair: pair[0] != "widths")


def rows_of(rows: Sequence[Mapping[str, Any]], group: tuple[str, str]) -> list[Mapping[str, Any]]:
    """The rows of one relaxation, by seed."""
    mine = [row for row in rows if (row["kind"], row["relaxation"]) == group]
    return sorted(mine, key=lambda row: row["seed"])


def gaps(rows: Sequence[Mapping[str, Any]], group: tuple[str, str], column: str) -> np.ndarray:
    """[seeds] what rounding changes: accuracy after - before, costs after / before - 1."""
    mine = rows_of(rows, group)
    before, after = (np.array([r[f"{column}_{when}"] for r in mine]) for when in _WHEN)
    return after - before if column == "accuracy" else after / before - 1.0


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each relaxation: accuracies, and the gaps with the interval of the paired mean.

    Args:
        rows: of `run_cells`.
    """
    found = []
    for kind, name in groups(rows):
        mine = rows_of(rows, (kind, name))
        accuracy = gaps(rows, (kind, name), "accuracy")
        low, high = paired_interval(accuracy)
        line = {"kind": kind, "relaxation": name}
        line |= {c: float(np.mean([r[c] for r in mine])) for c in ("width_before", "width_after")}
        line |= {f"accuracy_{w}": float(np.mean([r[f"accuracy_{w}"] for r in mine])) for w in _WHEN}
        line |= {
            "accuracy_gap": float(accuracy.mean()),
            "gap_low": low,
            "gap_high": high,
            "accuracy_worst": float(accuracy.min()),
        }
        for cost in COSTS:
            change = gaps(rows, (kind, name), cost)
            line |= {
                f"{cost}_gap": float(change.mean()),
                f"{cost}_worst": float(change[np.abs(change).argmax()]),
            }
        found.append(line | {"seeds": len(mine)})
    return found
