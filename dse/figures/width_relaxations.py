"""What rounding changes under each relaxation of widths: accuracy and costs, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dse.compare import paired_interval
from dse.figures.style import ACCENT, COSTS, PALETTE, QUIET, new_figure, styled
from dse.rounding_gaps import gaps
from dse.width_relaxations import COSTS as COLUMNS

Rows = Sequence[Mapping[str, Any]]


@styled
def draw_width_relaxations(rows: Rows) -> Figure:
    """Left: change of accuracy by rounding. Right: change of each cost. Dots are seeds.

    Args:
        rows: of `dse.width_relaxations.run_cells`.
    """
    names = list(dict.fromkeys(row["relaxation"] for row in rows))
    seeds = len({row["seed"] for row in rows})
    figure, (left, right) = new_figure(9.5, 4.2, 1, 2, sharey=True)
    for place, name in enumerate(names):
        values = 100 * gaps(rows, name, "accuracy")
        color = ACCENT if name == "stochastic" else PALETTE[0]
        low, high = paired_interval(values)
        left.plot(values, np.full(len(values), place), "o", color=color, alpha=0.35, markersize=4)
        left.plot([low, high], [place, place], color=color, linewidth=1.5)
        left.plot(values.mean(), place, "|", color=color, markersize=12, markeredgewidth=2)
        for number, column in enumerate(COLUMNS):
            values = 100 * gaps(rows, name, column)
            low, high = paired_interval(values)
            height = place + 0.24 * (number - 1)
            color = PALETTE[number]
            label = COSTS[column][0] if place == 0 else None
            right.plot([low, high], [height, height], color=color, linewidth=1.2)
            right.plot(values.mean(), height, "o", color=color, markersize=4, label=label)
    for axes in (left, right):
        axes.axvline(0.0, color=QUIET, linewidth=0.8)
        axes.grid(axis="y", visible=False)
    left.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    left.invert_yaxis()
    left.set_xlabel("accuracy after − before rounding [points]")
    left.set_title(f"Dots: {seeds} seeds; bars: mean, 95 % interval")
    right.set_xlabel("cost after / before − 1 [%]")
    right.set_title("Costs: mean and 95 % interval")
    right.legend(loc="best")
    return figure
