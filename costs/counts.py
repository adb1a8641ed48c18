"""Access counts: words read and written at every level for every operand.

Every level that holds an operand serves the next one inwards, its child; the innermost serves the
MACs. A child's tile is brought in again when, and only when, its index changes. Out of scope: what
an access costs (`costs.energy`, `costs.latency`). Shapes use the glossary of `costs.encode`;
equations in docs/theory/access_counts.md.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.conventions import Conventions
from costs.digits import as_rank, sum_last
from costs.encode import Array, CoreArrays, LayerArrays, MappingArrays
from costs.errors import InputError
from costs.halo import calc_advance, calc_carries, calc_shared_by_advance
from costs.layer import DIMS, OPERANDS, RELEVANT
from costs.tiles import Tiles, calc_turns
from costs.window import (
    Lines,
    calc_box_sums,
    calc_real_sums,
    calc_shared_by_loop,
    number_tiles,
)

Limits = tuple[int, int, int, int]
"""Largest P, R, Q and S of the layers at hand."""

# tiles of outputs times tiles of the kernel in one direction, all of which stand in memory
_MAX_PAIRS = 400_000

_OUT = OPERANDS.index("O")
_IN = OPERANDS.index("I")

# dimensions that index an operand one to one
_PLAIN = {
    "W": tuple(DIMS.index(dim) for dim in "GKCRS"),
    "I": tuple(DIMS.index(dim) for dim in "GNC"),
    "O": tuple(DIMS.index(dim) for dim in "GNKPQ"),
}
_WINDOW = tuple(DIMS.index(dim) for dim in "PRQS")


class Counts(NamedTuple):
    """Words that cross the interface between each child and the level that serves it.

    Attributes:
        served: [t, c] words read above, by the parent, for the child.
        taken: [t, c] words written above, by the parent, from the child (outputs).
        filled: [t, c] words written into the child.
        drained: [t, c] words read from the child on their way up.
        partial: [t, c] whether partial sums cross: some output is written more than once.
        above, below: [t, c] words of an average transfer at the parent's and the child's port;
            `None` where accesses are fractional.
    """

    served: Array
    taken: Array
    filled: Array
    drained: Array
    partial: Array
    above: Array | None = None
    below: Array | None = None


def calc_counts(
    layer: LayerArrays,
    core: CoreArrays,
    mapping: MappingArrays,
    tiles: Tiles,
    conventions: Conventions,
    xp: ModuleType,
    limits: Limits | None = None,
) -> Counts:
    """Words crossing every interface.

    Args:
        layer: the layer.
        core: the core.
        mapping: the mapping.
        tiles: its tiles.
        conventions: static.
        xp: array namespace.
        limits: at least the bounds of P, R, Q, S; needed when traced, if padding is skipped or
            the halo "exact". Static.
    """
    inputs = _calc_inputs(layer, mapping, tiles, conventions, xp, limits)
    parts = []
    for t, operand in enumerate(OPERANDS):
        words = inputs if operand == "I" else _calc_words(mapping, tiles, operand, xp)
        visits = (tiles.fills[..., t, :, :], tiles.reads[..., t, :, :])
        every_step = operand == "I" and conventions.halo == "exact"
        totals = [
            words.upto[..., -1] * part[..., -1] if every_step else _sum_changes(words.upto, part)
            for part in visits
        ]
        if words.shared is not None:
            totals = [
                total - sum_last(words.shared * _advances(mapping, part, xp))
                for total, part in zip(totals, visits, strict=True)
            ]
        parts.append((*totals, words.upto[..., -1]))
    fills, reads, tensor = (xp.stack(part, axis=-2) for part in zip(*parts, strict=True))

    exists = (xp.sum(core.parent, axis=-1) > 0) & layer.exists[..., :, None]
    is_out = as_rank(np.arange(3)[:, None] == _OUT, fills)
    to_mac = as_rank(np.arange(fills.shape[-1]) == fills.shape[-1] - 1, fills)
    seen, seen_above = tensor * tiles.instances, tensor * tiles.parents
    # outputs that pass an interface once, finished, are read by no tool
    partial = reads > seen_above
    counted = {"elided": False, "at_mac": to_mac, "counted": partial}[conventions.first_read]
    served = xp.where(is_out, reads - xp.where(counted, 0.0, seen_above), reads)
    returning = partial & (conventions.first_read == "counted")
    filled = xp.where(is_out, fills - xp.where(returning, 0.0, seen), fills)
    above = below = None
    if conventions.accesses == "whole":
        sent, arrived = calc_transfers(core, mapping, tiles, xp)
        above, below = reads / sent, fills / arrived
    return Counts(
        served=xp.where(exists, served, 0.0),
        taken=xp.where(exists & is_out, reads, 0.0),
        filled=xp.where(exists & ~to_mac, filled, 0.0),
        drained=xp.where(exists & is_out & ~to_mac & conventions.drain_reads, fills, 0.0),
        partial=exists & is_out & partial,
        above=above,
        below=below,
    )


def calc_transfers(
    core: CoreArrays, mapping: MappingArrays, tiles: Tiles, xp: ModuleType
) -> tuple[Array, Array]:
    """Transfers from each parent, for all instances it serves at once, and to each child. [t, c].

    Tiles brought in, each as often as in (4), whatever their size (eq. 14).
    """
    turns = calc_turns(core, mapping, tiles, xp)
    sides = ((*turns, tiles.reads), (tiles.all_tiles, tiles.last_tiles, tiles.fills))
    totals = []
    for every, at_last, visits in sides:
        columns = []
        for t, operand in enumerate(OPERANDS):
            usual, last = _changes(mapping, tiles, t, xp)
            upto = None
            for d in map(DIMS.index, sorted(RELEVANT[operand])):
                ends = at_last[..., t, :, d, None]
                rest = every[..., t, :, d, None] - ends
                number = xp.where(usual[..., d, :], rest, 0.0) + xp.where(
                    last[..., d, :], ends, 0.0
                )
                upto = number if upto is None else upto * number
            columns.append(_sum_changes(upto, visits[..., t, :, :]))
        totals.append(xp.stack(columns, axis=-2))
    return totals[0], totals[1]


class _Words(NamedTuple):
    """Words of all tiles of an operand.

    Attributes:
        upto: [c, i + 1] words of tiles for which the innermost loop that changes the tile is among
            the first i.
        shared: [c, i] words a tile shares with the one before it as loop i advances.
    """

    upto: Array
    shared: Array | None = None


def _calc_words(mapping: MappingArrays, tiles: Tiles, operand: str, xp: ModuleType) -> _Words:
    """Words of an operand's tiles over the dimensions that index it one to one (eq. 5)."""
    t = OPERANDS.index(operand)
    usual, last = _changes(mapping, tiles, t, xp)
    upto = None
    for d in _PLAIN[operand]:
        at_last = tiles.last_words[..., t, :, d, None]
        rest = tiles.all_words[..., t, :, d, None] - at_last
        words = xp.where(usual[..., d, :], rest, 0.0) + xp.where(last[..., d, :], at_last, 0.0)
        upto = words if upto is None else upto * words
    return _Words(upto)


