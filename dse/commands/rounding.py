"""`dse rounding`: every relaxation of widths, accuracy and costs before and after rounding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dse.console import print_json, print_line, print_table


def rounding_command(
    config: Path, out: Path, overrides: Sequence[str], seeds: int, steps: int, *, as_json: bool
) -> None:
    """Train, round and score each relaxation at each seed; goes on where it was stopped."""
    from dse.config import load_config, naming
    from dse.rounding_gaps import summarise
    from dse.study import write_study
    from dse.width_parameters import TEMPERATURES
    from dse.width_relaxations import run_cells

    experiment = load_config(config, list(overrides))

    def progress(name: str, seed: int, number: int, of: int) -> None:
        if not as_json:
            print_line(f"{number} of {of}: {name}, seed {seed}")

    with naming(config):
        rows = run_cells(experiment, seeds, steps, out / "cells", progress)
    settings = {
        "experiment": experiment.model_dump(mode="json"),
        "seeds": sorted({row["seed"] for row in rows}),
        "steps": steps,
        "temperatures": TEMPERATURES,
    }
    files = write_study(out, "width_relaxations", rows, settings)
    summary = summarise(rows)
    if as_json:
        print_json({"summary": summary, "files": [str(file) for file in files]})
        return
    print_table(list(summary[0]), [list(row.values()) for row in summary])
    print_line(f"{len(rows)} cells in {out}: {', '.join(file.name for file in files)}")
