"""Mappings of one order whose real count may fall short of equation (1), by where and how it does.

A tail hides words of a tile from the innermost loop outside it that indexes its operand; that loop
is of one dimension, so that at every anchor the tails of one dimension count, or none. An input
tile may keep overlaps over outer loops of one window alone. Which of these it is, is branched on
anchor by anchor: rows of the dimension named must have the effect there, all others count by (1).
Mappings without any are left out, for none of them really costs less than the best by (1)
(docs/theory/mapping_space.md, The real count).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from costs.layer import RELEVANT
from costs.line import Line
from costs.orders import Order
from costs.parts import Part
from costs.search import OutOfTime, Search
from costs.tiers import find_different
from costs.tilings import drop_dominated, join_orders
from costs.window_parts import CARRIED

Parts = list[Part]


@dataclass(frozen=True, order=True)
class Node:
    """A case of an order that is not branched on yet.

    Attributes:
        floor: objective that no mapping of it undercuts.
        number: of those opened before.
        parts: its rows.
        anchors: those at which nothing is assumed yet.
        short: whether something falls short at one of the others.
    """

    floor: float
    number: int
    parts: Parts = field(compare=False)
    anchors: tuple[int, ...] = field(compare=False)
    short: bool = field(compare=False)


class Cases:
    """The cases of one order: what falls short at every anchor."""

    def __init__(self, search: Search, lines: Sequence[Sequence[Line]]):
        """Nothing is assumed yet.

        Args:
            search: the search, in the view "split".
            lines: tilings of the dimensions of every choice.
        """
        self.search, self.lines = search, lines
        self.open: list[Node] = []
        self.opened = 0

    def find_floor(self, parts: Parts) -> tuple[float, bool]:
        """What no mapping that falls short of (1) undercuts; infinite if none is left.

        Args:
            parts: rows of every choice.

        Returns:
            the objective, and whether all cases were looked at that are less.
        """
        search, structure = self.search, self.search.structure
        parents = {(o, child): parent for o, parent, child in structure.edges}
        levels = search.cost.levels
        # traffic of outer levels costs most
        anchors = sorted(
            range(len(structure.anchors)),
            key=lambda a: levels.index(parents[structure.anchors[a]]),
        )
        reached, floor = math.inf, 0.0
        try:
            self._add(parts, anchors, short=False)
            while self.open and self.open[0].floor < reached:
                node = heapq.heappop(self.open)
                floor = node.floor
                if not self._branch(node):
                    reached = min(reached, self._join(node.parts))
        except OutOfTime:
            return min(floor, reached), False
        return reached, True

    def _add(
        self, parts: Parts, anchors: Sequence[int], *, short: bool, floor: float = 0.0
    ) -> None:
        """A case, unless bounds by tiers leave nothing or nothing falls short."""
        parts, least = self.search.narrow_order(parts)
        if parts and (short or any(map(len, _list_short(self.search, parts, anchors)))):
            parts = self._drop_dominated(parts, anchors)
            self.opened += 1
            node = Node(max(floor, least), self.opened, parts, tuple(anchors), short)
            heapq.heappush(self.open, node)

    def _drop_dominated(self, parts: Parts, anchors: Sequence[int]) -> Parts:
        """The parts less rows that others dominate that are in the same cases of these anchors."""
        search, structure = self.search, self.search.structure
        asked = [a for a in anchors if any(map(len, _list_short(search, parts, [a])))]
        chosen = []
        for lines, part in zip(self.lines, parts, strict=True):
            loops = Loops(self._order, lines, part)
            marks = [np.zeros(len(part), np.int64)]
            for anchor in asked:
                operand, depth = structure.anchors[anchor][0], self._order.depth[anchor]
                relevant = RELEVANT[operand]
                for line in lines:
                    if line.dim in relevant:
                        marks += loops.tail(line.dim, depth)
                for at in np.unique(loops.stretch[loops.outside(depth)]):
                    marks.append(loops.between(relevant, depth, at, at))
                flagged = part.flagged[:, anchor]
                marks.append(np.where(flagged >= CARRIED, flagged, 0))
            kind = find_different(np.stack(marks, axis=1), inverse=True)[1]
            chosen.append(drop_dominated(structure, part, kind))
        return chosen

    def _join(self, parts: Parts) -> float:
        """Least objective of complete rows; infinite if none is left."""
        shape = np.zeros(len(self.search.claims), object)
        rows = self.search.join(self.search.trim([join_orders([part], shape) for part in parts]))
        bounds = self.search.cost.objective_bound(rows.values, rows.values)
        return float(bounds.min(initial=math.inf))

    def _branch(self, node: Node) -> bool:
        """Adds what may be the case at the next anchor where anything is; whether there is one."""
        search, parts = self.search, node.parts
        if not search.alone:
            # no bounds by tiers: anything may fall short at once
            return False
        for place, anchor in enumerate(node.anchors):
            fewer = _list_short(search, parts, [anchor])
            if any(map(len, fewer)):
                rest = node.anchors[place + 1 :]
                for i, rows in enumerate(fewer):
                    for carried in (False, True):
                        mine = rows[(parts[i].flagged[rows, anchor] >= CARRIED) == carried]
                        chosen = _count_by_1(search, parts, anchor, i, mine)
                        for some in self._list_places(chosen, anchor, i, carried=carried):
                            self._add(some, rest, short=True, floor=node.floor)
                usual = _count_by_1(search, parts, anchor)
                self._add(usual, rest, short=node.short, floor=node.floor)
                return True
        return False

    def _list_places(
        self, parts: Parts, anchor: int, one: int, *, carried: bool
    ) -> Iterator[Parts]:
        """The parts by where the loops stand that make the rows of one short at an anchor."""
        if not len(parts[one]):
            return
        operand, depth = self.search.structure.anchors[anchor][0], self._order.depth[anchor]
        loops = [
            Loops(self._order, mine, part) for mine, part in zip(self.lines, parts, strict=True)
        ]
        if carried:
            # no other loop that indexes stands further in
            last = [each.last(RELEVANT[operand], depth) for each in loops]
            last[one] = parts[one].flagged[:, anchor] - CARRIED
            for stretch in np.unique(last[one]):
                yield [
                    part.take(np.flatnonzero(at == stretch if i == one else at <= stretch))
                    for i, (part, at) in enumerate(zip(parts, last, strict=True))
                ]
            return
        for line in self.lines[one]:
            if line.dim not in RELEVANT[operand]:
                continue
            tail, outer, inner = loops[one].tail(line.dim, depth)
            others = RELEVANT[operand] - {line.dim}
            last = [each.last(others, depth) for each in loops]
            for begin, end in sorted(set(zip(outer[tail], inner[tail], strict=True))):
                able = [at <= end for at in last]
                able[one] &= tail & (outer == begin) & (inner == end)
                hiding = [each.between(RELEVANT[operand], depth, begin, end) for each in loops]
                for first, mine in enumerate(hiding):
                    # the first part with a loop over which the last tile stays
                    chosen = [
                        a & ~h if i < first else a & h if i == first else a
                        for i, (a, h) in enumerate(zip(able, hiding, strict=True))
                    ]
                    if (able[first] & mine).any():
                        yield [
                            part.take(np.flatnonzero(rows))
                            for part, rows in zip(parts, chosen, strict=True)
                        ]

    @property
    def _order(self) -> Order:
        return self.lines[0][0].order


def _list_short(search: Search, parts: Parts, anchors: Sequence[int]) -> list[np.ndarray]:
    """Rows of every part whose words at one of these anchors may fall short."""
    columns = [search.structure.first_whole + a for a in anchors]
    return [
        np.flatnonzero(
            (part.values[:, columns] < 1).any(axis=1)
            | (part.flagged[:, anchors] >= CARRIED).any(axis=1)
        )
        for part in parts
    ]


def _count_by_1(
    search: Search, parts: Parts, anchor: int, one: int = -1, rows: np.ndarray | None = None
) -> Parts:
    """The parts with the words of an anchor counted by (1), but for these rows of one part."""
    structure = search.structure
    column = structure.first_whole + anchor
    chosen = []
    for i, part in enumerate(parts):
        if i == one:
            assert rows is not None
            chosen.append(part.take(rows))
            continue
        values = part.values.copy()
        values[:, column] = 1.0
        usual = np.flatnonzero(part.flagged[:, anchor] < CARRIED)
        chosen.append(replace(part, values=values).take(usual))
    return chosen


class Loops:
    """The loops of complete rows of one order, and where they stand."""

    def __init__(self, order: Order, lines: Sequence[Line], rows: Part):
        """Gather the factors.

        Args:
            order: the order.
            lines: the tilings of every dimension.
            rows: complete rows.
        """
        self.order = order
        self.bounds = {line.dim: line.bound for line in lines}
        self.factors = {}
        for line in lines:
            factors = np.ones((len(rows), len(order.elements)), np.int64)
            picked = line.tilings.factors[rows.choice[:, rows.dims.index(line.dim)]]
            factors[:, line.kept] = picked
            self.factors[line.dim] = factors
        self.running = np.array([element in "t+" for element in order.elements])
        # loops of one stretch may stand in any order
        self.stretch = lines[0].stretches

    def outside(self, depth: int) -> np.ndarray:
        """Elements of loops outside a depth of the order."""
        return np.flatnonzero(self.running[:depth])

    def last(self, dims: Collection[str], depth: int) -> np.ndarray:
        """Stretch of the innermost loop of some dimensions outside a depth, -1 without one."""
        at = self.outside(depth)
        found = np.full(len(next(iter(self.factors.values()))), -1)
        for dim in set(dims) & set(self.factors):
            there = np.where(self.factors[dim][:, at] > 1, self.stretch[at], -1)
            found = np.maximum(found, there.max(axis=1, initial=-1))
        return found

    def tail(self, dim: str, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The tail of a dimension outside a depth of the order.

        Returns:
            whether there is one, the stretch of the innermost loop that still runs in the last
            piece, and that of the innermost loop.
        """
        factors = self.factors[dim]
        place = np.cumprod(factors[:, ::-1], axis=1)[:, ::-1] // factors
        rest = np.full(len(factors), self.bounds[dim])
        inner, outer = np.full((2, len(factors)), -1)
        tail = np.zeros(len(factors), bool)
        for element in range(depth):
            if not self.running[element]:
                rest = np.minimum(rest, place[:, element])
                continue
            digit = (rest - 1) // place[:, element]
            rest = rest - digit * place[:, element]
            loop = factors[:, element] > 1
            inner = np.where(loop, self.stretch[element], inner)
            outer = np.where(digit > 0, self.stretch[element], outer)
            tail = np.where(loop, digit == 0, tail)
        return tail, outer, inner

    def between(self, relevant: Collection[str], depth: int, begin: int, end: int) -> np.ndarray:
        """Whether a loop of a dimension that is not relevant stands in some stretches."""
        at = [n for n in self.outside(depth) if begin <= self.stretch[n] <= end]
        found = np.zeros(len(next(iter(self.factors.values()))), bool)
        for dim in set(self.factors) - set(relevant):
            found |= (self.factors[dim][:, at] > 1).any(axis=1)
        return found
