"""Histogram of how far from the optimum the optimizer ends, where the optimum is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dse.figures.style import ACCENT, QUIET, new_figure, styled

EDGES = np.array([0.0, 1e-9, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, np.inf])
LABELS = ("0", "< 0.1", "0.1–0.2", "0.2–0.5", "0.5–1", "1–2", "2–5", "5–10", "> 10")


@styled
def draw_optimality(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Share of spaces by distance of the best design found from the optimum.

    Args:
        rows: columns `gap`, `random_gap` (found / optimum - 1), `evaluations`, `designs`.
    """
    figure, (axes,) = new_figure(7.0, 3.4)
    place = np.arange(len(LABELS))
    for offset, column, color, name in (
        (-0.2, "gap", ACCENT, "relaxation and polish"),
        (0.2, "random_gap", QUIET, "random search, as many evaluations"),
    ):
        counts, _ = np.histogram([float(row[column]) for row in rows], EDGES)
        bars = axes.bar(place + offset, 100 * counts / len(rows), 0.4, color=color, label=name)
        axes.bar_label(bars, [f"{c}" if c else "" for c in counts], fontsize=7.5)
    axes.axvline(4.5, color=QUIET, linestyle=":", linewidth=1)
    axes.set_xticks(place, LABELS)
    axes.set_xlabel("found / optimum − 1 [%]; dotted: 1 %")
    axes.set_ylabel("spaces [%]")
    share = np.mean([row["evaluations"] / row["designs"] for row in rows])
    axes.set_title(
        f"{len(rows)} joint spaces of {np.mean([row['designs'] for row in rows]):,.0f} designs, "
        f"{share:.1%} of them evaluated"
    )
    axes.legend(loc="upper right")
    axes.grid(axis="x", visible=False)
    return figure
