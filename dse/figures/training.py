"""Training curves of a run, phase by phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from dse.figures.style import COSTS, PALETTE, new_figure, styled

# Their steps are designs that are measured one after the other, not a training.
_MEASURING = ("predictor", "selection", "front")


@styled
def draw_training(records: Sequence[Mapping[str, object]]) -> Figure | None:
    """Losses, accuracies and costs of each phase as logged; thin is raw, thick a moving mean.

    Args:
        records: Lines of ``metrics.jsonl``.

    Returns:
        The figure, or None where no phase logged two steps.
    """
    phases: dict[str, list[Mapping[str, object]]] = {}
    for record in records:
        phases.setdefault(str(record.get("phase")), []).append(record)
    phases = {n: lines for n, lines in phases.items() if len(lines) > 1 and n not in _MEASURING}
    families: dict[str, Callable[[str], bool]] = {
        "Loss": lambda key: "loss" in key or key in ("task", "objective"),
        "Accuracy [%]": lambda key: "accuracy" in key,
        "Cost / first logged": lambda key: key.removesuffix("_mean") in COSTS,
    }
    keys = {
        family: {
            name: [k for k in _metric_keys(lines) if wanted(k)][:5]
            for name, lines in phases.items()
        }
        for family, wanted in families.items()
    }
    families = {family: wanted for family, wanted in families.items() if any(keys[family].values())}
    if not phases or not families:
        return None
    figure, panels = new_figure(
        max(7.0, 3.2 * len(phases)), 2.0 * len(families) + 0.5, len(families), len(phases)
    )
    grid = np.array(panels, dtype=object).reshape(len(families), len(phases))
    for i, family in enumerate(families):
        for j, (phase, lines) in enumerate(phases.items()):
            axes = grid[i, j]
            if not keys[family][phase]:
                axes.set_axis_off()
                continue
            for color, key in zip(PALETTE, keys[family][phase], strict=False):
                pairs = [(r["step"], r[key]) for r in lines if _finite(r.get(key))]
                steps, values = np.array(pairs, dtype=float).T
                values = values * 100 if "Accuracy" in family else values
                values = values / values[0] if "first" in family and values[0] else values
                axes.plot(steps, values, color=color, lw=0.7, alpha=0.3)
                axes.plot(steps, _moving_mean(values), color=color, lw=1.7, label=key)
            if "first" in family:
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(MaxNLocator(5))
                axes.yaxis.set_minor_locator(NullLocator())
                axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.2g}"))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.legend(loc="best", fontsize=7.5, handlelength=1.2)
            if not any(keys[family][other] for other in list(phases)[:j]):
                axes.set_ylabel(family)
    for j, phase in enumerate(phases):
        used = [axes for axes in grid[:, j] if axes.axison]
        if used:
            used[0].set_title(phase)
            used[-1].set_xlabel("step")
    return figure


def _metric_keys(lines: Sequence[Mapping[str, object]]) -> list[str]:
    keys = dict.fromkeys(key for line in lines for key in line)
    return [k for k in keys if k not in ("phase", "step") and any(_finite(r.get(k)) for r in lines)]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _moving_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over about a twentieth of the curve, shorter at its ends."""
    half = max(1, len(values) // 40)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low, high = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    return (sums[high] - sums[low]) / (high - low)