def _calc_inputs(
    layer: LayerArrays,
    mapping: MappingArrays,
    tiles: Tiles,
    conventions: Conventions,
    xp: ModuleType,
    limits: Limits | None,
) -> _Words:
    """Words of input tiles, and what each shares with the one before (eq. 6 to 10)."""
    planes = _calc_words(mapping, tiles, "I", xp).upto
    skip = conventions.padding == "skipped"
    storage, macs = slice(0, -1), slice(-1, None)
    lines: dict[str, Lines] = {}
    if skip or conventions.halo == "exact":
        # the tile before matters to what is kept of it
        kept = conventions.halo != "whole"
        lines = _number_all(mapping, tiles, storage, limits, xp, before_too=kept)
    if skip:
        at_mac = calc_real_sums(
            layer, _number_all(mapping, tiles, macs, limits, xp, before_too=False), xp
        )
        stored = calc_real_sums(layer, lines, xp)
        sums = tuple(xp.concatenate(part, axis=-3) for part in zip(stored, at_mac, strict=True))
    else:
        sums = calc_box_sums(layer, tiles, xp)
    changes = _changes(mapping, tiles, _IN, xp)
    upto = planes
    for part, (out, kernel) in zip(sums, (_WINDOW[:2], _WINDOW[2:]), strict=True):
        total = xp.zeros_like(planes)
        for i, by_out in enumerate(changes):
            for j, by_kernel in enumerate(changes):
                both = by_out[..., out, :] & by_kernel[..., kernel, :]
                total = total + xp.where(both, part[..., i, j, None], 0.0)
        upto = upto * total
    if conventions.halo == "whole":
        return _Words(upto)

    if conventions.halo == "exact":
        window = calc_shared_by_loop(layer, lines, skip, xp)
    else:
        advance = calc_advance(mapping, tiles, xp)
        carries = calc_carries(layer, mapping, tiles, advance, xp)[..., storage, :]
        if skip:
            window = calc_shared_by_loop(layer, lines, skip, xp)
        else:
            window = calc_shared_by_advance(layer, mapping, tiles, advance, xp)[..., storage, :]
        window = xp.where(carries, window, 0.0)
    moves_plane = mapping.loop_dim[..., None, :, _PLAIN["I"]].any(-1)
    shared = xp.where(moves_plane, 0.0, planes[..., storage, 1:] * window)
    # MACs hold nothing that the next step could use
    return _Words(upto, xp.concatenate([shared, xp.zeros_like(upto[..., macs, 1:])], axis=-2))


