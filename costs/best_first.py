"""Tilings for a single core, order after order, the one with the lowest bound first.

Where a dimension has many tilings they are not listed in all orders at once. The rows of each
dimension of a window by itself bound what an order can reach (`costs.tiers`); orders are then
opened by rising bound, their windows listed from what is left of both lines, and a mapping is
looked for by `costs.descent`, so that most orders are never opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from costs.descent import join_promising
from costs.line import Line
from costs.parts import Part, no_rows
from costs.ranges import input_columns
from costs.tilings import (
    Group,
    count_tilings,
    drop_dominated,
    in_order,
    join_orders,
    make_part,
)
from costs.window_parts import CARRIED, window_line_part, window_part

if TYPE_CHECKING:
    from costs.search import Search


LUCK = 4
"""Orders in a row in which no better mapping was found, after which one looks less closely."""


class BestFirst:
    """The orders of one search, opened by rising bound."""

    def __init__(self, search: Search, small: dict[int, Part], big: dict[int, tuple[Group, ...]]):
        """Nothing is listed yet.

        Args:
            search: the search.
            small: rows of choices with few tilings, by number of the choice.
            big: groups of orders of those with many.
        """
        self.search, self.small = search, small
        self.group = {
            (i, int(order)): group
            for i, groups in big.items()
            for group in groups
            for order in group.orders
        }
        self.totals = {i: part.totals for i, part in small.items()}
        self.totals |= {i: count_tilings(groups) for i, groups in big.items()}
        self.luck = LUCK
        self.limits = np.array([*search.most_words, *search.sizes])

    def lines(self, number: int) -> list[tuple[Line, ...]]:
        """Tilings of every dimension of every choice in an order."""
        return [self.group[i, number].lines for i in range(len(self.search.choices))]

    def list_parts(self, orders: np.ndarray) -> list[Part]:
        """Rows of every choice in the orders that may hold the optimum."""
        search = self.search
        search.floors[:] = np.inf
        search.floors[orders] = 0.0
        # where the first look found cheap mappings there may be cheaper ones
        opened = {}
        for number in map(int, np.argsort(search.reached, kind="stable")):
            if not self.luck or not np.isfinite(search.reached[number]):
                break
            if search.floors[number] <= search.limits[0]:
                opened[number] = self._open(number)
        self.luck = LUCK
        for number in map(int, orders):
            if number not in opened:
                self.set_floor(number)
        for number in map(int, np.argsort(search.floors, kind="stable")):
            if number not in opened and search.floors[number] <= search.limits[0]:
                opened[number] = self._open(number)
        return [
            join_orders(
                [
                    no_rows(search.structure, choice.dims),
                    *(parts[i] for parts in opened.values() if parts),
                ],
                self.totals[i],
            )
            for i, choice in enumerate(search.choices)
        ]

    def set_floor(self, number: int) -> None:
        """Bounds all mappings of an order."""
        lines = self._list_lines(number)
        floor = np.inf
        if all(map(len, lines)):
            tiers, factor = self.search.tiers(lines)
            bounds = tiers.bound(max(range(len(lines)), key=lambda i: len(lines[i])))
            floor = max(tiers.floor, float(bounds.min())) * factor
        self.search.floors[number] = floor

    def _list_lines(self, number: int) -> list[Part]:
        """Rows of every dimension of an order by itself, those of small choices as they are."""
        search = self.search
        parts = []
        for i, choice in enumerate(search.choices):
            if i in self.small:
                part = self.small[i]
                parts.append(part.take(np.flatnonzero(part.order == number)))
                continue
            group = self.group[i, number]
            if len(choice.dims) == 1:
                parts.append(make_part(search.structure, choice, group, self.limits))
                continue
            order = group.lines[0].order
            for mine, other in ((0, 1), (1, 0)):
                pace = (choice.pace[mine], choice.pace[other])
                line, beside = group.lines[mine], group.lines[other]
                part = window_line_part(search.structure, order, line, beside, pace, self.limits)
                if mine:
                    # what inputs take is the other line's to bound: tiles of both add up
                    first = search.structure.first_tile
                    tiles = [
                        first + n for n, (o, _) in enumerate(search.structure.anchors) if o == "I"
                    ]
                    part.values[:, [*input_columns(search.structure), *tiles]] = 1.0
                parts.append(part)
        return self._trim([in_order(part, number) for part in parts])

    def _trim(self, parts: list[Part]) -> list[Part]:
        """Rows of one order that the bound leaves with the least multipliers of the others."""
        for _ in range(2):
            if not all(map(len, parts)):
                return parts
            ranges = [(part.values.min(axis=0), part.values.max(axis=0)) for part in parts]
            for i, part in enumerate(parts):
                least = np.prod([low for j, (low, _) in enumerate(ranges) if j != i], axis=0)
                most = np.prod([high for j, (_, high) in enumerate(ranges) if j != i], axis=0)
                parts[i] = part.take(
                    self.search.find_alive(part.values * least, part.values * most)[0]
                )
        return parts

    def _kinds(self, i: int, number: int, part: Part) -> np.ndarray:
        """What must be alike in the rows of a choice that are compared."""
        # a row whose overlap is carried further out asks more of the other dimensions
        carried = np.where(part.flagged >= CARRIED, part.flagged, 0)
        kinds = np.unique(carried, axis=0, return_inverse=True)[1].ravel()
        for place, line in enumerate(self.group[i, number].lines):
            kind = line.number_kinds(part.choice[:, place])
            kinds = kinds * (kind.max(initial=0) + 1) + kind
        return kinds

    def _open(self, number: int) -> list[Part]:
        """The rows of an order that may be part of the optimum; nothing if there are none."""
        parts = self.narrow(number)
        if not parts:
            self.search.floors[number] = np.inf
        return parts

    def narrow(self, number: int) -> list[Part]:
        """The rows of an order by the bounds of lines first, then of windows; nothing as above."""
        search = self.search
        lines, _ = search.narrow_order(self._list_lines(number))
        if not lines:
            return []
        parts: list[Part] = []
        for i, choice in enumerate(search.choices):
            if i in self.small or len(choice.dims) == 1:
                parts.append(lines.pop(0))
                continue
            out, kernel = lines.pop(0), lines.pop(0)
            group = self.group[i, number]
            rows = (out.choice[:, 0], kernel.choice[:, 0])
            mine, beside = group.lines
            part = window_part(
                search.structure, mine.order, mine, beside, choice.pace, self.limits, rows
            )
            parts.append(in_order(part, number))
        if search.structure.lean:
            parts = [
                drop_dominated(search.structure, part, self._kinds(i, number, part))
                for i, part in enumerate(parts)
            ]
        parts, _ = search.narrow_order(self._trim(parts))
        if parts and search.seeks:
            before = search.incumbent[0]
            search.descend(parts)
            if self.luck:
                for joined in join_promising(parts, search.claims):
                    search.descend(joined)
            self.luck = LUCK if search.incumbent[0] < before else max(0, self.luck - 1)
            parts, _ = search.narrow_order(parts)
        return parts
