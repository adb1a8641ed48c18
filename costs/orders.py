"""The kinds of mapping a core allows: interleavings of the operands' storage positions.

A `Structure` is what the mappings of a layer on a core depend on besides sizes, energies and
bandwidths; an `Order` is one interleaving of the storage positions ("anchors") of all operands,
with temporal loops between them and the array's axes where they stand (`costs.mapping`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from costs.conventions import Conventions
from costs.core import Core
from costs.layer import OPERANDS, REDUCTION, RELEVANT, Layer

View = Literal["usual", "least", "split", "explicit"]


@dataclass(frozen=True)
class Structure:
    """What the mappings of a core depend on besides sizes, energies and bandwidths.

    Attributes:
        chains: levels of each operand of the layer, outermost first, by operand.
        replicated: axes along which each level has instances, by level.
        axes: name, dimensions, multicast operands and reduction of each axis.
        throttled: levels with several instances whose bandwidth is limited, so that it matters how
            many of them work.
        overlap: whether an input tile may keep what it shares with the one before.
        most_rows: rows and columns that a tile of inputs holds at most; those of the picture where
            padding is not stored.
        view: how rows of multipliers count (docs/theory/mapping_space.md, The real count):
            "usual" by equations (1) and (2), "least" with the least of an overlap that outer
            loops may keep, "explicit" so too, every loop by itself, with columns for tails;
            "split" the same with one loop more in a stretch at most, where that gives a tail.
    """

    chains: tuple[tuple[str, tuple[str, ...]], ...]
    replicated: tuple[tuple[str, tuple[str, ...]], ...]
    axes: tuple[tuple[str, tuple[str, ...], tuple[str, ...], bool], ...]
    throttled: tuple[str, ...] = ()
    overlap: bool = True
    most_rows: tuple[float, float] = (math.inf, math.inf)
    view: View = "usual"

    @classmethod
    def of(cls, layer: Layer, core: Core, conventions: Conventions) -> Structure:
        """The structure of a core as this layer sees it."""
        slides = any(layer.bounds[out] > 1 < layer.bounds[kernel] for out, kernel in ("PR", "QS"))
        return cls(
            chains=tuple((o, core.chain(o)) for o in OPERANDS if o in layer.operands),
            replicated=tuple((level.name, level.replicated) for level in core.levels),
            axes=tuple((a.name, a.dims, a.multicast, a.reduction) for a in core.axes),
            throttled=tuple(
                level.name
                for level in core.levels
                if level.replicated
                and min(level.bandwidth, level.read_bandwidth, level.write_bandwidth) < math.inf
            ),
            overlap=slides and conventions.halo != "whole",
            most_rows=(
                (layer.input_height, layer.input_width)
                if conventions.padding == "skipped"
                else (math.inf, math.inf)
            ),
        )

    @property
    def loop_by_loop(self) -> bool:
        """Whether tilings are listed loop by loop."""
        return self.view in ("split", "explicit")

    @property
    def lean(self) -> bool:
        """Whether loops of a stretch are listed apart only where the inner one has a tail."""
        return self.view == "split"

    @cached_property
    def anchors(self) -> tuple[tuple[str, str], ...]:
        """(operand, level) whose tile has a position to be chosen."""
        return tuple((o, level) for o, chain in self.chains for level in chain[1:])

    @cached_property
    def edges(self) -> tuple[tuple[str, str, str], ...]:
        """(operand, parent level, child level); the child of the innermost level is ""."""
        return tuple(
            (o, parent, child)
            for o, chain in self.chains
            for parent, child in zip(chain, (*chain[1:], ""), strict=True)
        )

    @cached_property
    def holders(self) -> tuple[int, ...]:
        """Anchors of outputs, in the order of their column of instances."""
        return tuple(i for i, (o, _) in enumerate(self.anchors) if o == "O")

    @cached_property
    def first_whole(self) -> int:
        """First column of what tails leave of an anchor's words, not there in the usual view."""
        return 1 + 2 * len(self.edges)

    @cached_property
    def input_edges(self) -> tuple[int, ...]:
        """Numbers of the edges that fill tiles of inputs."""
        return tuple(n for n, (o, _, child) in enumerate(self.edges) if o == "I" and child)

    def once_columns(self, edge: int) -> list[int]:
        """Columns of the words of input tiles if loops that do not index them bring none again.

        As the parent and the children of an edge see them; not there in the usual view.
        """
        if self.view == "usual":
            return []
        first = self.first_whole + len(self.anchors) + 2 * self.input_edges.index(edge)
        return [first, first + 1]

    def input_columns(self, edge: int) -> list[int]:
        """All columns of the words of input tiles of an edge."""
        return [1 + 2 * edge, 2 + 2 * edge, *self.once_columns(edge)]

    @cached_property
    def first_held(self) -> int:
        """First column of instances that hold the same output; see `costs.parts`."""
        if self.view == "usual":
            return self.first_whole
        return self.first_whole + len(self.anchors) + 2 * len(self.input_edges)

    @cached_property
    def first_used(self) -> int:
        """First column of instances in use, of the levels in `throttled`."""
        return self.first_held + len(self.holders)

    @cached_property
    def first_tile(self) -> int:
        """First column of tile sizes."""
        return self.first_used + len(self.throttled)

    def prefers_lanes(self, axis: str, dim: str) -> bool:
        """Whether more lanes of a dimension can be better though steps are the same.

        They are where instances of outputs start afresh, and where each brings its bandwidth.
        """
        outputs = dim in REDUCTION and any(
            axis in self.replicated_axes(level) for operand, level in self.anchors if operand == "O"
        )
        return outputs or any(axis in self.replicated_axes(level) for level in self.throttled)

    @cached_property
    def first_axis(self) -> int:
        """First column of array extents."""
        return self.first_tile + len(self.anchors)

    @cached_property
    def columns(self) -> int:
        """Number of columns."""
        return self.first_axis + len(self.axes)

    def replicated_axes(self, level: str) -> tuple[str, ...]:
        """Axes along which a level has instances; all of them for "", the PEs themselves."""
        if not level:
            return tuple(axis[0] for axis in self.axes)
        return self._replicated[level]

    @cached_property
    def _replicated(self) -> dict[str, tuple[str, ...]]:
        return dict(self.replicated)


