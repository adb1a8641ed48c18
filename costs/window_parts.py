"""Rows of multipliers of the two dimensions of a sliding window, whose inputs overlap.

What a tiling of one does to the inputs depends on the other (equation (2) of
docs/theory/mapping_space.md), and a tile may keep words of the one before it. Columns and rows are
those of `costs.parts`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from costs.carried import calc_most_carried
from costs.layer import Layer
from costs.line import Line
from costs.orders import Order, Structure
from costs.pareto import find_nondominated
from costs.parts import DIM_NUMBER, EFFORT, WINDOWS, Part, simple_part

CARRIED = len(DIM_NUMBER) + 1
"""First mark of an input tile whose overlap loops outside the innermost one keep, too; the number
of the stretch is added from which on these stand."""


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
    if structure.loop_by_loop:
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
            if structure.view != "usual" and structure.overlap:
                loops = line.loops_outside(depth)
                factors = line.tilings.factors[:, loops].T
                fixed += [line.perfect, *np.where(line.perfect, factors, 0.0)]
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
            part.values[:, structure.input_columns(number)] = words[:, None]
    for number, (operand, _) in enumerate(structure.anchors):
        if operand == "I":
            column = part.values[:, structure.first_tile + number]
            column[:] = (column - 1) * step + 1
            column.clip(max=structure.most_rows[line.dim in "QS"], out=column)
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
    for number, (_, _, child) in edges:
        if not child:
            continue
        depth = order.depth[anchors.index(("I", child))]
        # lanes along a window hold different words: above and below see the same
        each = structure.replicated_axes(child)
        p = out.count(out.local(depth), each)[a]
        r = kernel.count(kernel.local(depth), each)[b]
        words = stride * (out.bound - p) * r + dilation * (kernel.bound - r) * p + p * r
        values[:, structure.input_columns(number)] = words[:, None]
    for number, (operand, _) in enumerate(anchors):
        if operand == "I":
            column = structure.first_tile + number
            p, r = left.values[a, column], right.values[b, column]
            span = (p - 1) * stride + (r - 1) * dilation + 1
            values[:, column] = np.minimum(span, structure.most_rows[out.dim == "Q"])
    fit = np.flatnonzero((values[:, structure.first_tile :] <= limits).all(axis=1))
    values, a, b = values[fit], a[fit], b[fit]
    movers = ((out, kernel, a, b, (stride, dilation)), (kernel, out, b, a, (dilation, stride)))
    overlapping = structure.overlap and kernel.bound > 1 and out.bound > 1
    inputs = [(n, anchors.index(("I", e[2]))) for n, e in edges if e[2]] if overlapping else []
    saved = {
        anchor: [_saved_words(structure, order, *mover, anchor) for mover in movers]
        for _, anchor in inputs
    }
    if structure.loop_by_loop:
        for number, anchor in inputs:
            # where the innermost loop keeps overlaps, only rows that are marked so have its tail
            values[:, structure.first_whole + anchor] = 1.0
            for mover, (_, useful) in zip(movers, saved[anchor], strict=True):
                whole = _whole_words(structure, order, *mover, anchor, values[:, 1 + 2 * number])
                kept = values[:, structure.first_whole + anchor]
                np.minimum(kept, np.where(useful, 1.0, whole), out=kept)
    blocks = [(values, np.zeros((len(a), len(anchors)), np.int8), np.arange(len(a)))]
    distinct = count_rows(out.bound, kernel.bound, pace)
    for number, anchor in inputs:
        moved = []
        rivals = [i for i in range(len(anchors)) if order.stretch(i) == order.stretch(anchor)]
        words = structure.input_columns(number)
        for mover, (less, useful) in zip(movers, saved[anchor], strict=True):
            mark = DIM_NUMBER[mover[0].dim]
            for block, marks, base in blocks:
                other = marks[:, rivals]
                others = (other > 0) & (other < CARRIED) & (other != mark)
                saving = np.flatnonzero(useful[base] & ~others.any(axis=1))
                fresh, fresh_marks = block[saving].copy(), marks[saving].copy()
                fresh[:, words] -= less[base[saving], None]
                fresh_marks[:, anchor] = mark
                whole = fresh[:, structure.first_whole + anchor]
                if structure.view == "least":
                    # the last box may be as large as all that is new in the others
                    whole[whole < 1] = 0.5
                elif structure.loop_by_loop:
                    one, other, move, rest, paces = mover
                    rows = (move[base[saving]], rest[base[saving]])
                    whole[:] = _whole_words(
                        structure, order, one, other, *rows, paces, anchor, fresh[:, words[0]]
                    )
                moved.append((fresh, fresh_marks, base[saving]))
        for first, carried in _list_carried(structure, order, out, kernel, (a, b), anchor, pace):
            # more than the innermost loop keeps; tiles of one stretch have that in common
            kept = [np.where(useful, less, 0.0) for less, useful in saved[anchor]]
            carries = carried > (np.maximum(*kept) if len(rivals) == 1 else 0.0)
            for block, marks, base in blocks if carries.any() else ():
                saving = np.flatnonzero(carries[base])
                fresh, fresh_marks = block[saving].copy(), marks[saving].copy()
                fresh[:, words] -= carried[base[saving], None]
                fresh[:, words] = np.maximum(fresh[:, words], distinct)
                fresh_marks[:, anchor] = CARRIED + first
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


def _list_carried(
    structure: Structure, order: Order, out: Line, kernel: Line,
    rows: tuple[np.ndarray, np.ndarray], anchor: int, pace: tuple[int, int],
) -> Iterator[tuple[int, np.ndarray]]:  # fmt: skip
    """Words an input tile keeps if loops outside the innermost one carry some; 0 if none does.

    From one stretch of loops on, or another: no loop that moves tiles otherwise may stand further
    in. Where nothing is known of those, any may.

    Timeloop carries overlap where the factors along the window are perfect. The innermost loop that
    indexes inputs is one of the window (lemma 9). Where loops may have been moved, in the view of
    the least, all that overlaps may be kept.

    Args:
        structure: the kind of core.
        order: the order.
        out: tilings of the output dimension.
        kernel: tilings of the kernel dimension.
        rows: tiling of each in every combination.
        anchor: the input tile.
        pace: stride and dilation.
    """
    a, b = rows
    kept = np.zeros(len(a))
    if structure.view == "usual":
        return
    depth = order.depth[anchor]
    near = _stands_outside(order, out, anchor)[a] | _stands_outside(order, kernel, anchor)[b]
    able = np.flatnonzero(near & out.perfect[a] & kernel.perfect[b])
    a, b = a[able], b[able]
    if structure.view == "least":
        number, innermost, step = (v[a] for v in out.list_loops(out.local(depth)))
        others, inmost, _ = (v[b] for v in kernel.list_loops(kernel.local(depth)))
        alone = ((number > 1) & (innermost == 2)) | ((others > 1) & (inmost == 2))
        short = pace[0] * step <= 2 * pace[1] * (kernel.bound - 1)
        kept[able] = np.where(alone | (number > 0) & (others > 0) & short, np.inf, 0.0)
        yield 0, kept
        return
    each = structure.replicated_axes(structure.anchors[anchor][1])
    chains, kinds, lanes, spans = [], [], [], []
    for line, picked, paced in ((out, a, pace[0]), (kernel, b, pace[1])):
        extent = line.tile(line.local(depth), each)[picked]
        spans.append((extent - 1) * paced)
        lanes.append(line.lanes(each)[picked])
        at = line.loops_outside(order.depth[anchor])
        stretch = line.stretches[np.array(line.kept)[at]]
        factors, steps = line.tilings.factors[:, at], paced * line.tilings.inner[:, 1:][:, at]
        table = np.concatenate([factors, np.where(factors > 1, steps, 0.0)], axis=1)[picked]
        different, kind = np.unique(table, axis=0, return_inverse=True)
        kinds.append(kind.ravel())
        chains.append([
            tuple(
                (int(s), int(f), int(w)) for s, f, w in zip(stretch, *np.split(row, 2), strict=True)
                if f > 1
            )
            for row in different
        ])  # fmt: skip
    length = spans[0] + spans[1] + 1
    keys, back = np.unique(np.stack([*kinds, length], axis=1), axis=0, return_inverse=True)
    stretches = set(out.stretches[:depth]) if structure.lean else {0}
    for first in map(int, stretches):
        most = [
            calc_most_carried(chains[0][int(p)], chains[1][int(r)], int(n), first)
            for p, r, n in keys
        ]
        kept = np.zeros(len(rows[0]))
        kept[able] = np.array(most, float)[back.ravel()] * lanes[0] * lanes[1]
        yield first, kept


def _stands_outside(order: Order, line: Line, anchor: int) -> np.ndarray:
    """Whether a loop of this dimension may be the innermost one outside an input tile's free ones.

    It stands directly outside, but for axes and loops that bring the tile nothing new.
    """
    if order.free[anchor] >= 0:
        return np.ones(len(line), bool)
    loops = [line.kept.index(i) for i in order.loops(order.stretch(anchor)) if i in line.kept]
    return np.any(line.tilings.factors[:, loops] > 1, axis=1)


def _whole_words(
    structure: Structure, order: Order, mover: Line, still: Line, move: np.ndarray,
    rest: np.ndarray, paces: tuple[int, int], anchor: int, words: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Part of the words of an input tile that no tail of one dimension hides, at least.

    Args:
        structure: the kind of core.
        order: the order.
        mover: the dimension whose last tile may be the only one of its piece.
        still: the other one of the window.
        move, rest: row of each of every combination.
        paces: input rows per step of each.
        anchor: the input tile.
        words: `(combinations,)` words along this axis of the window.
    """
    depth = order.depth[anchor]
    each = structure.replicated_axes(structure.anchors[anchor][1])
    tail = (mover.whole(depth) < 1) & _stands_outside(order, mover, anchor)
    size = (mover.tile(mover.local(depth), each) - 1) * paces[0] + 1
    lanes = mover.lanes(each)
    tiles = still.count(still.local(depth), each)[rest]
    # the last tile, in every lane, for all tiles of the other dimension
    last = lanes[move] * ((size[move] - 1) * tiles + (still.bound - tiles) * paces[1] + tiles)
    return np.where(tail[move], np.maximum(0.0, 1 - last / words), 1.0)


