"""Traffic and energy of every level from its access counts."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from costs.counts import Counts
from costs.digits import as_rank, sum_last
from costs.encode import Array, CoreArrays, LayerArrays
from costs.layer import OPERANDS


class Traffic(NamedTuple):
    """What every level reads and writes, over all its instances.

    Attributes:
        read_words, write_words: [l, t] words.
        read_bits, write_bits: [l, t] bits that the accesses move; partial sums are wider than
            finished outputs, and whole accesses move the rest of the last one of a transfer too.
        held_bits: [l, t] bits of a word of the tile that the level holds.
    """

    read_words: Array
    write_words: Array
    read_bits: Array
    write_bits: Array
    held_bits: Array


def calc_traffic(layer: LayerArrays, core: CoreArrays, counts: Counts, xp: ModuleType) -> Traffic:
    """Words and bits at every level: towards its child and towards its parent."""
    is_out = as_rank(np.arange(3)[:, None] == OPERANDS.index("O"), counts.partial)
    whole, psum = layer.bits[..., :, None], layer.bits_psum[..., None, None]
    bits = xp.where(is_out & counts.partial, psum, whole)
    above = below = bits
    if counts.above is not None:
        at_parent = sum_last(core.parent * core.least[..., None, None, :])
        # the MACs, the last child, have no port
        at_child = xp.concatenate([core.least, xp.ones_like(core.least[..., :1])], axis=-1)
        above = bits * _fill_accesses(counts.above * bits, at_parent, xp)
        below = bits * _fill_accesses(counts.below * bits, at_child[..., None, :], xp)
    return Traffic(
        read_words=_at_levels(core, counts.served, counts.drained, xp),
        write_words=_at_levels(core, counts.taken, counts.filled, xp),
        read_bits=_at_levels(core, counts.served * above, counts.drained * below, xp),
        write_bits=_at_levels(core, counts.taken * above, counts.filled * below, xp),
        held_bits=_at_levels(core, bits, 0.0 * bits, xp),
    )


def _fill_accesses(bits: Array, width: Array, xp: ModuleType) -> Array:
    """What a transfer of so many bits in whole accesses is larger by, a factor (eq. 15)."""
    accesses = bits / xp.where(width > 0, width, 1.0)
    # what is whole but for rounding is whole
    return xp.where(
        bits > 0, xp.ceil(accesses * (1 - 1e-6)) / xp.where(bits > 0, accesses, 1.0), 1.0
    )


def calc_energy_pj(core: CoreArrays, traffic: Traffic) -> Array:
    """Dynamic energy of every level for every operand. [l, t] [pJ]."""
    reads = traffic.read_bits / core.width[..., :, None] * core.read_energy[..., :, None]
    writes = traffic.write_bits / core.width[..., :, None] * core.write_energy[..., :, None]
    return reads + writes


def calc_mac_energy_pj(layer: LayerArrays, core: CoreArrays) -> Array:
    """Energy of the MACs. [] [pJ]."""
    points = layer.bounds[..., 0]
    for d in range(1, layer.bounds.shape[-1]):
        points = points * layer.bounds[..., d]
    return points * layer.computes * core.mac_energy


def calc_leakage_pj(core: CoreArrays, used: Array, cycles: Array) -> Array:
    """Leakage of the instances that do any work, while the layer runs. [l] [pJ].

    Args:
        core: the core.
        used: [l] instances in use.
        cycles: [] duration [cycles].
    """
    seconds = cycles[..., None] / core.clock[..., None]
    return core.leakage * used * seconds * 1e12


def _at_levels(core: CoreArrays, below: Array, above: Array, xp: ModuleType) -> Array:
    """Sum at every level of what passes below it, [t, c], and above it, [t, l]: [l, t]."""
    columns = []
    for level in range(core.parent.shape[-1]):
        columns.append(sum_last(core.parent[..., level] * below) + above[..., level])
    return xp.stack(columns, axis=-2)
