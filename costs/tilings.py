"""Tilings of each dimension in all orders of storage positions, kept between layers.

They follow from the bounds, the kind of core and its largest sizes alone, so that the layers of a
network and the widths of a table share them. Orders in which a dimension finds the same stretches,
axes and anchors share their rows; few rows are listed in full and kept, many (`LISTED`) are left to
`costs.search`, which lists them group by group and keeps those that its bound allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from costs.line import Line, Tally
from costs.orders import Structure, list_orders
from costs.pareto import find_nondominated
from costs.parts import EFFORT, Part, simple_part, stack_parts
from costs.window_parts import window_part

LISTED = 100_000
"""Tilings of a dimension in all orders up to which they are listed in full."""


@dataclass(frozen=True)
class Group:
    """The orders in which the tilings of some dimensions are the same.

    Attributes:
        orders: indices into `list_orders`.
        lines: the tilings of each dimension in the first of them.
    """

    orders: np.ndarray
    lines: tuple[Line, ...]

    @property
    def size(self) -> int:
        """Combinations of tilings."""
        size = 1
        for line in self.lines:
            size *= len(line)
        return size


@dataclass(frozen=True)
class Choice:
    """What is to be chosen: the tiling of one dimension, or of the two of a sliding window.

    Attributes:
        dims: the dimensions.
        bounds: their bounds.
        pace: stride and dilation of a window.
    """

    dims: tuple[str, ...]
    bounds: tuple[int, ...]
    pace: tuple[int, int] = (1, 1)

    @property
    def slides(self) -> bool:
        """Whether it is a window of more than one row."""
        return len(self.dims) > 1 and self.bounds[1] > 1


@lru_cache(maxsize=32)
def list_groups(
    structure: Structure, sizes: tuple[int, ...], choice: Choice, coarse: bool
) -> tuple[Group, ...]:
    """The groups of orders with the tilings of a choice."""
    axes = {a[0]: n for a, n in zip(structure.axes, sizes, strict=True)}
    tallies: list[Tally] = [{} for _ in choice.dims]
    alike: dict[object, tuple[list[int], tuple[Line, ...]]] = {}
    for number, order in enumerate(list_orders(structure)):
        lines = tuple(
            Line(structure, order, d, n, axes, slides=choice.slides, coarse=coarse, tally=tally)
            for d, n, tally in zip(choice.dims, choice.bounds, tallies, strict=True)
        )
        alike.setdefault(tuple(line.key for line in lines), ([], lines))[0].append(number)
    return tuple(Group(np.array(orders), lines) for orders, lines in alike.values())


def make_part(
    structure: Structure, choice: Choice, group: Group, limits: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Part:  # fmt: skip
    """Rows of a choice in a group of orders; `order` is that of the first.

    Args:
        structure: the kind of core.
        choice: the dimensions.
        group: the orders.
        limits: largest tiles, then largest extents, of any hardware.
        rows: tilings of each dimension of a window to combine; all by default.
    """
    order = group.lines[0].order
    if len(choice.dims) == 1:
        part = simple_part(structure, order, group.lines[0])
        fit = (part.values[:, structure.first_tile :] <= limits).all(axis=1)
        return part.take(np.flatnonzero(fit))
    out, kernel = group.lines
    return window_part(structure, order, out, kernel, choice.pace, limits, rows)


@lru_cache(maxsize=4096)
def list_part(
    structure: Structure, sizes: tuple[int, ...], most_words: tuple[float, ...], choice: Choice,
    coarse: bool,
) -> Part:  # fmt: skip
    """Rows of a choice in all orders, without dominated ones."""
    limits = np.array([*most_words, *sizes])
    groups = list_groups(structure, sizes, choice, coarse)
    pieces = []
    for group in groups:
        kept = drop_dominated(structure, make_part(structure, choice, group, limits))
        pieces += [in_order(kept, int(number)) for number in group.orders]
    return join_orders(pieces, count_tilings(groups))


def drop_dominated(structure: Structure, part: Part, kind: np.ndarray | None = None) -> Part:
    """The rows of one order that no other, of the same kind, is at least as good as."""
    values = part.values.copy()
    values[:, structure.first_held : structure.first_tile] *= -1
    keys = np.concatenate([values, part.flagged > 0], axis=1)
    if kind is None:
        return part.take(find_nondominated(keys, EFFORT))
    order = np.argsort(kind, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)
    kept = [rows[find_nondominated(keys[rows], EFFORT)] for rows in groups if len(rows)]
    return part.take(np.sort(np.concatenate([order[:0], *kept])))


def in_order(part: Part, number: int) -> Part:
    """The same rows as those of another order."""
    return replace(part, order=np.full(len(part), number))


def join_orders(pieces: list[Part], totals: np.ndarray) -> Part:
    """Rows of several orders, rising."""
    pieces = sorted(pieces, key=lambda part: int(part.order[0]) if len(part) else -1)
    return replace(stack_parts(pieces), totals=totals)


def count_tilings(groups: Sequence[Group]) -> np.ndarray:
    """Tilings of a choice in every order, `(orders,)` integers of any size."""
    totals = np.zeros(1 + max(int(group.orders.max()) for group in groups), object)
    for group in groups:
        totals[group.orders] = group.size
    return totals
