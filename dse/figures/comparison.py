"""Networks side by side: accuracy, and what each costs as a share of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dse.figures.style import PALETTE, new_figure, styled, words

SHARES = (
    "parameter_ratio",
    "memory_ratio",
    "weight_dram_bytes",
    "macs_share_formula",
    "macs_share_measured",
    "traffic_share_formula",
    "traffic_share_measured",
    "energy_pj",
    "latency_s",
)
"""Columns that are drawn, where the table has them."""
PARTS = ("accuracy", "low", "high")


def heading(name: str) -> str:
    """A column's name as a reader says it."""
    return words(name).replace("dram", "DRAM").replace("macs", "MACs")


@styled
def draw_comparison(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy with 95 % intervals, and costs over those of the first row, a bar a network.

    Args:
        rows: Of result.csv.
    """
    shares = [name for name in SHARES if name in rows[0]]
    figure, (left, right) = new_figure(9.5, 3.6, 1, 2, width_ratios=[1, 2])
    places = np.arange(2)
    width = 0.8 / len(rows)
    for number, row in enumerate(rows):
        offset = (number - (len(rows) - 1) / 2) * width
        color = PALETTE[number % len(PALETTE)]
        heights, errors = [], []
        for split in ("validation", "test"):
            value, low, high = (100 * float(row[f"{split}_{part}"]) for part in PARTS)
            heights.append(value)
            errors.append([value - low, high - value])
        left.bar(
            places + offset,
            heights,
            width,
            color=color,
            yerr=np.array(errors).T,
            error_kw={"lw": 0.8},
            label=str(row["id"]),
        )
        values = [float(row[name]) / float(rows[0][name]) for name in shares]
        bars = right.bar(np.arange(len(shares)) + offset, values, width, color=color)
        shown = [f"{value:.3g}".removeprefix("0") for value in values]
        right.bar_label(bars, shown, fontsize=6.5, padding=1)
    left.set_xticks(places, ["validation", "test"])
    left.set_ylabel("accuracy [%]")
    lowest = min(100 * float(row[f"{s}_low"]) for row in rows for s in ("validation", "test"))
    left.set_ylim(max(0.0, lowest - 5.0), 100.0)
    left.set_title("Accuracy, 95 % intervals")
    labels = [heading(name).replace(" ", "\n") for name in shares]
    right.set_xticks(np.arange(len(shares)), labels, fontsize=7.5)
    right.set_ylabel(f"over {rows[0]['id']}")
    right.set_title("Costs")
    handles, names = left.get_legend_handles_labels()
    right.legend(handles, names, loc="upper right", fontsize=7.5)
    right.set_ylim(top=1.3)
    return figure
