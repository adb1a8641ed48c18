"""Tiles of every operand at every level: sizes, numbers, and how often the loops bring each back.

Shapes use the glossary of `costs.encode`; a child is a memory level or, last, the MACs, whose
tile is one point of the nest. Equations in docs/theory/access_counts.md.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.digits import as_rank, calc_last, calc_valid, calc_weights, max_last, prod_last, sum_last
from costs.encode import Array, CoreArrays, LayerArrays, MappingArrays
from costs.layer import DIMS

# dimensions that do not index each operand, the inputs' only one filled up to three
_FREE_DIMS = np.array(
    [
        [DIMS.index(dim) for dim in dims]
        for dims in (("N", "P", "Q"), ("K", "K", "K"), ("C", "R", "S"))
    ]
)
_FREE_DIM_COUNTS = np.array([[True, True, True], [True, False, False], [True, True, True]])


class Tiles(NamedTuple):
    """Tiles by operand, child and dimension.

    A dimension's last tile is the one at the largest valid setting of the temporal loops outside
    the tile, over all instances: it alone may see loops that have shrunk to one iteration.

    Attributes:
        outside: [t, c, d, m] whether the digit is outside the tile.
        running: [t, c, d, m] whether it is a temporal loop outside the tile.
        weight: [d, m] place value of each digit.
        last_digit: [t, c, d, m] running digits of the last tile.
        extent: [t, c, d] indices in a full tile.
        all_words, last_words: [t, c, d] indices in all tiles and in the last one, over instances.
        all_tiles, last_tiles: [t, c, d] tiles that hold any index, over instances.
        depth: [t, c, d] running loops as far as the innermost one, 0 without any.
        last_depth: [t, c, d] the same, of loops with more than one iteration at the last tile.
        fills: [t, c, i + 1] visits of a tile by the first i loops, over all instances that differ
            in dimensions which do not index the operand.
        reads: [t, c, i + 1] the same, instances that are served together counted once.
        instances: [t, c] instances that differ in dimensions which do not index the operand.
        parents: [t, c] the same of the parent.
        steps: [] valid settings of all temporal loops.
        used: [c] instances that do any work.
    """

    outside: Array
    running: Array
    weight: Array
    last_digit: Array
    extent: Array
    all_words: Array
    last_words: Array
    all_tiles: Array
    last_tiles: Array
    depth: Array
    last_depth: Array
    fills: Array
    reads: Array
    instances: Array
    parents: Array
    steps: Array
    used: Array


def calc_tiles(
    layer: LayerArrays, core: CoreArrays, mapping: MappingArrays, xp: ModuleType
) -> Tiles:
    """Tiles of all operands at all levels under a mapping."""
    factor = mapping.factor[..., None, None, :, :]
    weight = calc_weights(factor, xp)
    temporal = mapping.temporal[..., None, None, :, :]
    order = mapping.order[..., None, None, :, :]
    running = temporal & (order < mapping.position[..., None, None])
    axis = mapping.axis[..., None, None, :, :, :]
    along = _along(axis, core.replicated[..., None, :, :], xp)
    outside = running | along
    bound = layer.bounds[..., None, None, :] + xp.zeros_like(mapping.position)[..., None]
    last_digit = calc_last(factor, weight, running, bound, xp)
    at_last = bound - sum_last(last_digit * weight)
    fills, reads, instances, parents = _visits(layer, core, mapping, xp)
    used = calc_valid(factor, weight, along, bound, xp)
    steps = calc_valid(factor, weight, temporal, bound, xp)
    return Tiles(
        outside=outside,
        running=running,
        weight=weight[..., 0, 0, :, :],
        last_digit=last_digit,
        extent=calc_valid(factor, weight, ~outside, bound, xp),
        all_words=bound,
        last_words=calc_valid(factor, weight, ~running, at_last, xp),
        all_tiles=calc_valid(factor, weight, outside, bound, xp),
        last_tiles=calc_valid(factor, weight, outside & ~running, at_last, xp),
        depth=max_last(xp.where(running & (factor > 1), order + 1, 0.0), xp),
        last_depth=max_last(xp.where(last_digit > 0, order + 1, 0.0), xp),
        fills=fills,
        reads=reads,
        instances=instances,
        parents=parents,
        steps=prod_last(steps)[..., 0, 0],
        used=prod_last(used)[..., 0, :],
    )


def calc_turns(
    core: CoreArrays, mapping: MappingArrays, tiles: Tiles, xp: ModuleType
) -> tuple[Array, Array]:
    """Turns in which the tiles of each dimension are served, and those of its last tile. [t, c, d].

    As `all_tiles` and `last_tiles`, with instances that one parent serves at once counted as one.
    """
    factor = mapping.factor[..., None, None, :, :]
    weight = tiles.weight[..., None, None, :, :]
    one_by_one = core.parent_replicated | (
        core.replicated[..., None, :, :] & core.apart[..., :, None, :]
    )
    apart = _along(mapping.axis[..., None, None, :, :, :], one_by_one, xp)
    at_last = tiles.all_words - sum_last(tiles.last_digit * weight)
    return (
        calc_valid(factor, weight, tiles.running | apart, tiles.all_words, xp),
        calc_valid(factor, weight, apart & ~tiles.running, at_last, xp),
    )


def _along(axis: Array, replicated: Array, xp: ModuleType) -> Array:
    """Whether a digit is unrolled along an axis that has one instance per index.

    Args:
        axis: [..., t, 1, d, m, a] or [..., 1, 1, d, m, a] the axis of each digit.
        replicated: [..., t, c, a] or [..., 1, c, a] whether there is one instance per index.
        xp: array namespace.

    Returns:
        [..., t, c, d, m] or [..., 1, c, d, m], boolean.
    """
    found = xp.zeros_like(axis[..., 0] & replicated[..., None, None, 0])
    for a in range(axis.shape[-1]):
        found = found | (axis[..., a] & replicated[..., None, None, a])
    return found


def _visits(
    layer: LayerArrays, core: CoreArrays, mapping: MappingArrays, xp: ModuleType
) -> tuple[Array, Array, Array, Array]:
    """`fills`, `reads`, `instances` and `parents` of `Tiles`, from the dimensions that index not.

    Arrays are [..., t, c, e, m] for the three dimensions e of `_FREE_DIMS`, and
    [..., t, c, e, i + 1, m] where a number of loops matters.
    """
    bound = layer.bounds[..., _FREE_DIMS][..., :, None, :]
    factor = mapping.factor[..., _FREE_DIMS, :][..., None, :, :]
    bound = xp.where(as_rank(_FREE_DIM_COUNTS[:, None, :], bound), bound, 1.0)
    factor = xp.where(as_rank(_FREE_DIM_COUNTS[:, None, :, None], factor), factor, 1.0)
    weight = calc_weights(factor, xp)
    temporal = mapping.temporal[..., _FREE_DIMS, :][..., None, :, :]
    order = mapping.order[..., _FREE_DIMS, :][..., None, :, :]
    axis = mapping.axis[..., _FREE_DIMS, :, :][..., None, :, :, :]
    one_by_one = core.parent_replicated | (
        core.replicated[..., None, :, :] & core.apart[..., :, None, :]
    )
    along, along_parent, along_read = (
        _along(axis, replicated, xp)
        for replicated in (core.replicated[..., None, :, :], core.parent_replicated, one_by_one)
    )
    bound = bound + xp.zeros_like(mapping.position)[..., None]
    instances = prod_last(calc_valid(factor, weight, along, bound, xp))
    parents = prod_last(calc_valid(factor, weight, along_parent, bound, xp))

    running = temporal & (order < mapping.position[..., None, None])
    first = np.arange(mapping.loop_dim.shape[-2] + 1, dtype=np.float64)[:, None]
    among = running[..., None, :]
    among = among & (order[..., None, :] < as_rank(first, among))
    wide = (factor[..., None, :], weight[..., None, :])
    bounds = bound[..., None] + xp.zeros_like(among[..., 0])
    visits = []
    for spatial in (along, along_read):
        valid = calc_valid(*wide, among | spatial[..., None, :], bounds, xp)
        visits.append(valid[..., 0, :] * valid[..., 1, :] * valid[..., 2, :])
    return visits[0], visits[1], instances, parents