def _number_all(
    mapping: MappingArrays,
    tiles: Tiles,
    children: slice,
    limits: Limits | None,
    xp: ModuleType,
    *,
    before_too: bool,
) -> dict[str, Lines]:
    """The tiles of P, R, Q and S one by one, as many as there are where `limits` says nothing."""
    lines: dict[str, Lines] = {}
    numbers = []
    for index, dim in enumerate("PRQS"):
        if limits is None:
            number = tiles.all_tiles[..., _IN, children, DIMS.index(dim)]
            numbers.append(int(np.max(number, initial=1)))
        else:
            numbers.append(limits[index])
    for pairs in (numbers[0] * numbers[1], numbers[2] * numbers[3]):
        if pairs > _MAX_PAIRS:
            raise InputError(
                "too many tiles to be told apart, as padding 'skipped' and halo 'exact' need",
                key="conventions",
                value=pairs,
                allowed=f"at most {_MAX_PAIRS} along height or width",
            )
    for dim, most in zip("PRQS", numbers, strict=True):
        lines[dim] = number_tiles(mapping, tiles, dim, children, most, xp, before_too=before_too)
    return lines


def _changes(mapping: MappingArrays, tiles: Tiles, t: int, xp: ModuleType) -> tuple[Array, Array]:
    """Whether the first i loops hold all that change the tiles, [c, d, i + 1]: usual, then last.

    The MACs take every operand anew at every step, so that only all loops together do.
    """
    like = tiles.depth[..., t, :, :, None]
    children = like.shape[-3]
    to_mac = as_rank(np.arange(children)[:, None, None] == children - 1, like)
    first = as_rank(np.arange(mapping.loop_dim.shape[-2] + 1, dtype=np.float64), like)
    usual, last = (
        xp.where(to_mac, first == first[..., -1:], depth[..., t, :, :, None] <= first)
        for depth in (tiles.depth, tiles.last_depth)
    )
    return usual, last


def _sum_changes(upto: Array, visits: Array) -> Array:
    """Words brought in: each tile as often as the loops that change it come by (eq. 4)."""
    more = upto[..., 1:] - upto[..., :-1]
    return upto[..., 0] * visits[..., 0] + sum_last(more * visits[..., 1:])


def _advances(mapping: MappingArrays, visits: Array, xp: ModuleType) -> Array:
    """How often each loop advances, by the dimensions that do not index the inputs. [c, i]."""
    free = mapping.loop_dim[..., None, :, DIMS.index("K")]
    known = mapping.loop_dim.any(-1)[..., None, :]
    before, through = visits[..., :-1], visits[..., 1:]
    return xp.where(free, through - before, xp.where(known, before, 0.0))
