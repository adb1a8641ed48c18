"""How sure the accuracies of a front are."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dse.figures.style import ACCENT, INK, TEST, new_figure, styled
from dse.front_table import Front


@styled
def draw_accuracies(front: Front, chosen: str) -> Figure | None:
    """Each design's validation and test accuracy with their 95 % Wilson intervals.

    None where the intervals are not known.
    """
    splits = [
        split
        for split in ("validation", "test")
        if front.has(*(f"{split}_{end}" for end in ("accuracy", "low", "high")))
    ]
    if not splits:
        return None
    figure, (axes,) = new_figure(max(7.0, 0.34 * len(front) + 2.6), 3.4)
    place = np.arange(len(front))
    axes.axvspan(
        *(front.ids.index(chosen) + np.array([-0.42, 0.42])), color=ACCENT, alpha=0.1, lw=0
    )
    looks = {
        "validation": (-0.12, INK, "o", INK, "validation (designs were chosen on it)"),
        "test": (0.12, TEST, "D", "white", "test (read once)"),
    }
    for split in splits:
        shift, color, marker, face, label = looks[split]
        low, middle, high = (
            100 * np.array(front.values(f"{split}_{end}")) for end in ("low", "accuracy", "high")
        )
        axes.errorbar(
            place + shift, middle, yerr=[np.maximum(middle - low, 0), np.maximum(high - middle, 0)],
            fmt=marker, color=color, markerfacecolor=face, markersize=5.5, elinewidth=1.2,
            capsize=2.5, label=label,
        )  # fmt: skip
    axes.set_xticks(place, front.ids, rotation=90 if len(front) > 12 else 0)
    tick = axes.get_xticklabels()[front.ids.index(chosen)]
    tick.set_color(ACCENT)
    tick.set_fontweight("bold")
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("Accuracy [%]")
    axes.set_title("Accuracies with 95 % intervals, from least to most IO traffic")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
