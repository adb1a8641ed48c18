"""Rows as CSV: the tables that runs and studies write and read back, to the last digit."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costs.errors import InputError
from dse.rundir import write_atomically

Row = dict[str, Any]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; the columns are those of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table in one go."""
    write_atomically(path, as_csv(rows).encode())


def read_rows(path: Path) -> list[Row]:
    """The rows of a table, numbers as numbers; at least one.

    Raises:
        InputError: It is not there, or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError("not there: what writes it is not finished", file=path) from None
    if not rows or any(None in row or None in row.values() for row in rows):
        raise InputError("damaged: no whole row in it", file=path)
    return [{name: _number(cell) for name, cell in row.items()} for row in rows]


def _number(cell: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