@dataclass(frozen=True)
class Order:
    """One interleaving of the operands' storage positions, with the axes where they stand.

    Attributes:
        anchors: anchor indices, outermost first.
        elements: per element: "t", the name of an axis, or in the views loop by loop "+", another
            loop of the stretch that ends with the next "t".
        depth: elements outside each anchor, by anchor index; all elements for the PEs.
        free: for each anchor, a stretch of loops outside it that holds no loop of its operand and
            brings it nothing new, or -1.
    """

    anchors: tuple[int, ...]
    elements: tuple[str, ...]
    depth: tuple[int, ...]
    free: tuple[int, ...]

    def stretch(self, anchor: int) -> int:
        """Element of the stretch of temporal loops directly outside an anchor."""
        return max(i for i in range(self.depth[anchor]) if self.elements[i] == "t")

    def is_first(self, depth: int) -> bool:
        """Whether a depth has one stretch of loops outside it at most."""
        return self.elements[:depth].count("t") < 2

    def loops(self, stretch: int) -> tuple[int, ...]:
        """Elements of the loops of a stretch."""
        first = stretch
        while first and self.elements[first - 1] == "+":
            first -= 1
        return tuple(range(first, stretch + 1))


@lru_cache(maxsize=64)
def list_claims(structure: Structure) -> np.ndarray:
    """Whether two anchors have the same stretch of loops outside, `(orders, anchors, anchors)`."""
    count = len(structure.anchors)
    claims = np.zeros((len(list_orders(structure)), count, count), bool)
    for number, order in enumerate(list_orders(structure)):
        for i in range(count):
            for j in range(count):
                claims[number, i, j] = order.stretch(i) == order.stretch(j)
    return claims


