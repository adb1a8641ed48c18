"""What a person sees: the only module that prints.

Results go to stdout (a table, or JSON for a program), progress and warnings to stderr: one updating
line on a terminal, plain lines every few seconds elsewhere.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_Item = TypeVar("_Item")
_REFRESH_S = 0.1
_PLAIN_EVERY_S = 5.0
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_PICO_PREFIXES = ((1e12, ""), (1e9, "m"), (1e6, "u"), (1e3, "n"), (1.0, "p"))


class Monitor:
    """Shows a run while it works; a `dse.runner.View`."""

    def __init__(self, log: Callable[[str], None] | None = None) -> None:
        """Begin to watch.

        Args:
            log: Gets every line that is worth keeping.
        """
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._log = log
        self._live: Live | None = None
        self._head = ""
        self._steps = 0
        self._shown_s = self._kept_s = -math.inf

    def phase(self, name: str, number: int, of: int, steps: int) -> None:
        """A phase begins; its first step compiles."""
        self._head, self._steps = f"{number}/{of} {name}", steps
        self._kept_s = -math.inf
        line = f"{self._head}: {steps:,} steps, preparing and compiling"
        self.say(line)
        self._update(line)

    def progress(self, step: int, metrics: Mapping[str, float], seconds_left: float) -> None:
        """A step was completed."""
        now_s, last = time.monotonic(), step == self._steps
        keep = last or now_s - self._kept_s >= _PLAIN_EVERY_S
        if not keep and now_s - self._shown_s < _REFRESH_S:
            return
        self._shown_s = now_s
        left = "done" if last else f"{format_seconds(seconds_left)} left"
        shown = "".join(
            f"  {name.removesuffix(unit_of(name))} {format_value(name, value)}"
            for name, value in metrics.items()
        )
        line = f"{self._head}: step {step:,}/{self._steps:,}  {left}{shown}"
        self._update(line)
        if keep:
            self._kept_s = now_s
            if last or not self._console.is_terminal:
                self.say(line)
            elif self._log is not None:
                self._log(line)

    def say(self, text: str) -> None:
        """A line worth keeping, above the updating one."""
        self._console.print(Text(text))
        if self._log is not None:
            self._log(text)

    def close(self) -> None:
        """Give the terminal back as it was; may be called twice and from any thread."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _update(self, line: str) -> None:
        """Make a line the updating one; nothing where there is no terminal."""
        if not self._console.is_terminal:
            return
        live = self._live
        if live is None:
            live = Live(console=self._console, auto_refresh=False, transient=True)
            live.start()
            self._live = live
        live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)


def follow(items: Sequence[_Item], what: str) -> Iterable[_Item]:
    """The items one after another, with a bar on a terminal while they are worked on."""
    from rich.progress import track  # takes a while to import

    console = Console(stderr=True)
    return track(items, what, console=console, transient=True, disable=not console.is_terminal)


def print_json(data: Any) -> None:
    """Data for a program, on stdout: JSON, numbers in full precision."""
    json.dump(data, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def print_line(text: str) -> None:
    """A line for a person, on stdout."""
    Console(highlight=False, soft_wrap=True).print(Text(text))


def print_error(text: str) -> None:
    """A line about what went wrong, on stderr."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"error: {text}", "red"))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None
) -> None:
    """A table for a person, on stdout; numbers are shortened with their column's unit in mind.

    Args:
        columns: Headings; one that ends in a unit (`energy_pj`) decides how its numbers look.
        rows: Cells in the order of `columns`.
        title: Printed above.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    rows = [list(row) for row in rows]
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        cells = [format_value(column, cell) for column, cell in zip(columns, row, strict=True)]
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(highlight=False)
    if not console.is_terminal:  # a file has no width to fit into
        console = Console(highlight=False, width=max(80, _natural_width(table)))
    console.print(table)


def print_costs(costs: Mapping[str, float]) -> None:
    """Costs for a person, and in full as `front.csv` has them."""
    rows = [(name, format_value(name, value), repr(value)) for name, value in costs.items()]
    print_table(("cost", "value", "in full"), rows)


def format_value(name: str, value: Any) -> str:
    """A value as short as a person wants it, in the unit its name ends in."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    unit = unit_of(name)
    if unit == "_bytes":
        return _with_prefix(value, _PREFIXES) + "B"
    if unit == "_pj":
        return _with_prefix(value, _PICO_PREFIXES) + "J"
    if unit == "_s":
        return _with_prefix(value * 1e12, _PICO_PREFIXES) + "s"
    if "accuracy" in name and 0.0 <= value <= 1.0:
        return f"{100.0 * value:.2f} %"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def unit_of(name: str) -> str:
    """The ending of a name that is a unit which `format_value` prints, or nothing."""
    if name.endswith("_per_s"):
        return ""
    return next((unit for unit in ("_bytes", "_pj", "_s") if name.endswith(unit)), "")


def format_seconds(seconds: float) -> str:
    """A duration as `1:02:03` or `2:03`; a dash where it is not known."""
    if not math.isfinite(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _with_prefix(value: float, prefixes: Sequence[tuple[float, str]]) -> str:
    for scale, prefix in prefixes:
        if abs(value) >= scale:
            return f"{value / scale:.3g} {prefix}"
    return f"{value / prefixes[-1][0]:.3g} {prefixes[-1][1]}"


def _natural_width(table: Table) -> int:
    wide = Console(width=10_000, highlight=False)
    return wide.measure(table).maximum
