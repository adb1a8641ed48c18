"""What rounding changes under each relaxation: accuracy and costs, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dse.compare import paired_interval
from dse.figures.style import ACCENT, COSTS, PALETTE, QUIET, new_figure, styled
from dse.rounding_setting import COSTS as COLUMNS
from dse.rounding_study import gaps, groups

LINEAR = 5.0  # % of change up to which a linear axis shows everything

Rows = Sequence[Mapping[str, Any]]


@styled
def draw_rounding(rows: Rows) -> Figure:
    """Left: change of accuracy by rounding. Right: change of each cost. Dots are seeds.

    Args:
        rows: of `dse.rounding_study.run_cells`.
    """
    found = groups(rows)
    seeds = len({row["seed"] for row in rows})
    height = 1.8 + 0.32 * len(found)
    figure, (left, right) = new_figure(9.5, height, 1, 2, sharey=True)
    largest = 0.0
    for place, group in enumerate(found):
        values = 100 * gaps(rows, group, "accuracy")
        color = ACCENT if group == ("widths", "stochastic") else PALETTE[0]
        low, high = paired_interval(values)
        left.plot(values, np.full(len(values), place), "o", color=color, alpha=0.35, markersize=4)
        left.plot([low, high], [place, place], color=color, linewidth=1.5)
        left.plot(values.mean(), place, "|", color=color, markersize=12, markeredgewidth=2)
        for number, column in enumerate(COLUMNS):
            values = 100 * gaps(rows, group, column)
            low, high = paired_interval(values)
            largest = max(largest, abs(low), abs(high))
            at = place + 0.24 * (number - 1)
            color = PALETTE[number]
            label = COSTS[column][0] if place == 0 else None
            right.plot([low, high], [at, at], color=color, linewidth=1.2)
            right.plot(values.mean(), at, "o", color=color, markersize=4, label=label)
    if largest > LINEAR:  # rounding an assignment changes costs far more than rounding widths
        right.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in (left, right):
        axes.axvline(0.0, color=QUIET, linewidth=0.8)
        axes.grid(axis="y", visible=False)
    labels = [f"{kind}: {name.replace('_', ' ')}" for kind, name in found]
    left.set_yticks(range(len(found)), labels)
    left.set_ylim(len(found) - 0.5, -0.5)
    left.set_xlabel("accuracy after − before rounding [points]")
    left.set_title(f"Dots: {seeds} seeds; bars: mean, 95 % interval")
    right.set_xlabel("cost after / before − 1 [%]")
    right.set_title("Costs: mean and 95 % interval")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=len(COLUMNS))
    return figure
