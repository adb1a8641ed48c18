"""Rows of multipliers: what the tilings of some dimensions contribute to every count.

In one `Order` every count of a mapping is a product over the dimensions (the two dimensions of a
sliding window together), so that rows of different dimensions are joined by multiplying them.
Columns: steps of the array; for every edge the words seen by the parent and by the children; for
every anchor of outputs the instances that hold the same output; for every level of limited
bandwidth the instances in use; for every anchor the words of its tile in one instance; for every
axis the PEs used along it. More instances are better, less of everything else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from costs.layer import DIMS, RELEVANT
from costs.line import Line
from costs.orders import Order, Structure

EFFORT = 500
"""Rows compared with all others when dominated ones are removed from a large set."""

DIM_NUMBER = {dim: number + 1 for number, dim in enumerate(DIMS)}
SIMPLE_DIMS = ("G", "N", "K", "C")
WINDOWS = (("P", "R", 0), ("Q", "S", 1))


@dataclass(frozen=True)
class Part:
    """Tilings of some dimensions, as rows of multipliers.

    Attributes:
        values: `(rows, columns)` multipliers.
        flagged: `(rows, anchors)` 1-based dimension whose loop must stand outside an input tile.
        choice: `(rows, dims)` tiling of each dimension of `dims`.
        order: `(rows,)` the order each row belongs to, rising.
        dims: the dimensions.
        totals: `(orders,)` combinations in each order these rows were chosen from.
    """

    values: np.ndarray
    flagged: np.ndarray
    choice: np.ndarray
    order: np.ndarray
    dims: tuple[str, ...]
    totals: np.ndarray

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.values)

    def take(self, rows: np.ndarray) -> Part:
        """Some of the rows."""
        return Part(
            self.values[rows],
            self.flagged[rows],
            self.choice[rows],
            self.order[rows],
            self.dims,
            self.totals,
        )


def stack_parts(parts: Sequence[Part]) -> Part:
    """Rows of several parts of the same dimensions, one after the other."""
    return Part(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.flagged for part in parts]),
        np.concatenate([part.choice for part in parts]),
        np.concatenate([part.order for part in parts]),
        parts[0].dims,
        parts[0].totals,
    )


def in_dim_order(part: Part) -> Part:
    """A complete part with its dimensions in the order of `DIM_NUMBER`."""
    place = sorted(range(len(part.dims)), key=lambda i: DIM_NUMBER[part.dims[i]])
    return replace(part, choice=part.choice[:, place], dims=tuple(part.dims[i] for i in place))


def no_rows(structure: Structure, dims: tuple[str, ...]) -> Part:
    """A part without rows."""
    return Part(
        values=np.zeros((0, structure.columns)),
        flagged=np.zeros((0, len(structure.anchors)), np.int8),
        choice=np.zeros((0, len(dims)), np.int32),
        order=np.zeros(0, np.int64),
        dims=dims,
        totals=np.zeros(0, object),
    )


def _each_lane(structure: Structure, operand: str, parent: str, child: str) -> tuple[list, list]:
    """Axes whose lanes count one by one, seen from the parent's side and from the children's."""
    above, below = structure.replicated_axes(parent), structure.replicated_axes(child)
    at_parent = []
    for name, _, multicast, reduction in structure.axes:
        served_apart = not reduction if operand == "O" else operand not in multicast
        if name in above or (name in below and served_apart):
            at_parent.append(name)
    return at_parent, list(below)


def simple_part(structure: Structure, order: Order, line: Line) -> Part:
    """Rows of one dimension that does not slide."""
    columns = [line.count(line.local(len(order.elements)), ())]
    anchors = structure.anchors
    for operand, parent, child in structure.edges:
        anchor = anchors.index((operand, child)) if child else -1
        depth = order.depth[anchor]
        for each in _each_lane(structure, operand, parent, child):
            if line.dim in RELEVANT[operand]:
                columns.append(np.full(len(line), float(line.bound)))
            else:
                columns.append(line.count(line.local(depth), each, order.free[anchor]))
    if structure.view != "usual":
        columns += [
            line.whole(order.depth[number]) if line.dim in RELEVANT[operand] else np.ones(len(line))
            for number, (operand, _) in enumerate(anchors)
        ]
        for number in structure.input_edges:
            for each in _each_lane(structure, *structure.edges[number]):
                relevant = line.dim in RELEVANT["I"]
                bound = np.full(len(line), float(line.bound))
                columns.append(bound if relevant else line.count(0, each))
    for operand, level in anchors:
        if operand == "O":
            relevant = line.dim in RELEVANT["O"]
            held = line.lanes(structure.replicated_axes(level))
            columns.append(np.ones(len(line)) if relevant else held)
    columns += [line.lanes(structure.replicated_axes(level)) for level in structure.throttled]
    for number, (operand, level) in enumerate(anchors):
        if line.dim in RELEVANT[operand]:
            depth = line.local(order.depth[number])
            columns.append(line.tile(depth, structure.replicated_axes(level)))
        else:
            columns.append(np.ones(len(line)))
    columns += [line.factor(name) for name, *_ in structure.axes]
    return Part(
        values=np.stack(columns, axis=1),
        flagged=np.zeros((len(line), len(anchors)), np.int8),
        choice=np.arange(len(line), dtype=np.int32)[:, None],
        order=np.zeros(len(line), np.int64),
        dims=(line.dim,),
        totals=np.array([len(line)], object),
    )


def pair_rows(left: Part, right: Part) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the pairs of rows of the same order.

    Returns:
        `(left rows,)` first row on the right that each row of the left meets, and the running
        number of pairs, `(left rows + 1,)`.
    """
    orders = np.arange(len(left.totals))
    begin = np.searchsorted(right.order, orders)
    count = np.searchsorted(right.order, orders, side="right") - begin
    return begin[left.order], np.concatenate([[0], np.cumsum(count[left.order])])


def join_parts(left: Part, right: Part, a: np.ndarray, b: np.ndarray, claims: np.ndarray) -> Part:
    """The pairs of rows a of the left and b of the right; no stretch keeps two overlaps.

    Args:
        left: rows of some dimensions.
        right: rows of others.
        a: rows of the left.
        b: rows of the right.
        claims: see `costs.orders.list_claims`.
    """
    marks, more = left.flagged[a], right.flagged[b]
    if marks.any() and more.any():
        claimed = ((marks > 0)[:, :, None] & claims[left.order[a]]).any(axis=1)
        free = np.flatnonzero(~(claimed & (more > 0)).any(axis=1))
        a, b, marks, more = a[free], b[free], marks[free], more[free]
    return Part(
        values=left.values[a] * right.values[b],
        flagged=np.maximum(marks, more),
        choice=np.concatenate([left.choice[a], right.choice[b]], axis=1),
        order=left.order[a],
        dims=(*left.dims, *right.dims),
        totals=left.totals * right.totals,
    )
