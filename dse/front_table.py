"""A run's ``front.csv`` read back: one row per discrete design, columns found by name.

Out of scope: computing anything in the table (selection does) and the designs' own YAML files.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from costs.errors import InputError

Value = float | int | str
Row = dict[str, Value]

REQUIRED = ("id", "validation_accuracy", "io_bytes", "energy_pj")
# A stacked bar reads best with arithmetic at the bottom and the outside world on top.
_ENERGY_FIRST = ("mac",)
_ENERGY_LAST = ("dram", "link", "idle")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Front:
    """The designs of one run, sorted as the file is (by ``io_bytes``).

    Attributes:
        rows: One dict per design; numbers are int or float, names are str, blanks are NaN.
        columns: The names of the columns, in the file's order.
    """

    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        """Number of designs."""
        return len(self.rows)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The designs' ids, in the file's order."""
        return tuple(str(row["id"]) for row in self.rows)

    @cached_property
    def energy_parts(self) -> dict[str, str]:
        """Part of the energy -> its column: MACs, memory levels, then DRAM, links, idle power."""
        parts = {
            name.removeprefix("energy_").removesuffix("_pj"): name
            for name in self.columns
            if name.startswith("energy_") and name.endswith("_pj") and name != "energy_pj"
        }
        levels = [part for part in parts if part not in (*_ENERGY_FIRST, *_ENERGY_LAST)]
        order = [*_ENERGY_FIRST, *levels, *_ENERGY_LAST]
        return {part: parts[part] for part in order if part in parts}

    @cached_property
    def boundaries(self) -> tuple[str, ...]:
        """Names of the boundaries that carry a bottleneck width."""
        return self._after("width_")

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are assigned to a core."""
        return self._after("core_")

    @cached_property
    def cores(self) -> tuple[str, ...]:
        """Names of the cores used by any design, sorted."""
        return tuple(
            sorted({str(row[f"core_{layer}"]) for row in self.rows for layer in self.layers})
        )

    @cached_property
    def knobs(self) -> tuple[str, ...]:
        """Hardware knobs, each as ``<core type>_<knob>``."""
        return self._after("knob_")

    @cached_property
    def relaxed(self) -> tuple[str, ...]:
        """Columns that have a value just before rounding beside them."""
        return tuple(name for name in self._after("relaxed_") if name in self.columns)

    def values(self, column: str) -> list[float]:
        """One column as floats [the column's unit]; NaN where the table has none."""
        return [number(row, column) for row in self.rows]

    def has(self, *columns: str) -> bool:
        """True where every named column is in the table."""
        return all(column in self.columns for column in columns)

    def row(self, design_id: str) -> Row:
        """The row of one design."""
        return self.rows[self.ids.index(design_id)]

    def _after(self, prefix: str) -> tuple[str, ...]:
        return tuple(c.removeprefix(prefix) for c in self.columns if c.startswith(prefix))


def number(row: Row, column: str) -> float:
    """One cell as a float; NaN where it is absent, blank or a word."""
    value = row.get(column, math.nan)
    return math.nan if isinstance(value, str) else float(value)


def answer_words(answer: Row) -> str:
    """The design that answers a request (a row of ``answers.csv``), or that none was found."""
    if answer["id"]:
        return str(answer["id"])
    return f"no design that was found keeps it, the nearest has {answer['nearest']}"


def knob_size(knob: str, value: float) -> str:
    """A knob's size with its unit: PEs of an array or side, bytes of a buffer, bits per cycle."""
    if math.isnan(value):
        return "not known"
    if knob.endswith("array"):
        return f"side {value:.0f}"  # of a square, or the first of one that is not
    if knob.endswith("buffer"):
        return f"{value / 1024:g} KiB" if value >= 1024 else f"{value:g} B"
    return f"{value:g} bit" if knob.endswith("link_width") else f"{value:g}"


def make_front(rows: Iterable[Row]) -> Front:
    """A front from rows in memory; the columns are those of the first row."""
    kept = tuple(rows)
    return Front(kept, tuple(kept[0]) if kept else ())


def read_front(path: str | Path) -> Front:
    """Read ``front.csv``; a missing, empty or truncated file is an ``InputError``."""
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            raw = list(reader)
    except FileNotFoundError as error:
        raise InputError(
            "there is no front yet",
            file=path,
            allowed="a run directory whose selection has finished",
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as CSV: {error}", file=path) from error
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise InputError("a column is missing", file=path, key=missing[0], allowed=REQUIRED)
    if not raw:
        raise InputError("the front has no designs", file=path)
    for line, cells in enumerate(raw, start=2):
        if None in cells or None in cells.values():
            raise InputError("has another number of cells than the heading", file=path, line=line)
    rows = tuple({name: _parsed(name, cell) for name, cell in cells.items()} for cells in raw)
    ids = [str(row["id"]) for row in rows]
    for line, name in enumerate(ids, start=2):
        if not _SAFE_ID.fullmatch(name):  # it becomes part of a path
            raise InputError(
                file=path,
                line=line,
                key="id",
                value=name,
                allowed="letters, digits, . _ -, at most 80",
            )
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise InputError("two rows have the same id", file=path, key="id", value=twice)
    for line, row in enumerate(rows, start=2):
        for name in REQUIRED[1:]:
            if not math.isfinite(number(row, name)):
                raise InputError(
                    "not a finite number", file=path, key=name, value=row[name], line=line
                )
    return Front(rows, columns)


def _parsed(column: str, cell: str) -> Value:
    if column == "id" or column.startswith("core_"):
        return cell
    text = cell.strip()
    if not text:
        return math.nan
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return cell
