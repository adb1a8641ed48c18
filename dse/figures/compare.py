"""The surface beside its baselines: hypervolumes by seed, and what accuracy a budget buys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dse.compare import reference_costs, reference_point, volumes
from dse.figures.style import ACCENT, COSTS, PALETTE, log_axis, new_figure, styled

Rows = Sequence[Mapping[str, Any]]
BANDS = ("surface", "independent 4", "independent 8x", "uniform", "sequential")
"""Methods of the right panel; all eight would hide each other."""


@styled
def draw_compare(rows: Rows) -> Figure:
    """Left: hypervolume of each method, a dot for each seed. Right: attainment bands.

    Args:
        rows: of `dse.compare.run_cells`, with `reference_io_bytes` and `reference_energy_pj`.
    """
    found = volumes(rows, reference_point(rows, reference_costs(rows)))
    methods = list(found)
    others = iter(color for color in PALETTE if color != ACCENT)
    colors = {method: ACCENT if method == "surface" else next(others) for method in methods}
    figure, (left, right) = new_figure(10.5, 4.2, 1, 2, width_ratios=[1.0, 1.25])
    for i, method in enumerate(methods):
        values = found[method]
        left.plot(values, np.full(len(values), i), ".", color=colors[method], markersize=7)
        left.plot([values.mean()] * 2, [i - 0.3, i + 0.3], color=colors[method], linewidth=2)
    left.set_yticks(range(len(methods)), methods)
    left.invert_yaxis()
    left.set_xlabel("hypervolume (test error, log bytes, log energy)")
    left.set_title("Dots: seeds; bars: means")
    left.grid(axis="y", visible=False)
    for method in methods:
        if method in BANDS:
            _attainment(right, rows, method, colors[method])
    right.set_xscale("log")
    log_axis(right.xaxis, [row["io_bytes"] for row in rows if row["kept"]], COSTS["io_bytes"])
    right.set_ylabel("best test accuracy [%]")
    right.set_title("Within a traffic budget: median and range of seeds")
    right.legend(loc="lower right")
    return figure


def _attainment(axes: Axes, rows: Rows, method: str, color: str) -> None:
    mine = [row for row in rows if row["method"] == method and row["kept"]]
    seeds = sorted({row["seed"] for row in mine})
    low, high = (f([row["io_bytes"] for row in rows if row["kept"]]) for f in (min, max))
    grid = np.geomspace(low, high, 400)
    curves = np.full((len(seeds), len(grid)), np.nan)
    for i, seed in enumerate(seeds):
        for row in mine:
            if row["seed"] == seed:
                within = grid >= row["io_bytes"] * (1 - 1e-9)
                curves[i, within] = np.fmax(curves[i, within], 100 * row["test_accuracy"])
    whole = ~np.isnan(curves).any(axis=0)
    if not whole.any():
        return
    axes.fill_between(
        grid[whole],
        curves[:, whole].min(axis=0),
        curves[:, whole].max(axis=0),
        color=color,
        alpha=0.12,
        linewidth=0,
        step="post",
    )
    axes.step(
        grid[whole],
        np.median(curves[:, whole], axis=0),
        where="post",
        color=color,
        label=method,
    )
