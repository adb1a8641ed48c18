"""What rounding changed: gaps of accuracy and costs, paired by seed, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dse.compare import paired_interval
from dse.width_relaxations import COSTS

_WHEN = ("before", "after")


def gaps(rows: Sequence[Mapping[str, Any]], name: str, column: str) -> np.ndarray:
    """[seeds] what rounding changes: accuracy after - before, costs after / before - 1."""
    mine = sorted((r for r in rows if r["relaxation"] == name), key=lambda row: row["seed"])
    before, after = (np.array([r[f"{column}_{when}"] for r in mine]) for when in _WHEN)
    return after - before if column == "accuracy" else after / before - 1.0


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each relaxation: accuracies, and the gaps with the interval of the paired mean.

    Args:
        rows: of `run_cells`.
    """
    found = []
    for name in dict.fromkeys(row["relaxation"] for row in rows):
        mine = [row for row in rows if row["relaxation"] == name]
        accuracy = gaps(rows, name, "accuracy")
        low, high = paired_interval(accuracy)
        line = {"relaxation": name}
        line |= {c: float(np.mean([r[c] for r in mine])) for c in ("width_before", "width_after")}
        line |= {f"accuracy_{w}": float(np.mean([r[f"accuracy_{w}"] for r in mine])) for w in _WHEN}
        line |= {
            "accuracy_gap": float(accuracy.mean()),
            "gap_low": low,
            "gap_high": high,
            "accuracy_worst": float(accuracy.min()),
        }
        for cost in COSTS:
            change = gaps(rows, name, cost)
            line |= {
                f"{cost}_gap": float(change.mean()),
                f"{cost}_worst": float(change[np.abs(change).argmax()]),
            }
        found.append(line | {"seeds": len(mine)})
    return found