@lru_cache(maxsize=64)
def list_orders(structure: Structure) -> tuple[Order, ...]:
    """All interleavings of the operands' chains of storage positions."""
    anchors = structure.anchors
    chains = [[i for i, (o, _) in enumerate(anchors) if o == name] for name, _ in structure.chains]

    def merge(left: list[list[int]]) -> list[tuple[int, ...]]:
        if not any(left):
            return [()]
        merged = []
        for number, chain in enumerate(left):
            if chain:
                rest = [c[1:] if i == number else c for i, c in enumerate(left)]
                merged += [(chain[0], *tail) for tail in merge(rest)]
        return merged

    orders = []
    for merged in merge(chains):
        joints = [
            i
            for i in range(1, len(merged))
            if structure.overlap and {anchors[a][0] for a in merged[i - 1 : i + 1]} == {"I"}
        ]
        # tiles of inputs at two levels may share the loop that keeps their overlap
        for shared in itertools.product((False, True), repeat=len(joints)):
            closed = {joint for joint, together in zip(joints, shared, strict=True) if together}
            order = _place(structure, merged, closed)
            orders += [order, *_list_freed(structure, order)]
    if structure.loop_by_loop:
        most = 1 if structure.lean else len(anchors)
        orders = [_split_stretches(order, most) for order in orders]
    return tuple(orders)


def _split_stretches(order: Order, most: int) -> Order:
    """The order with as many loops of a dimension in a stretch as anchors may have left it.

    So many more than one at most.

    An anchor stands outside loops that it could follow at no other cost; two loops of one dimension
    that it parted are then in one stretch (docs/theory/mapping_space.md, The real count).
    """
    elements: list[str] = []
    place = []
    for number, element in enumerate(order.elements):
        if element == "t":
            elements += ["+"] * min(most, sum(order.depth[a] <= number for a in order.anchors))
        place.append(len(elements))
        elements.append(element)
    place.append(len(elements))
    # an anchor's depth ends with the element before it
    depth = tuple(place[d - 1] + 1 if d else 0 for d in order.depth)
    free = tuple(place[f] if f >= 0 else -1 for f in order.free)
    return Order(order.anchors, tuple(elements), depth, free)


def _list_freed(structure: Structure, order: Order) -> list[Order]:
    """Variants in which loops stand outside an axis and an anchor that they do not index.

    Such an anchor might as well stand further out, but the axes would move with it; where they
    carry dimensions that do not index the operand this is another tiling.
    """
    able = {}
    for anchor in order.anchors:
        operand = structure.anchors[anchor][0]
        moved = order.elements[order.stretch(anchor) + 1 : order.depth[anchor]]
        dims = {d for name, dims, *_ in structure.axes if name in moved for d in dims}
        if dims - RELEVANT[operand]:
            able[anchor] = order.stretch(anchor)
    variants = []
    for count in range(1, len(able) + 1):
        for chosen in itertools.combinations(able, count):
            free = tuple(able[a] if a in chosen else -1 for a in range(len(order.free)))
            variants.append(replace(order, free=free))
    return variants


def _place(structure: Structure, merged: tuple[int, ...], closed: set[int]) -> Order:
    """The order of these anchors, without a stretch of loops before those in `closed`."""
    anchors = structure.anchors
    elements, depth, placed = ["t"], [0] * len(anchors), set()
    for place, anchor in enumerate(merged):
        if place and place not in closed:
            elements.append("t")
        for name, *_ in structure.axes:
            if name in structure.replicated_axes(anchors[anchor][1]) and name not in placed:
                elements.append(name)
                placed.add(name)
        depth[anchor] = len(elements)
    if merged:
        elements.append("t")
    elements += [name for name, *_ in structure.axes if name not in placed]
    return Order(merged, tuple(elements), (*depth, len(elements)), (-1,) * (len(anchors) + 1))
