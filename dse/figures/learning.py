"""Loss and accuracy of a plain training, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dse.figures.style import ACCENT, INK, PALETTE, QUIET, new_figure, styled

TRAIN, VALIDATION = PALETTE[0], PALETTE[1]


@styled
def draw_learning(epochs: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Figure:
    """Two panels: cross-entropy and accuracy, with the test accuracy as one point at the end.

    Args:
        epochs: Rows of epochs.csv.
        result: The row of result.csv.
    """
    figure, (losses, accuracies) = new_figure(8.0, 3.4, 1, 2)
    at = [row["epoch"] for row in epochs]
    for split, color in (("train", TRAIN), ("validation", VALIDATION)):
        losses.plot(at, [row[f"{split}_loss"] for row in epochs], ".-", color=color, label=split)
        values = [100 * row[f"{split}_accuracy"] for row in epochs]
        accuracies.plot(at, values, ".-", color=color, label=split)
    test, low, high = (100 * result[f"test_{name}"] for name in ("accuracy", "low", "high"))
    accuracies.errorbar(
        [at[-1]],
        [test],
        [[test - low], [high - test]],
        fmt="D",
        color=ACCENT,
        markersize=4,
        capsize=2,
        label=f"test {test:.2f} %",
    )
    losses.set_ylabel("Cross-entropy [nat]")
    accuracies.set_ylabel("Accuracy [%]")
    rates = losses.twinx()
    rates.plot(at, [row["learning_rate"] for row in epochs], color=QUIET, lw=0.8, ls=":")
    rates.set_ylabel("Learning rate (dotted)", color=QUIET)
    rates.grid(visible=False)
    rates.set_ylim(bottom=0)
    for axes in (losses, accuracies):
        axes.set_xlabel("Epoch", color=INK)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    losses.legend(loc="upper right")
    accuracies.legend(loc="lower right")
    return figure
