"""`dse study` and `dse draw`: measure something over many designs or runs, and draw it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from costs.errors import InputError
from dse.console import print_json, print_line, print_table


def optimality_command(spaces: int, seed: int, out: Path, *, as_json: bool) -> None:
    """List small joint spaces in full and compare what the optimizer finds in them."""
    from dse import optimality
    from dse.study import write_study

    def progress(number: int, found: optimality.Found) -> None:
        print_line(
            f"space {number + 1} of {spaces}: {found.designs} designs, "
            f"{found.evaluations} evaluated, gap {found.gap:.3%}, random {found.random_gap:.3%}"
        )

    found = optimality.explore_all(spaces, seed, progress if not as_json else lambda *_: None)
    rows = [{"space": i, **asdict(one)} for i, one in enumerate(found)]
    settings = {
        "spaces": spaces,
        "seed": seed,
        "starts": optimality.STARTS,
        "steps": optimality.STEPS,
        "within": optimality.WITHIN,
    }
    files = write_study(out, "optimality", rows, settings)
    summary = [
        _optimality_row("relaxation and polish", rows, "gap"),
        _optimality_row("random search", rows, "random_gap"),
    ]
    if as_json:
        print_json({"summary": summary, "files": [str(file) for file in files]})
        return
    print_table(list(summary[0]), [list(row.values()) for row in summary])
    print_line(f"{len(rows)} spaces in {out}: {', '.join(file.name for file in files)}")


def _optimality_row(name: str, rows: list[dict[str, Any]], column: str) -> dict[str, Any]:
    from dse.optimality import WITHIN

    gaps = [row[column] for row in rows]
    return {
        "method": name,
        "within_1_percent": sum(gap <= WITHIN for gap in gaps) / len(gaps),
        "optimal": sum(gap < 1e-9 for gap in gaps) / len(gaps),
        "mean_gap": sum(gaps) / len(gaps),
        "worst_gap": max(gaps),
        "largest_share_evaluated": max(row["evaluations"] / row["designs"] for row in rows),
    }


def break_even_command(run: Path, out: Path, tolerance: float, seed: int, *, as_json: bool) -> None:
    """Price the designs of a finished surface anew for every cell of the phase diagram."""
    from dse.answer import load_surface
    from dse.break_even import calc_cells, price_designs
    from dse.study import write_study

    surface = load_surface(run)
    priced = price_designs(surface, tolerance, seed)
    rows = calc_cells(priced)
    settings = {
        "tolerance_nat": tolerance,
        "seed": seed,
        "designs": len(priced.ratio),
        "experiment": surface.context.config.model_dump(mode="json"),
    }
    files = write_study(out, "break_even", rows, settings)
    paying = sum(row["saved"] > 0 for row in rows)
    summary = {
        "cells": len(rows),
        "where_a_bottleneck_pays": paying,
        "most_saved": max(row["saved"] for row in rows),
        "designs": len(priced.ratio),
        "mac_pj_of_this_chip": priced.mac_pj,
    }
    if as_json:
        print_json({**summary, "files": [str(file) for file in files]})
        return
    print_table(list(summary), [list(summary.values())])
    print_line(f"{len(rows)} cells in {out}: {', '.join(file.name for file in files)}")


def compare_command(
    config: Path,
    out: Path,
    overrides: Sequence[str],
    methods: Sequence[str],
    seeds: int,
    *,
    as_json: bool,
) -> None:
    """Run the surface and its baselines at equal passes, and score them alike."""
    from dse.compare import METHODS, run_cells, summarise
    from dse.config import load_config, naming
    from dse.study import write_study

    experiment = load_config(config, list(overrides))
    if experiment.method != "surface":
        raise InputError(file=config, key="method", value=experiment.method, allowed="surface")
    chosen = list(dict.fromkeys(["surface", *(methods or METHODS)]))

    def progress(method: str, seed: int, number: int, of: int) -> None:
        if not as_json:
            print_line(f"{number} of {of}: {method}, seed {seed}")

    with naming(config):
        rows = run_cells(experiment, chosen, seeds, out / "cells", progress)
    given = {method: len({r["seed"] for r in rows if r["method"] == method}) for method in METHODS}
    ran = {method: number for method, number in given.items() if number}
    settings = {"experiment": experiment.model_dump(mode="json"), "seeds": ran}
    files = write_study(out, "compare", rows, settings)
    summary = summarise(rows)
    if as_json:
        print_json({"summary": summary, "files": [str(file) for file in files]})
        return
    print_table(list(summary[0]), [list(row.values()) for row in summary])
    print_line(f"{len(rows)} designs in {out}: {', '.join(file.name for file in files)}")


def draw_command(folder: Path) -> None:
    """Draw a recorded study again from its CSV."""
    from dse.study import draw_study

    for file in draw_study(folder):
        print_line(str(file))
