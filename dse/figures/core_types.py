"""Figure of a choice of core types: each network's best core, and what few types save."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dse.core_types import Choice
from dse.figures.style import INK, PALETTE, QUIET, new_figure, styled

_GOALS = {"energy_pj": "Energy", "edp_pjs": "Energy-delay product"}


@styled
def draw_core_types(rows: Sequence[Choice]) -> Figure:
    """What every network saves with one, two, three.. core types, its best core beside it."""
    networks = list(dict.fromkeys(row.network for row in rows))
    counts = sorted({row.types for row in rows} - {1})
    figure, panels = new_figure(11.0, max(0.62 * len(networks) + 1.8, 4.0), 1, 2)
    y = np.arange(len(networks))
    height = 0.8 / (len(counts) + 1)
    for axes, (goal, title) in zip(panels, _GOALS.items(), strict=True):
        mine = {(r.types, r.network): r for r in rows if r.goal == goal}
        for i, count in enumerate(counts):
            saved = [mine[count, network].saved for network in networks]
            axes.barh(
                y + (i - len(counts) / 2) * height, saved, height, color=PALETTE[i],
                label=f"{count} core types",
            )  # fmt: skip
        first = [mine[counts[0] if counts else 1, network] for network in networks]
        axes.barh(
            y + len(counts) / 2 * height, [1 - r.best / r.single for r in first], height,
            color=QUIET, label="its own best core",
        )  # fmt: skip
        for at, row in zip(y, first, strict=True):
            axes.text(
                0.02, at - 0.47, row.best_core, fontsize=6.6, color=INK, va="center",
                transform=axes.get_yaxis_transform(), in_layout=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5}, zorder=0.8,
            )  # fmt: skip
        axes.set_yticks(y, networks)
        axes.set_ylim(len(networks) - 0.45, -0.62)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_title(title)
        axes.set_xlabel("saved against the best single core")
        axes.axvline(0.0, color=INK, lw=0.8, zorder=0.7)  # labels cover it
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
