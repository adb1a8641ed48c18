"""Tilings of one dimension in one order of storage positions, and the tile counts they cause."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from costs.candidates import Factors, count_valid, enumerate_factors, enumerate_loops, measure_tails
from costs.layer import RELEVANT
from costs.orders import Order, Structure

Tally = dict[object, np.ndarray]
"""Counts that lines of the same tilings share."""


class Line:
    """Tilings of one dimension in one order, with the tile counts the columns need."""

    def __init__(
        self,
        structure: Structure,
        order: Order,
        dim: str,
        bound: int,
        sizes: dict[str, int],
        *,
        slides: bool = False,
        coarse: bool = False,
        tally: Tally | None = None,
        room: Sequence[float] | None = None,
    ):
        """Enumerate.

        Args:
            structure: the kind of core.
            order: the order.
            dim: the dimension.
            bound: its bound.
            sizes: largest PEs along each axis.
            slides: whether it belongs to a window of more than one row, whose tiles overlap.
            coarse: only a few factors far apart.
            tally: counts already made of these tilings, of the same dimension in other orders.
            room: most words of each anchor's tile; needed where they are listed loop by loop.

        Raises:
            TooMany: there are too many tilings, loop by loop.
        """
        self.structure, self.order, self.dim, self.bound = structure, order, dim, bound
        usable = {name for name, dims, *_ in structure.axes if dim in dims}
        by_loop = structure.loop_by_loop
        idle = set() if by_loop else _idle_stretches(structure, order, dim, slides=slides)
        inmost = 0
        if structure.lean:
            # where no tile of its operands is inside no loop of it has a tail
            seen = [
                order.depth[n] for n, (o, _) in enumerate(structure.anchors) if dim in RELEVANT[o]
            ]
            inmost = max(seen, default=0)
            idle = {i for i, e in enumerate(order.elements) if e == "+" and i >= inmost}
        # positions of the order's elements in this dimension's signature
        self.kept = [
            i for i, e in enumerate(order.elements) if (e in "t+" and i not in idle) or e in usable
        ]
        letter = {
            name: "X" if structure.prefers_lanes(name, dim) else "x" for name, *_ in structure.axes
        }
        self.signature = "".join(
            letter.get(order.elements[i], order.elements[i]) for i in self.kept
        )
        limits = tuple(sizes[order.elements[i]] for i in self.kept if order.elements[i] not in "t+")
        if by_loop:
            self.tilings: Factors = enumerate_loops(
                bound, self.signature, limits, self._list_room(room or ()),
                tails=sum(i < inmost for i in self.kept) if structure.lean else None,
                parted=slides and structure.overlap and not structure.lean,
            )  # fmt: skip
        else:
            self.tilings = enumerate_factors(bound, self.signature, limits, coarse)
        # loops of these stretches bring an operand nothing new: none that indexes it stands there
        self.empty = tuple(
            sorted(
                self.kept.index(element)
                for anchor, stretch in enumerate(order.free)
                if stretch >= 0 and dim in RELEVANT[structure.anchors[anchor][0]]
                for element in order.loops(stretch)
                if element in self.kept
            )
        )
        self._tally: Tally = {} if tally is None else tally
        if self.empty:
            self.tilings = self.tilings.take(self._has_none(self.empty))
        self.axis_at = {
            order.elements[i]: n for n, i in enumerate(self.kept) if order.elements[i] not in "t+"
        }

    def _list_room(self, words: Sequence[float]) -> tuple[float, ...]:
        """For each element the most points that the tiles around it leave inside its outer end."""
        order, anchors = self.order, self.structure.anchors
        return tuple(
            min(
                (
                    size
                    for a, size in enumerate(words)
                    if order.depth[a] <= i and self.dim in RELEVANT[anchors[a][0]]
                ),
                default=np.inf,
            )
            for i in self.kept
        )

    def _has_none(self, places: Sequence[int]) -> np.ndarray:
        """Whether a tiling has no loop at these places of the signature."""
        return (self.tilings.factors[:, list(places)] == 1).all(axis=1)

    def __len__(self) -> int:
        """Number of tilings."""
        return len(self.tilings.factors)

    @cached_property
    def key(self) -> tuple[object, ...]:
        """What the rows of this line depend on: orders of equal keys have the same rows."""
        order = self.order
        inputs = [i for i, (o, _) in enumerate(self.structure.anchors) if o == "I"]
        stretches = [order.stretch(i) for i in inputs]
        return (
            self.signature,
            tuple(self.axis_at.items()),
            self.empty,
            tuple(self.local(depth) for depth in order.depth),
            self.structure.view != "usual" and tuple(map(order.is_first, order.depth)),
            tuple(self.kept.index(f) if f in self.kept else -1 for f in order.free),
            tuple(self.local(s) if s in self.kept else -1 for s in stretches),
            tuple(a == b for a in stretches for b in stretches),
        )

    def local(self, depth: int) -> int:
        """Depth in this dimension's signature of a depth in the order."""
        return sum(1 for i in self.kept if i < depth)

    def factor(self, axis: str) -> np.ndarray:
        """Factor on an axis, ones where the dimension cannot stand there."""
        at = self.axis_at.get(axis)
        return np.ones(len(self)) if at is None else self.tilings.factors[:, at]

    def _count(self, free: tuple[bool, ...]) -> np.ndarray:
        key = (self.signature, tuple(self.axis_at), self.empty, free)
        if key not in self._tally:
            self._tally[key] = count_valid(self.tilings, free)
        return self._tally[key]

    def count(self, depth: int, each: Sequence[str], free: int = -1) -> np.ndarray:
        """Tiles outside local `depth`; of axes, the lanes in `each` count one by one.

        The loops of stretch `free` bring nothing new.
        """
        freed = self.order.loops(free) if free >= 0 else ()
        lanes = {at: axis for axis, at in self.axis_at.items()}
        return self._count(
            tuple(
                lanes[n] in each if n in lanes else n < depth and element not in freed
                for n, element in enumerate(self.kept)
            )
        )

    def whole(self, depth: int) -> np.ndarray:
        """Part of the words outside a depth of the order that no tail hides, at least.

        A tail is a last tile at which the innermost loop outside has one iteration. Where loops may
        have been joined it may have had any number of tiles that they leave (lemma 8).
        """
        if self.structure.loop_by_loop:
            inside = self.local(depth)
            loops = tuple(
                n < inside and n not in self.axis_at.values() for n in range(len(self.kept))
            )
            left = measure_tails(self.tilings, loops)
            return 1 - np.minimum(left / self.bound, (left > 0) / self._count(loops))
        return np.full(len(self), 1.0 if self.order.is_first(depth) else 0.5)

    def loops_outside(self, depth: int) -> list[int]:
        """Places of the loops outside a depth of the order."""
        return [n for n in range(self.local(depth)) if self.signature[n] in "t+"]

    def list_loops(self, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Loops outside local `depth`: how many, and the innermost's factor and step [indices]."""
        number, innermost, step = np.zeros((3, len(self)))
        for n in range(depth):
            if n not in self.axis_at.values():
                factor = self.tilings.factors[:, n]
                number += factor > 1
                innermost = np.where(factor > 1, factor, innermost)
                step = np.where(factor > 1, self.tilings.inner[:, n + 1], step)
        return number, innermost, step

    @cached_property
    def perfect(self) -> np.ndarray:
        """Whether the factors divide the bound."""
        return self.tilings.inner[:, 0] == self.bound

    @cached_property
    def stretches(self) -> np.ndarray:
        """Number of the stretch of loops that each element of the order belongs to."""
        return np.cumsum([0, *(e == "t" for e in self.order.elements[:-1])])

    def number_kinds(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of what is alike in where the loops of some tilings stand and have tails.

        Whether a stretch has a loop, or one that may be several; for every tail, the stretch of the
        innermost loop that still runs.
        """
        tilings = self.tilings.take(rows)
        loops = [n for n, e in enumerate(self.signature) if e in "t+"]
        marks = []
        for stretch in np.unique(self.stretches[[self.kept[n] for n in loops]]):
            mine = [n for n in loops if self.stretches[self.kept[n]] == stretch]
            factor = tilings.factors[:, mine]
            marks.append(((factor > 1).astype(int) + (factor > 3)).sum(axis=1))
        rest = np.full(len(rows), float(self.bound))
        outer = np.full(len(rows), -1)
        for n in range(len(self.kept)):
            place = tilings.inner[:, n + 1]
            if n not in loops:
                rest = np.minimum(rest, place)
                continue
            digit = np.floor((rest - 0.5) / place)
            rest = rest - digit * place
            outer = np.where(digit > 0, self.stretches[self.kept[n]], outer)
            marks.append(np.where((tilings.factors[:, n] > 1) & (digit == 0), outer, -2))
        return np.unique(np.stack(marks, axis=1), axis=0, return_inverse=True)[1].ravel()

    def lanes(self, replicated: Sequence[str]) -> np.ndarray:
        """Lanes that do any work along the axes of a level's instances."""
        lanes = {at: axis for axis, at in self.axis_at.items()}
        return self._count(tuple(lanes.get(n) in replicated for n in range(len(self.kept))))

    def tile(self, depth: int, replicated: Sequence[str]) -> np.ndarray:
        """Points of the tile inside local `depth` in one instance of a level."""
        lanes = {at: axis for axis, at in self.axis_at.items()}
        return self._count(
            tuple(
                lanes[n] not in replicated if n in lanes else n >= depth
                for n in range(len(self.kept))
            )
        )


def _idle_stretches(structure: Structure, order: Order, dim: str, *, slides: bool) -> set[int]:
    """Stretches of loops in which a dimension need not stand (mapping_space.md, lemma 2).

    A loop directly inside a tile that it indexes may as well stand directly outside it: that tile
    gets smaller and nothing else changes. Input tiles that overlap are the exception, and so is a
    loop that may keep the overlap of the next tile inwards. A loop between two tiles of an operand
    that it does not index may as well stand inside both.
    """
    idle = set()
    for place, anchor in enumerate(order.anchors):
        operand = structure.anchors[anchor][0]
        after = order.anchors[place + 1 : place + 2]
        following = structure.anchors[after[0]][0] if after else ""
        if dim not in RELEVANT[operand]:
            if following == operand:
                idle |= _stretch_between(structure, order, anchor, after[0])
            continue
        before_inputs = structure.overlap and following == "I"
        if not slides or (operand != "I" and not before_inputs):
            idle.add(order.depth[anchor])
    return idle - set(order.free)


def _stretch_between(structure: Structure, order: Order, outer: int, inner: int) -> set[int]:
    """The stretch between two anchors of an operand that the inner one may move across.

    It may not where axes would move with it that carry dimensions the operand does not have.
    """
    stretch = order.stretch(inner)
    moved = order.elements[stretch + 1 : order.depth[inner]]
    carried = {d for name, dims, *_ in structure.axes if name in moved for d in dims}
    free = carried <= RELEVANT[structure.anchors[inner][0]]
    return {stretch} if free and stretch >= order.depth[outer] else set()
