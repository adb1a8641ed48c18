"""The halo as Timeloop keeps it: what an input tile shares with the one before it, in closed form.

How the rule was found, on the 300 Gemmini rows of the reference data, is told in
docs/theory/access_counts.md. Shapes use the glossary of `costs.encode`, without t.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.digits import as_rank, calc_valid, max_last, prod_last, sum_last
from costs.encode import Array, LayerArrays, MappingArrays
from costs.layer import DIMS
from costs.tiles import Tiles
from costs.window import INPUT, PAIRS, calc_box_sums


class Advance(NamedTuple):
    """How input tiles move as each loop advances, [c, d, i], for perfect factors.

    Attributes:
        second: indices by which the tile moves where the loops inside the advancing one go from
            their second iteration to the first.
        last: the same from their last iteration.
        often: number of tiles, over instances, that follow.
    """

    second: Array
    last: Array
    often: Array


def calc_advance(mapping: MappingArrays, tiles: Tiles, xp: ModuleType) -> Advance:
    """How the tiles of every dimension move as each loop advances."""
    extent = tiles.extent[..., INPUT, :, :, None]
    loops = as_rank(np.arange(mapping.loop_dim.shape[-2], dtype=np.float64), extent)
    second = last = xp.zeros_like(extent) + xp.zeros_like(loops)
    often = second + 1
    for m in range(mapping.factor.shape[-1]):
        factor = mapping.factor[..., None, :, m, None]
        order = mapping.order[..., None, :, m, None]
        outside = tiles.outside[..., INPUT, :, :, m, None]
        running = tiles.running[..., INPUT, :, :, m, None] & (factor > 1)
        step = xp.where(running, tiles.weight[..., None, :, m, None], 0.0)
        own = xp.where(order == loops, step, 0.0)
        inside = xp.where(order > loops, step, 0.0)
        second, last = second + own - inside, last + own - inside * (factor - 1)
        often = often * xp.where(
            running & (order >= loops),
            xp.where(order == loops, factor - 1, 1.0),
            xp.where(outside, factor, 1.0),
        )
    return Advance(second, last, often)


def calc_carries(
    layer: LayerArrays, mapping: MappingArrays, tiles: Tiles, advance: Advance, xp: ModuleType
) -> Array:
    """Whether the "timeloop" halo keeps the overlap of input tiles as a loop advances (eq. 9).

    Timeloop keeps it while the tile goes on moving by the same vector as in the step before, and
    takes a loop to be in its second iteration when the loop outside it advances. The innermost
    loop always goes on. Others do where their vector, less those of all loops inside them, is the
    innermost's; with imperfect factors along the window they are taken not to. [..., c, i] boolean.
    """
    innermost = max_last(tiles.depth[..., INPUT, :, :], xp)[..., None]
    number = as_rank(np.arange(mapping.loop_dim.shape[-2], dtype=np.float64) + 1, innermost)
    is_innermost = number == innermost
    ahead = advance.second
    vector = [ahead[..., DIMS.index(dim), :] for dim in "GNC"]
    for axis, (out, kernel) in enumerate(PAIRS):
        stride = layer.stride[..., axis, None, None] * ahead[..., out, :]
        vector.append(stride + layer.dilation[..., axis, None, None] * ahead[..., kernel, :])
    vectors = xp.stack(vector, axis=-2)
    usual = sum_last(xp.where(is_innermost[..., None, :], vectors, 0.0))[..., None]
    same = (vectors == usual).all(-2)
    perfect = prod_last(mapping.factor) == layer.bounds
    carries = number < 0
    for out, kernel in PAIRS:
        along = (mapping.loop_dim[..., out] | mapping.loop_dim[..., kernel])[..., None, :]
        whole = (perfect[..., out] & perfect[..., kernel])[..., None, None]
        carries = carries | along & (is_innermost | whole & same & (number < innermost))
    return carries


def calc_shared_by_advance(
    layer: LayerArrays, mapping: MappingArrays, tiles: Tiles, advance: Advance, xp: ModuleType
) -> Array:
    """Rows times columns that input tiles keep as each loop advances, padding included (eq. 9).

    To be used where `calc_carries` holds: for the innermost loop, and for others of perfect
    factors. There the loops inside the advancing one are taken to be in their second iteration;
    never is more kept than from their last one, which is the true overlap.
    [..., c, i] words of one input plane.
    """
    innermost = max_last(tiles.depth[..., INPUT, :, :], xp)[..., None]
    number = as_rank(np.arange(mapping.loop_dim.shape[-2], dtype=np.float64) + 1, innermost)
    moves, shift = _innermost_moves(mapping, tiles, innermost, xp)
    extent = tiles.extent[..., INPUT, :, :]
    tile_count = tiles.all_tiles[..., INPUT, :, :]
    part = tiles.all_words[..., INPUT, :, :] - (tile_count - 1) * extent
    totals = [
        boxes[..., 0, 0] + boxes[..., 0, 1] + boxes[..., 1, 0] + boxes[..., 1, 1]
        for boxes in calc_box_sums(layer, tiles, xp)
    ]
    shared = xp.zeros_like(innermost) + xp.zeros_like(number)
    for axis, (out, kernel) in enumerate(PAIRS):
        stride, dilation = layer.stride[..., axis, None], layer.dilation[..., axis, None]
        length = stride * (extent[..., out] - 1) + dilation * (extent[..., kernel] - 1) + 1
        moved = xp.maximum(
            *(
                xp.abs(
                    stride[..., None] * by[..., out, :] + dilation[..., None] * by[..., kernel, :]
                )
                for by in (advance.second, advance.last)
            )
        )
        often = advance.often[..., out, :] * advance.often[..., kernel, :]
        kept = xp.maximum(length[..., None] - moved, 0.0) * often
        for d, step, other, other_step in (
            (out, stride, kernel, dilation),
            (kernel, dilation, out, stride),
        ):
            # right with clipped tiles too: a tile starts at or before the end of the full one
            # before it, so that they share as much whether or not it is clipped
            base = step * (extent[..., d] - 1 - shift[..., d]) + 1
            full = xp.maximum(base + other_step * (extent[..., other] - 1), 0.0)
            clipped = xp.maximum(base + other_step * (part[..., other] - 1), 0.0)
            own = moves[..., d] * ((tile_count[..., other] - 1) * full + clipped)
            at = (number == innermost) & mapping.loop_dim[..., None, :, d]
            kept = xp.where(at, own[..., None], kept)
        along = (mapping.loop_dim[..., out] | mapping.loop_dim[..., kernel])[..., None, :]
        shared = xp.where(along, kept * totals[1 - axis][..., None], shared)
    return shared


def _innermost_moves(
    mapping: MappingArrays, tiles: Tiles, innermost: Array, xp: ModuleType
) -> tuple[Array, Array]:
    """How often tiles follow as the innermost loop advances, and by how many indices. [..., c, d].

    Meaningful for the dimension of that loop; `innermost` is [..., c, 1].
    """
    factor, weight = mapping.factor[..., None, :, :], tiles.weight[..., None, :, :]
    loop = tiles.running[..., INPUT, :, :, :]
    loop = loop & (mapping.order[..., None, :, :] + 1 == innermost[..., None])
    outside = tiles.outside[..., INPUT, :, :, :]
    starts = calc_valid(factor, weight, outside & ~loop, tiles.all_words[..., INPUT, :, :], xp)
    shift = sum_last(xp.where(loop, weight, 0.0))
    return tiles.all_tiles[..., INPUT, :, :] - starts, shift
