"""The halo as Timeloop keeps it: what an input tile shares with the one before it, in closed form.

How the rule was found, on the 300 Gemmini rows of the reference data, is told in
docs/theory/access_counts.md. Shapes use the glossary of `costs.encode`, without t.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.digits import calc_valid, max_last, prod_last, sum_last
from costs.encode import Array, LayerArrays, MappingArrays
from costs.layer import DIMS
from costs.tiles import Tiles
from costs.window import INPUT, PAIRS, calc_box_sums


def calc_carries(layer: LayerArrays, mapping: MappingArrays, tiles: Tiles, xp: ModuleType) -> Array:
    """Whether the "timeloop" halo keeps the overlap of input tiles as a loop advances (eq. 9).

    Timeloop keeps it while the tile goes on moving by the same vector as in the step before, and
    takes a loop to be in its second iteration when the loop outside it advances. The innermost
    loop always goes on. Others do where their vector, less those of all loops inside them, is the
    innermost's; with imperfect factors along the window they are taken not to. [..., c, i] boolean.
    """
    number = np.arange(mapping.loop_dim.shape[-2], dtype=np.float64)[None, :] + 1
    innermost = max_last(tiles.depth[..., INPUT, :, :], xp)[..., None]
    is_innermost = number == innermost
    same = number > 0
    ahead = [_calc_advance(mapping, tiles, d, xp).second for d in range(len(DIMS))]
    vector = [ahead[DIMS.index(dim)] for dim in "GNC"]
    for axis, (out, kernel) in enumerate(PAIRS):
        stride, dilation = (
            layer.stride[..., axis, None, None],
            layer.dilation[..., axis, None, None],
        )
        vector.append(stride * ahead[out] + dilation * ahead[kernel])
    for moved in vector:
        usual = sum_last(xp.where(is_innermost, moved, 0.0))
        same = same & (moved == usual[..., None])
    perfect = prod_last(mapping.factor) == layer.bounds
    carries = number < 0
    for pair in PAIRS:
        along = (mapping.loop_dim[..., pair[0]] | mapping.loop_dim[..., pair[1]])[..., None, :]
        whole = (perfect[..., pair[0]] & perfect[..., pair[1]])[..., None, None]
        carries = carries | along & (is_innermost | whole & same & (number < innermost))
    return carries


def calc_shared_by_advance(
    layer: LayerArrays, mapping: MappingArrays, tiles: Tiles, xp: ModuleType
) -> Array:
    """Rows times columns that input tiles keep as each loop advances, padding included (eq. 9).

    To be used where `calc_carries` holds: for the innermost loop, and for others of perfect
    factors. There the loops inside the advancing one are taken to be in their second iteration;
    never is more kept than from their last one, which is the true overlap.
    [..., c, i] words of one input plane.
    """
    depth = tiles.depth[..., INPUT, :, :]
    innermost = max_last(depth, xp)
    totals = [
        part[..., 0, 0] + part[..., 0, 1] + part[..., 1, 0] + part[..., 1, 1]
        for part in calc_box_sums(layer, tiles, xp)
    ]
    number = np.arange(mapping.loop_dim.shape[-2], dtype=np.float64)[None, :] + 1
    shared = xp.zeros_like(depth[..., :1]) + xp.zeros_like(number)
    for axis, (out, kernel) in enumerate(PAIRS):
        stride, dilation = layer.stride[..., axis, None], layer.dilation[..., axis, None]
        steps = {out: stride, kernel: dilation}
        p, r = (_calc_advance(mapping, tiles, d, xp) for d in steps)
        length = stride * (tiles.extent[..., INPUT, :, out] - 1) + 1
        length = length + dilation * (tiles.extent[..., INPUT, :, kernel] - 1)
        moved = xp.maximum(
            xp.abs(stride[..., None] * p.second + dilation[..., None] * r.second),
            xp.abs(stride[..., None] * p.last + dilation[..., None] * r.last),
        )
        kept = xp.maximum(length[..., None] - moved, 0.0) * p.often * r.often
        for d, other in ((out, kernel), (kernel, out)):
            clipped = _kept_innermost(mapping, tiles, d, other, innermost, steps, xp)
            at = (number == innermost[..., None]) & mapping.loop_dim[..., None, :, d]
            kept = xp.where(at, clipped[..., None], kept)
        along = (mapping.loop_dim[..., out] | mapping.loop_dim[..., kernel])[..., None, :]
        shared = xp.where(along, kept * totals[1 - axis][..., None], shared)
    return shared


class _Advance(NamedTuple):
    """What happens to a dimension as each loop advances, [c, i], for perfect factors.

    Attributes:
        second: indices by which the tile moves where the loops inside the advancing one go from
            their second iteration to the first.
        last: the same from their last iteration.
        often: number of tiles, over instances, that follow.
    """

    second: Array
    last: Array
    often: Array


def _calc_advance(mapping: MappingArrays, tiles: Tiles, d: int, xp: ModuleType) -> _Advance:
    """How tiles of dimension d move as each loop advances."""
    loops = np.arange(mapping.loop_dim.shape[-2], dtype=np.float64)[None, :]
    second = last = xp.zeros_like(tiles.extent[..., INPUT, :, d, None]) + xp.zeros_like(loops)
    often = second + 1
    for m in range(mapping.factor.shape[-1]):
        factor = mapping.factor[..., None, d, m, None]
        order = mapping.order[..., None, d, m, None]
        outside = tiles.outside[..., INPUT, :, d, m, None]
        running = tiles.running[..., INPUT, :, d, m, None] & (factor > 1)
        step = xp.where(running, tiles.weight[..., None, d, m, None], 0.0)
        own = xp.where(order == loops, step, 0.0)
        inside = xp.where(order > loops, step, 0.0)
        second, last = second + own - inside, last + own - inside * (factor - 1)
        often = often * xp.where(
            running & (order >= loops),
            xp.where(order == loops, factor - 1, 1.0),
            xp.where(outside, factor, 1.0),
        )
    return _Advance(second, last, often)


def _kept_innermost(
    mapping: MappingArrays,
    tiles: Tiles,
    d: int,
    other: int,
    innermost: Array,
    steps: dict[int, Array],
    xp: ModuleType,
) -> Array:
    """Rows (or columns) kept as the innermost loop, one of dimension d, advances. [..., c].

    Exact with clipped tiles too: a tile starts at or before the end of the full one before it, so
    that they share as much whether or not it is clipped.
    """
    factor, weight = mapping.factor[..., None, d, :], tiles.weight[..., None, d, :]
    loop = tiles.running[..., INPUT, :, d, :]
    loop = loop & (mapping.order[..., None, d, :] + 1 == innermost[..., None])
    bound = tiles.all_words[..., INPUT, :, d]
    outside = tiles.outside[..., INPUT, :, d, :]
    starts = calc_valid(factor, weight, outside & ~loop, bound, xp)
    moves = tiles.all_tiles[..., INPUT, :, d] - starts
    shift = sum_last(xp.where(loop, weight, 0.0))
    base = steps[d] * (tiles.extent[..., INPUT, :, d] - 1 - shift) + 1
    full = tiles.extent[..., INPUT, :, other]
    number = tiles.all_tiles[..., INPUT, :, other]
    part = tiles.all_words[..., INPUT, :, other] - (number - 1) * full
    kept = (number - 1) * xp.maximum(base + steps[other] * (full - 1), 0.0)
    return moves * (kept + xp.maximum(base + steps[other] * (part - 1), 0.0))
