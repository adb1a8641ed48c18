"""Input rows and columns: how many words tiles of a sliding window hold and share.

The rows of a tile with P outputs and R kernel rows are the box from the first to the last row any
of its windows touches: stride (P - 1) + dilation (R - 1) + 1. Shapes use the glossary of
`costs.encode`, without t: everything here is about the inputs. Equations in
docs/theory/access_counts.md.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.digits import as_rank, sum_last
from costs.encode import WINDOW, Array, LayerArrays, MappingArrays
from costs.layer import DIMS, OPERANDS
from costs.tiles import Tiles

INPUT = OPERANDS.index("I")
"""Index of the inputs among the operands."""

PAIRS = tuple((DIMS.index(out), DIMS.index(kernel)) for out, kernel in WINDOW)
"""Dimensions (output, kernel) of the window along height, then width."""


class Lines(NamedTuple):
    """Tiles of one dimension numbered one by one, [c, n]; see `number_tiles`.

    Attributes:
        start: first index of the tile.
        size: indices it holds, 0 beyond the tensor.
        last: whether it belongs to the last setting of the temporal loops.
        new: for each temporal loop, [c, n], whether the tile can follow as the loop advances.
        start_before, size_before: for each loop, [c, n], of the tile that stood there before.
    """

    start: Array
    size: Array
    last: Array
    new: list[Array]
    start_before: list[Array]
    size_before: list[Array]


def calc_box_sums(layer: LayerArrays, tiles: Tiles, xp: ModuleType) -> tuple[Array, Array]:
    """Sums of tile heights, and of widths, over all tiles, padding included (eq. 7).

    Returns:
        Two arrays [..., c, 2, 2]: tiles that are not the last of the output dimension or are, then
        the same of the kernel dimension [words].
    """
    sums = []
    for axis, (out, kernel) in enumerate(PAIRS):
        stride, dilation = layer.stride[..., axis, None, None, None], layer.dilation[..., axis]
        words_p, number_p = (part[..., :, None] for part in _split(tiles, out, xp))
        words_r, number_r = (part[..., None, :] for part in _split(tiles, kernel, xp))
        sums.append(
            stride * (words_p - number_p) * number_r
            + dilation[..., None, None, None] * (words_r - number_r) * number_p
            + number_p * number_r
        )
    return sums[0], sums[1]


def calc_real_sums(
    layer: LayerArrays, lines: dict[str, Lines], xp: ModuleType
) -> tuple[Array, Array]:
    """As `calc_box_sums`, padding left out (eq. 8)."""
    sums = []
    for axis, (out, kernel) in enumerate(WINDOW):
        p, r = lines[out], lines[kernel]
        first, after = _box(layer, axis, p.start, p.size, r.start, r.size, True, xp)
        length = xp.maximum(after - first, 0.0)
        parts = [
            xp.where(_outer(p.last == is_p, r.last == is_r), length, 0.0)
            for is_p in (False, True)
            for is_r in (False, True)
        ]
        total = xp.stack([sum_last(sum_last(part)) for part in parts], axis=-1)
        sums.append(total.reshape((*total.shape[:-1], 2, 2)))
    return sums[0], sums[1]


def calc_shared_by_loop(
    layer: LayerArrays, lines: dict[str, Lines], skip_padding: bool, xp: ModuleType
) -> Array:
    """Rows times columns that consecutive input tiles share as each loop advances (eq. 10).

    Returns:
        [..., c, i] words of one input plane, 0 where tiles share none.
    """
    products = None
    for axis, (out, kernel) in enumerate(WINDOW):
        p, r = lines[out], lines[kernel]
        now = _box(layer, axis, p.start, p.size, r.start, r.size, skip_padding, xp)
        overlaps = []
        for loop in range(len(p.new)):
            before = _box(
                layer,
                axis,
                p.start_before[loop],
                p.size_before[loop],
                r.start_before[loop],
                r.size_before[loop],
                skip_padding,
                xp,
            )
            length = xp.minimum(now[1], before[1]) - xp.maximum(now[0], before[0])
            possible = _outer(p.new[loop], r.new[loop]) & (length > 0)
            overlaps.append(sum_last(sum_last(xp.where(possible, length, 0.0))))
        stacked = xp.stack(overlaps, axis=-1)
        products = stacked if products is None else products * stacked
    return products


def number_tiles(
    mapping: MappingArrays, tiles: Tiles, dim: str, children: slice, most: int, xp: ModuleType,
    *, before_too: bool,
) -> Lines:  # fmt: skip
    """Tiles of a dimension of the inputs, one by one, with the tile before each (eq. 10).

    Args:
        mapping: the mapping.
        tiles: its tiles.
        dim: one of P, Q, R, S.
        children: which children; static.
        most: at least the number of tiles of the dimension; static.
        xp: array namespace.
        before_too: whether the tiles before are asked for; static.
    """
    d = DIMS.index(dim)
    extent = tiles.extent[..., INPUT, children, d, None]
    bound = tiles.all_words[..., INPUT, children, d, None]
    number = as_rank(np.arange(most, dtype=np.float64), extent) + xp.zeros_like(extent)
    digits = []
    for m in range(mapping.factor.shape[-1]):
        factor = mapping.factor[..., None, d, m, None]
        running = tiles.running[..., INPUT, children, d, m, None]
        weight = tiles.weight[..., None, d, m, None] / extent
        value = xp.floor((number + 0.5) / weight)
        value = value - factor * xp.floor((value + 0.5) / factor)
        digits.append(
            _Digit(
                value=xp.where(running, value, 0.0),
                loop=xp.where(running, mapping.order[..., None, d, m, None], -1.0),
                end=factor - 1,
                last=tiles.last_digit[..., INPUT, children, d, m, None],
                weight=weight,
            )
        )
    is_last = number >= 0
    for digit in digits:
        is_last = is_last & (digit.value == digit.last)
    new, before = [], []
    for loop in range(mapping.loop_dim.shape[-2] if before_too else 0):
        own = mapping.loop_dim[..., loop, d][..., None, None]
        can_follow, previous = _previous(digits, loop, own, number)
        new.append(can_follow & (number * extent < bound))
        before.append(previous * extent)

    def held(start: Array) -> Array:
        return xp.clip(bound - start, 0.0, extent)

    start = number * extent
    return Lines(start, held(start), is_last, new, before, [held(part) for part in before])


class _Digit(NamedTuple):
    """A digit of the tile number: its value [c, n]; [c, 1] the loop it belongs to (-1: none),
    its largest value, its value at the last tile, its place value."""

    value: Array
    loop: Array
    end: Array
    last: Array
    weight: Array


def _previous(digits: list[_Digit], loop: int, own: Array, number: Array) -> tuple[Array, Array]:
    """Which tiles can follow when a loop advances, and the number of the tile before them.

    Loops inside the advancing one start again at 0 after their last iteration: the radix less one,
    or, where the loops outside are at their last setting and stay there, that of the last tile.
    """
    can_follow = number >= 0
    at_last = ~own & can_follow
    moves = ~can_follow
    for digit in digits:
        can_follow = can_follow & ((digit.value == 0) | (digit.loop <= loop))
        can_follow = can_follow & ((digit.value > 0) | (digit.loop != loop))
        moves = moves | (digit.loop == loop)
        outside = (digit.loop >= 0) & (digit.loop < loop)
        at_last = at_last & ((digit.value == digit.last) | ~outside)
    before = number
    for digit in digits:
        end = at_last * digit.last + ~at_last * digit.end
        before = before + (digit.loop > loop) * end * digit.weight
        before = before - (digit.loop == loop) * digit.weight
    return can_follow & (moves | ~own), before


def _split(tiles: Tiles, d: int, xp: ModuleType) -> tuple[Array, Array]:
    """Indices in, and number of, tiles other than the last and of the last: [..., c, 2] each."""
    parts = []
    for every, last in (
        (tiles.all_words, tiles.last_words),
        (tiles.all_tiles, tiles.last_tiles),
    ):
        at_last = last[..., INPUT, :, d]
        parts.append(xp.stack([every[..., INPUT, :, d] - at_last, at_last], axis=-1))
    return parts[0], parts[1]


def _outer(left: Array, right: Array) -> Array:
    """[..., n], [..., k] -> [..., n, k], both true."""
    return left[..., :, None] & right[..., None, :]


def _box(
    layer: LayerArrays,
    axis: int,
    p_start: Array,
    p_size: Array,
    r_start: Array,
    r_size: Array,
    skip_padding: bool,
    xp: ModuleType,
) -> tuple[Array, Array]:
    """First row and the row after the last of tiles [..., c, n] by [..., c, k]; equal if empty."""
    stride = layer.stride[..., axis, None, None, None]
    dilation = layer.dilation[..., axis, None, None, None]
    p_start, p_size = p_start[..., :, None], p_size[..., :, None]
    r_start, r_size = r_start[..., None, :], r_size[..., None, :]
    first = stride * p_start + dilation * r_start - layer.pad[..., axis, None, None, None]
    after = first + stride * (p_size - 1) + dilation * (r_size - 1) + 1
    after = xp.where((p_size > 0) & (r_size > 0), after, first)
    if skip_padding:
        size = layer.size[..., axis, None, None, None]
        first, after = xp.clip(first, 0.0, size), xp.clip(after, 0.0, size)
    return first, after
