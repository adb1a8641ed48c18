"""result.csv of a run that compares a few networks: one row each, accuracies and costs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dse.data import DataSet, Split
from dse.front import wilson
from dse.rundir import RESULT_FILE, write_atomically
from dse.trainable import Params, Trainable

Row = dict[str, Any]


def accuracy_columns(
    net: Trainable, params: Params, rest: Any, calibration: np.ndarray, data: DataSet
) -> Row:
    """Accuracy with its Wilson interval on validation and test pictures."""
    row: Row = {}
    for name, split in (("validation", data.validation), ("test", data.test)):
        correct, _ = net.evaluate(params, rest, calibration, split)
        row |= interval_columns(name, correct, split)
    return row


def interval_columns(name: str, correct: int, split: Split) -> Row:
    """Accuracy, its Wilson interval at 95 %, and the number of pictures."""
    low, high = wilson(correct, len(split))
    return {
        f"{name}_accuracy": correct / len(split),
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_pictures": len(split),
    }


def write_rows(run_dir: Path, rows: Sequence[Row], name: str = RESULT_FILE) -> None:
    """Write a table; the columns are those of the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in row.items()})
    write_atomically(run_dir / name, text.getvalue().encode())
