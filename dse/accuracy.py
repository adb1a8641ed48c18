"""Accuracies with their intervals, as every table of a run has them."""

from __future__ import annotations

import numpy as np
from scipy.stats import binomtest

from dse.csv_rows import Row
from dse.data import DataSet, Split
from dse.trainable import Params, Trainable

CONFIDENCE = 0.95


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of an accuracy."""
    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def interval_columns(name: str, correct: int, split: Split) -> Row:
    """Accuracy, its interval, correct predictions and pictures of one split."""
    low, high = wilson(correct, len(split))
    return {
        f"{name}_accuracy": correct / len(split),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_correct": correct,
        f"{name}_pictures": len(split),
    }


def accuracy_columns(
    net: Trainable, params: Params, rest: object, calibration: np.ndarray, data: DataSet
) -> Row:
    """These on validation and test pictures."""
    row: Row = {}
    for name, split in (("validation", data.validation), ("test", data.test)):
        correct, _ = net.evaluate(params, rest, calibration, split)  # pyright: ignore[reportArgumentType]
        row |= interval_columns(name, correct, split)
    return row
