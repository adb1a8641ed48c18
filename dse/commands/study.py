"""`dse study` and `dse draw`: measure something over many designs or runs, and draw it again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

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


def draw_command(folder: Path) -> None:
    """Draw a recorded study again from its CSV."""
    from dse.study import draw_study

    for file in draw_study(folder):
        print_line(str(file))
