"""`dse bottlenecks`: accuracy and bytes moved against the bottleneck ratio, by depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from costs.errors import InputError
from dse.console import print_json, print_line, print_table


def bottlenecks_command(
    config: Path,
    out: Path,
    overrides: Sequence[str],
    surfaces: Sequence[Path],
    *,
    train: bool,
    as_json: bool,
) -> None:
    """Train every (network, seed, ratio), test the two trends; goes on where it was stopped."""
    from dse.bottleneck_study import run_cells, surface_rows
    from dse.bottleneck_trends import networks_of, summarise, trends
    from dse.config import load_config, naming
    from dse.study import write_study

    experiment = load_config(config, list(overrides))
    fronts = [row for run in surfaces for row in surface_rows(run)]

    def progress(network: str, ratio: float, seed: int, number: int, of: int) -> None:
        if not as_json:
            print_line(f"{number} of {of}: {network}, ratio {ratio:g}, seed {seed}")

    with naming(config):
        rows = run_cells(experiment, out / "cells", progress, run_missing=train)
    if not networks_of(rows):
        raise InputError("holds no seed with all ratios yet", file=out / "cells")
    settings = {
        "experiment": experiment.model_dump(mode="json"),
        "seeds": sorted({row["seed"] for row in rows}),
        "surfaces": [str(run) for run in surfaces],
        "trends": trends(rows),
    }
    files = write_study(out, "bottlenecks", [*rows, *fronts], settings)
    summary = summarise(rows)
    if as_json:
        said = {"trends": settings["trends"], "files": [str(file) for file in files]}
        print_json({"summary": summary, **said})
        return
    print_table(list(summary[0]), [list(row.values()) for row in summary])
    for line in settings["trends"]:
        print_line(line)
    print_line(f"{len(rows)} cells in {out}: {', '.join(file.name for file in files)}")
