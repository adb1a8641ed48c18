"""Cycles of a layer by cause: computation, and each level's bandwidth."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from costs.conventions import Conventions
from costs.digits import max_last, sum_last
from costs.encode import Array, CoreArrays
from costs.energy import Traffic


class Cycles(NamedTuple):
    """Time by cause.

    Attributes:
        compute: [] one cycle for every setting of the temporal loops [cycles].
        memory: [l] transfers of a level, shared evenly by its instances in use [cycles].
        fill: [] loading the first tiles and draining the last outputs [cycles].
        total: [] [cycles].
    """

    compute: Array
    memory: Array
    fill: Array
    total: Array


def calc_cycles(
    core: CoreArrays,
    traffic: Traffic,
    steps: Array,
    used: Array,
    footprint_bytes: Array,
    conventions: Conventions,
    xp: ModuleType,
) -> Cycles:
    """Cycles by cause (eq. 12).

    Args:
        core: the core.
        traffic: what every level reads and writes.
        steps: [] settings of all temporal loops.
        used: [l] instances in use.
        footprint_bytes: [l, t] size of a tile [bytes].
        conventions: static.
        xp: array namespace.
    """
    read = sum_last(traffic.read_bits) / 8 / used
    written = sum_last(traffic.write_bits) / 8 / used
    memory = xp.maximum(
        xp.maximum(read / core.read_bandwidth, written / core.write_bandwidth),
        (read + written) / core.bandwidth,
    )
    if conventions.overlap:
        busy = xp.maximum(steps, max_last(memory, xp))
    else:
        busy = steps + sum_last(memory)
    fill = xp.zeros_like(busy)
    if conventions.fill:
        fill = calc_fill_cycles(core, footprint_bytes, xp)
    return Cycles(compute=steps, memory=memory, fill=fill, total=busy + fill)


def calc_fill_cycles(core: CoreArrays, footprint_bytes: Array, xp: ModuleType) -> Array:
    """Time before the first and after the last computation, level after level (eq. 13). [].

    Every level inside an operand's home waits for one tile of weights and inputs to be written,
    and at the end one tile of outputs is written into the level outside it.
    """
    total = xp.zeros_like(core.clock)
    for level in range(footprint_bytes.shape[-2]):
        loaded = footprint_bytes[..., level, 0] * has_parent(core, 0, level)
        loaded = loaded + footprint_bytes[..., level, 1] * has_parent(core, 1, level)
        rate = xp.minimum(core.write_bandwidth[..., level], core.bandwidth[..., level])
        total = total + loaded / rate
        drained = footprint_bytes[..., level, 2] * has_parent(core, 2, level)
        rate = xp.minimum(core.read_bandwidth[..., level], core.bandwidth[..., level])
        total = total + drained / rate
    return total


def has_parent(core: CoreArrays, operand: int, level: int) -> Array:
    """Whether a level is inside the home of an operand, as 0 or 1. []."""
    return sum_last(core.parent[..., operand, level, :])