def _saved_words(
    structure: Structure, order: Order, mover: Line, still: Line, move: np.ndarray,
    rest: np.ndarray, paces: tuple[int, int], anchor: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Words kept from tile to tile while the loop just outside an input tile advances.

    A tile `m` long along the moving dimension and `n` along the other covers
    (m - 1) a + (n - 1) b + 1 rows, a and b being their paces; the next one begins m a further on,
    so that max(0, (n - 1) b + 1 - a) of them are kept.

    Args:
        structure: the kind of core.
        order: the order.
        mover: the dimension whose loop advances.
        still: the other dimension of the window.
        move, rest: row of each of every combination.
        paces: input rows per step of each.
        anchor: the input tile.

    Returns:
        Words kept, and whether there is such a loop.
    """
    depth = order.depth[anchor]
    each = structure.replicated_axes(structure.anchors[anchor][1])
    at = mover.local(max(i for i in range(depth) if order.elements[i] == "t"))
    between = mover.tilings.factors[:, at + 1 : mover.local(depth)].prod(axis=1)
    able = (mover.tilings.factors[:, at] > 1) & (between == 1)
    moves = mover.count(mover.local(depth), each) - mover.count(at, each)
    size = still.tile(still.local(depth), each)
    whole = np.floor(still.bound / size)
    over = still.bound - whole * size
    kept = whole * np.maximum(0, (size - 1) * paces[1] + 1 - paces[0])
    kept = kept + (over > 0) * np.maximum(0, (over - 1) * paces[1] + 1 - paces[0])
    saved = moves[move] * kept[rest]
    return saved, able[move] & (saved > 0)
