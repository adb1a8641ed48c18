"""The phase diagram of bottlenecks: chosen ratio and energy saved, by link and MAC energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dse.break_even import LINE_RATIOS, break_even_mac_pj
from dse.figures.style import ACCENT, INK, new_figure, styled


@styled
def draw_break_even(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Two panels over the same axes, with the break-even lines of single pairs.

    Args:
        rows: of `dse.break_even.calc_cells`.
    """
    link = np.unique([row["link_pj_per_bit"] for row in rows])
    mac = np.unique([row["mac_pj"] for row in rows])
    place = {(row["mac_pj"], row["link_pj_per_bit"]): row for row in rows}
    figure, panels = new_figure(9.6, 4.5, 1, 2, sharey=True)
    for axes, column, label, options in (
        (panels[0], "ratio", "bottleneck ratio", {"cmap": "viridis", "norm": LogNorm(1.0)}),
        (panels[1], "saved", "energy saved [%]", {"cmap": "cividis", "vmin": 0.0}),
    ):
        values = np.array([[place[m, k][column] for k in link] for m in mac])
        if column == "saved":
            values = 100 * values
        mesh = axes.pcolormesh(link, mac, values, shading="nearest", **options)
        bar = figure.colorbar(mesh, ax=axes, label=label)
        if column == "ratio":
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
            bar.ax.yaxis.set_minor_locator(NullLocator())
        _lines(axes, link, mac, rows[0])
    panels[0].set_ylabel("energy of a MAC with its memory accesses [pJ]")
    panels[0].set_title("Ratio with the least energy")
    panels[1].set_title("Saved at equal predicted accuracy")
    line = Line2D([], [], color=ACCENT, label="one pair of ratio r breaks even; below it pays")
    figure.legend(handles=[line], loc="outside lower center")
    return figure


def _lines(axes: Axes, link: np.ndarray, mac: np.ndarray, row: Mapping[str, Any]) -> None:
    for ratio in LINE_RATIOS:
        edge = break_even_mac_pj(link, row["bits"], row["channels"], ratio)
        axes.plot(link, edge, color="white", linewidth=2.4)
        axes.plot(link, edge, color=ACCENT, linewidth=1.2)
        axes.annotate(
            f"r = {ratio}",
            (link[2], edge[2]),
            (0, 5),
            textcoords="offset points",
            color="white",
            fontsize=7.5,
            ha="right",
        )
    own = row["own_link_pj_per_bit"], row["own_mac_pj"]
    axes.plot(*own, "o", color="white", markeredgecolor=INK, markersize=6)
    axes.annotate("this chip", own, (6, 0), textcoords="offset points", color="white", fontsize=7.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(link[0], link[-1])
    axes.set_ylim(mac[0], mac[-1])
    axes.grid(visible=False)
    axes.set_xlabel("energy of a bit over a link [pJ]", color=INK)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator())
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
