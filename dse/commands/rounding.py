"""`dse rounding`: every relaxation, accuracy and costs before and after rounding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from costs.errors import InputError
from dse.console import print_json, print_line, print_table


def rounding_command(
    config: Path,
    out: Path,
    overrides: Sequence[str],
    names: Sequence[str],
    split: str,
    seeds: int,
    steps: int,
    *,
    train: bool,
    as_json: bool,
) -> None:
    """Train, round and score each relaxation at each seed; goes on where it was stopped."""
    from dse.config import load_config, naming
    from dse.rounding_setting import Part
    from dse.rounding_study import RELAXATIONS, run_cells, summarise
    from dse.study import write_study
    from dse.width_parameters import TEMPERATURES

    for key, values, allowed in (
        ("--relaxation", names, RELAXATIONS),
        ("--split", [split], get_args(Part)),
    ):
        for value in values:
            if value not in allowed:
                raise InputError(key=key, value=value, allowed=list(allowed))
    experiment = load_config(config, list(overrides))

    def progress(name: str, seed: int, number: int, of: int) -> None:
        if not as_json:
            print_line(f"{number} of {of}: {name}, seed {seed}")

    with naming(config):
        chosen = tuple(dict.fromkeys(names)) or RELAXATIONS
        part: Part = "test" if split == "test" else "validation"
        rows = run_cells(
            experiment,
            seeds,
            steps,
            out / "cells",
            progress,
            chosen,
            part,
            run_missing=train,
        )
    settings = {
        "experiment": experiment.model_dump(mode="json"),
        "seeds": sorted({row["seed"] for row in rows}),
        "steps": steps,
        "split": split,
        "temperatures": TEMPERATURES,
    }
    files = write_study(out, "rounding", rows, settings)
    summary = summarise(rows)
    if as_json:
        print_json({"summary": summary, "files": [str(file) for file in files]})
        return
    print_table(list(summary[0]), [list(row.values()) for row in summary])
    print_line(f"{len(rows)} cells in {out}: {', '.join(file.name for file in files)}")
