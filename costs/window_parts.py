"""Rows of multipliers of the two dimensions of a sliding window, whose inputs overlap.

What a tiling of one does to the inputs depends on the other (equation (2) of
docs/theory/mapping_space.md), and a tile may keep words of the one before it. Columns and rows are
those of `costs.parts`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costs.layer import Layer
from costs.line import Line
from costs.orders import Order, Structure
from costs.pareto import find_nondominated
from costs.parts import DIM_NUMBER, EFFORT, WINDOWS, Part, simple_part


def _contiguous(structure: Structure, order: Order, line: Line) -> np.ndarray:
    """Tilings whose input tiles hold adjacent rows: no loop between an axis a tile spans and it."""
    keep = np.ones(len(line), bool)
    for number, (operand, level) in enumerate(structure.anchors):
        if operand != "I":
            continue
        depth = line.local(order.depth[number])
        for axis, at in line.axis_at.items():
            if at < depth and axis not in structure.replicated_axes(level):
                between = line.tilings.factors[:, at + 1 : depth].prod(axis=1)
                keep &= (line.tilings.factors[:, at] == 1) | (between == 1)
    return keep


def _list_window_rows(
    structure: Structure, order: Order, line: Line, part: Part, limits: np.ndarray
) -> np.ndarray:
    """Tilings of one dimension of a window that fit and are not dominated among equal inputs.

    What a tiling does to the inputs depends on the other dimension too, so that only tilings with
    the same input tiles and the same loops outside them are compared.
    """
    rows = np.flatnonzero(
        _contiguous(structure, order, line)
        & (part.values[:, structure.first_tile :] <= limits).all(axis=1)
    )
    if structure.view == "explicit":
        return rows
    fixed = []
    for number, (operand, level) in enumerate(structure.anchors):
        if operand == "I":
            each = structure.replicated_axes(level)
            depth = line.local(order.depth[number])
            fixed += [line.count(depth, each), line.tile(depth, each)]
            if order.stretch(number) in line.kept:
                start = line.local(order.stretch(number))
                fixed += [line.count(start, each), line.tilings.factors[:, start]]
    keys = part.values[rows].copy()
    keys[:, structure.first_held : structure.first_tile] *= -1
    same = np.stack(fixed, axis=1)[rows] if fixed else np.zeros((len(rows), 0))
    return rows[find_nondominated(np.concatenate([keys, same, -same], axis=1), EFFORT)]


def window_line_part(
    structure: Structure, order: Order, line: Line, other: Line, pace: tuple[int, int],
    limits: np.ndarray,
) -> Part:  # fmt: skip
    """Rows of one dimension of a window; words and tiles of inputs are the least of both.

    Args:
        structure: the kind of core.
        order: the order.
        line: tilings of the dimension.
        other: tilings of the other one, which contributes ones for the inputs.
        pace: input rows per step of this dimension and of the other.
        limits: largest tiles, then largest extents, of any hardware.
    """
    part = simple_part(structure, order, line)
    step, by = pace
    for number, (operand, _, child) in enumerate(structure.edges):
        if operand == "I" and child:
            depth = order.depth[structure.anchors.index(("I", child))]
            n = line.count(line.local(depth), structure.replicated_axes(child))
            # (2) at one and at all tiles of the other dimension; what overlaps is brought once
            one = step * (line.bound - n) + by * (other.bound - 1) * n + n
            every = (step * (line.bound - n) + n) * other.bound
            words = np.minimum(one, every)
            if structure.overlap:
                words = np.full(len(line), float(count_rows(line.bound, other.bound, pace)))
            part.values[:, 1 + 2 * number : 3 + 2 * number] = words[:, None]
    for number, (operand, _) in enumerate(structure.anchors):
        if operand == "I":
            column = part.values[:, structure.first_tile + number]
            column[:] = (column - 1) * step + 1
            if structure.view != "usual" and structure.overlap:
                whole = part.values[:, structure.first_whole + number]
                whole[whole < 1] = 0.5
    return part.take(_list_window_rows(structure, order, line, part, limits))


def count_rows(outputs: int, kernel: int, pace: tuple[int, int]) -> int:
    """Input rows that a window touches, those that no kernel row meets left out."""
    rows = np.arange(outputs)[:, None] * pace[0] + np.arange(kernel) * pace[1]
    return np.unique(rows).size


def count_distinct(layer: Layer) -> dict[str, float]:
    """Words of every operand that any mapping brings in at least once."""
    b = layer.bounds
    rows = [
        count_rows(b[out], b[kernel], (layer.stride[axis], layer.dilation[axis]))
        for out, kernel, axis in WINDOWS
    ]
    return {
        "W": float(b["G"] * b["K"] * b["C"] * b["R"] * b["S"]),
        "I": float(b["G"] * b["N"] * b["C"] * rows[0] * rows[1]),
        "O": float(b["G"] * b["N"] * b["K"] * b["P"] * b["Q"]),
    }


def window_part(
    structure: Structure, order: Order, out: Line, kernel: Line, pace: tuple[int, int],
    limits: np.ndarray, rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> Part:  # fmt: skip
    """Rows of an output dimension and the kernel dimension that slides along it.

    Args:
        structure: the kind of core.
        order: the order.
        out: tilings of the output dimension.
        kernel: tilings of the kernel dimension.
        pace: stride and dilation.
        limits: largest tiles, then largest extents, of any hardware.
        rows: tilings of the output and of the kernel dimension to combine; all by default.
    """
    stride, dilation = pace
    left = simple_part(structure, order, out)
    right = simple_part(structure, order, kernel)
    rows_out, rows_kernel = rows or (
        _list_window_rows(structure, order, out, left, limits),
        _list_window_rows(structure, order, kernel, right, limits),
    )
    a, b = (v.ravel() for v in np.meshgrid(rows_out, rows_kernel, indexing="ij"))
    values = left.values[a] * right.values[b]
    anchors = structure.anchors
    edges = [e for e in enumerate(structure.edges) if e[1][0] == "I"]
    carried = {}
    for number, (_, _, child) in edges:
        if not child:
            continue
        depth = order.depth[anchors.index(("I", child))]
        # lanes along a window hold different words: above and below see the same
        each = structure.replicated_axes(child)
        p = out.count(out.local(depth), each)[a]
        r = kernel.count(kernel.local(depth), each)[b]
        words = stride * (out.bound - p) * r + dilation * (kernel.bound - r) * p + p * r
        carried[number] = _carries(structure, order, out, kernel, (a, b), number, pace)
        words = np.where(carried[number], count_rows(out.bound, kernel.bound, pace), words)
        values[:, 1 + 2 * number : 3 + 2 * number] = words[:, None]
    for number, (operand, _) in enumerate(anchors):
        if operand == "I":
            column = structure.first_tile + number
            p, r = left.values[a, column], right.values[b, column]
            values[:, column] = (p - 1) * stride + (r - 1) * dilation + 1
    fit = np.flatnonzero((values[:, structure.first_tile :] <= limits).all(axis=1))
    values, a, b = values[fit], a[fit], b[fit]
    blocks = [(values, np.zeros((len(a), len(anchors)), np.int8), np.arange(len(a)))]
    movers = ((out, kernel, a, b, (stride, dilation)), (kernel, out, b, a, (dilation, stride)))
    overlapping = structure.overlap and kernel.bound > 1 and out.bound > 1
    for number, (_, _, child) in edges if overlapping else ():
        if not child:
            continue
        anchor = anchors.index(("I", child))
        each = structure.replicated_axes(child)
        moved = []
        for mover, still, move, rest, speed in movers:
            saved, useful = _saved_words(
                order, each, mover, still, (move, rest), order.depth[anchor], speed
            )
            useful &= ~carried[number][fit]
            rivals = [i for i in range(len(anchors)) if order.stretch(i) == order.stretch(anchor)]
            for block, marks, base in blocks:
                others = (marks[:, rivals] > 0) & (marks[:, rivals] != DIM_NUMBER[mover.dim])
                saving = np.flatnonzero(useful[base] & ~others.any(axis=1))
                fresh, fresh_marks = block[saving].copy(), marks[saving].copy()
                fresh[:, 1 + 2 * number : 3 + 2 * number] -= saved[base[saving], None]
                fresh_marks[:, anchor] = DIM_NUMBER[mover.dim]
                if structure.view != "usual":
                    # the last box may be as large as all that is new in the others
                    whole = fresh[:, structure.first_whole + anchor]
                    whole[whole < 1] = 0.5
                moved.append((fresh, fresh_marks, base[saving]))
        blocks += moved
    base = np.concatenate([origin for _, _, origin in blocks])
    return Part(
        values=np.concatenate([block for block, _, _ in blocks]),
        flagged=np.concatenate([marks for _, marks, _ in blocks]),
        choice=np.stack([a[base], b[base]], axis=1).astype(np.int32),
        order=np.zeros(len(base), np.int64),
        dims=(out.dim, kernel.dim),
        totals=np.array([len(out) * len(kernel)], object),
    )


def _carries(
    structure: Structure, order: Order, out: Line, kernel: Line,
    rows: tuple[np.ndarray, np.ndarray], edge: int, pace: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    """Whether an input tile may keep its overlap over a loop outside the innermost one.

    Timeloop keeps it where the factors along the window are perfect and the tile goes on by the
    same step: as an outer loop of the same dimension advances, where the innermost one has two
    iterations. Of loops of both dimensions it may be where the steps of the kernel's loops, all
    together less than the kernel, reach half the step of the other. The usual view asks of none.

    Args:
        structure: the kind of core.
        order: the order.
        out: tilings of the output dimension.
        kernel: tilings of the kernel dimension.
        rows: tiling of each in every combination.
        edge: number of the edge that brings the tile.
        pace: stride and dilation.
    """
    a, b = rows
    if structure.view == "usual" or not structure.overlap:
        return np.zeros(len(a), bool)
    depth = order.depth[structure.anchors.index(("I", structure.edges[edge][2]))]
    number, innermost, step = (v[a] for v in out.list_loops(out.local(depth)))
    others, inmost, _ = (v[b] for v in kernel.list_loops(kernel.local(depth)))
    alone = ((number > 1) & (innermost == 2)) | ((others > 1) & (inmost == 2))
    stride, dilation = pace
    near = stride * step <= 2 * dilation * (kernel.bound - 1)
    mixed = (number > 0) & (others > 0) & near
    return (alone | mixed) & out.perfect[a] & kernel.perfect[b]


def _saved_words(
    order: Order, each: Sequence[str], mover: Line, still: Line,
    rows: tuple[np.ndarray, np.ndarray], depth: int, pace: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Words kept from tile to tile while the loop just outside an input tile advances.

    A tile `m` long along the moving dimension and `n` along the other covers
    (m - 1) a + (n - 1) b + 1 rows, a and b being their paces; the next one begins m a further on,
    so that max(0, (n - 1) b + 1 - a) of them are kept.

    Args:
        order: the order.
        each: axes whose lanes hold tiles of their own.
        mover: the dimension whose loop advances.
        still: the other dimension of the window.
        rows: row of `mover` and of `still` of every combination.
        depth: depth of the tile in the order.
        pace: input rows per step of `mover` and of `still`.

    Returns:
        Words kept, and whether there is such a loop.
    """
    move, other = rows
    at = mover.local(max(i for i in range(depth) if order.elements[i] == "t"))
    between = mover.tilings.factors[:, at + 1 : mover.local(depth)].prod(axis=1)
    able = (mover.tilings.factors[:, at] > 1) & (between == 1)
    moves = mover.count(mover.local(depth), each) - mover.count(at, each)
    size = still.tile(still.local(depth), each)
    whole = np.floor(still.bound / size)
    rest = still.bound - whole * size
    kept = whole * np.maximum(0, (size - 1) * pace[1] + 1 - pace[0])
    kept = kept + (rest > 0) * np.maximum(0, (rest - 1) * pace[1] + 1 - pace[0])
    saved = moves[move] * kept[other]
    return saved, able[move] & (saved > 0)
