"""Accuracy against bottleneck ratio and against bytes moved, for networks of several depths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dse.bottleneck_trends import accuracies, networks_of, slopes
from dse.compare import paired_interval
from dse.figures.style import COSTS, PALETTE, QUIET, log_axis, new_figure, styled

Rows = Sequence[Mapping[str, Any]]


@styled
def draw_bottlenecks(rows: Rows) -> Figure:
    """Left: accuracy by ratio. Middle: by bytes on links, the surface over it. Right: slopes.

    Args:
        rows: of `dse.bottleneck_study`.
    """
    networks = networks_of(rows)
    figure, (left, middle, right) = new_figure(11.5, 3.9, 1, 3, width_ratios=[1.0, 1.15, 0.7])
    moved = []
    for number, network in enumerate(networks):
        ratios, by_seed = accuracies(rows, network)
        values = np.array([*by_seed.values()])
        color, label = PALETTE[number % 5], network.replace("_", " ")
        bounds = np.array([paired_interval(column) for column in values.T])
        means = values.mean(axis=0)
        shift = 2.0 ** (0.09 * (number - (len(networks) - 1) / 2))  # so that bars stand apart
        errors = np.abs(bounds.T - means)
        left.errorbar(ratios * shift, means, errors, color=color, capsize=2, label=label)
        left.plot(ratios * shift, values.T, ".", color=color, alpha=0.4)
        mine = [r for r in rows if r["method"] == "ratio" and r["network"] == network]
        by_ratio = {float(row["ratio"]): row["link_bytes"] for row in mine}
        x = np.array([by_ratio[ratio] for ratio in ratios])
        moved += list(x)
        middle.errorbar(x, means, errors, color=color, marker="o", markersize=4, capsize=2)
        given = np.array([*slopes(rows, network).values()])
        right.plot(np.full(len(given), number), given, "o", color=color, alpha=0.35, markersize=4)
        right.plot([number] * 2, paired_interval(given), color=color, linewidth=1.5)
        right.plot(number, given.mean(), "_", color=color, markersize=12, markeredgewidth=2)
    left.set_xscale("log", base=2)
    ratios = sorted({float(row["ratio"]) for row in rows if row["method"] == "ratio"})
    left.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    left.set_xlabel("bottleneck ratio at every cut")
    left.set_ylabel("test accuracy [%]")
    left.set_title("Dots: seeds; bars: mean, 95 %")
    left.legend(loc="best")
    for number, network in enumerate(networks):
        front = [r for r in rows if r["method"] == "surface" and r["network"] == network]
        x = [row["link_bytes"] for row in front]
        y = [100 * row["test_accuracy"] for row in front]
        if front:
            name = f"surface, {network.replace('_', ' ')}"
            color = PALETTE[number % 5]
            middle.plot(x, y, "D", color=color, markeredgecolor="black", markersize=5, label=name)
            middle.legend(loc="lower right")
            moved += [value for value in x if value > 0]
    middle.set_xscale("log")
    log_axis(middle.xaxis, moved, COSTS["link_bytes"])
    middle.set_ylabel("test accuracy [%]")
    middle.set_title("Against bytes between cores")
    right.axhline(0.0, color=QUIET, linewidth=0.8)
    right.set_xticks(range(len(networks)), [name.rpartition("_")[2] for name in networks])
    right.set_xlim(-0.6, len(networks) - 0.4)
    right.grid(axis="x", visible=False)
    right.set_ylabel("points per doubling of the ratio")
    right.set_title("Slope and 95 % interval")
    return figure
