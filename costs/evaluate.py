"""The cost of a layer on a core under a mapping: accesses, energy, cycles, bandwidth, capacity.

`calc_cost` is the formula, over numpy (float64, the reported numbers) or jax.numpy (jit, vmap,
gradients); `evaluate` and `evaluate_many` are the same formula for people. Batched and single
evaluations agree to the last bit: every sum is elementwise and in a fixed order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from costs.conventions import TIMELOOP, Conventions
from costs.core import Core
from costs.counts import Limits, calc_counts
from costs.digits import prod_last, sum_last
from costs.encode import (
    Array,
    CoreArrays,
    LayerArrays,
    MappingArrays,
    encode_core,
    encode_layer,
    encode_mapping,
)
from costs.energy import Traffic, calc_energy_pj, calc_leakage_pj, calc_mac_energy_pj, calc_traffic
from costs.latency import Cycles, calc_cycles
from costs.layer import DIMS, OPERANDS, Layer
from costs.mapping import Mapping
from costs.tiles import Tiles, calc_tiles

Case = tuple[Layer, Core, Mapping]
"""What is evaluated."""

# arrays of a batch that stay in cache: 3,000 Gemmini cases took 5.0 s so, 6.9 s all at once
_BATCH_ELEMENTS = 400_000
_WINDOW_DIMS = tuple(DIMS.index(dim) for dim in "PRQS")
_PLAIN_INPUT_DIMS = tuple(DIMS.index(dim) for dim in "GNC")


class CostArrays(NamedTuple):
    """The cost of a case as arrays; glossary of axes in `costs.encode`.

    Attributes:
        traffic: words and bits read and written, [l, t].
        energy_pj: [l, t] dynamic energy [pJ].
        mac_energy_pj: [] [pJ].
        leakage_pj: [l] of the instances in use, while the layer runs [pJ].
        cycles: by cause [cycles].
        utilization: [] part of the PEs' cycles spent on points of the nest.
        required_bandwidth: [l] with which the level would not hold up computation [bytes/cycle],
            all instances together.
        io_bytes: [t] read from and written to each operand's home [bytes].
        footprint_bytes: [l, t] size of the tile of one instance [bytes].
        fits: [l] whether the tiles fit.
    """

    traffic: Traffic
    energy_pj: Array
    mac_energy_pj: Array
    leakage_pj: Array
    cycles: Cycles
    utilization: Array
    required_bandwidth: Array
    io_bytes: Array
    footprint_bytes: Array
    fits: Array


@dataclass(frozen=True)
class Cost:
    """The cost of one case, by name.

    Attributes:
        counts: words by level, operand and direction ("read", "write").
        traffic_bytes: the same in bytes.
        energy_by_level_pj: dynamic energy by level and operand [pJ].
        mac_energy_pj: energy of the MACs [pJ].
        leakage_pj: leakage of the instances in use, by level [pJ]; not part of `energy_pj`.
        cycles_by_cause: "compute", every level's transfers, "fill" [cycles].
        cycles: duration [cycles].
        latency_s: duration [s].
        utilization: part of the PEs' cycles spent on points of the nest.
        required_bandwidth: by level, with which it would not hold up computation [bytes/cycle].
        io_bytes: read from and written to each operand's home [bytes].
        io_bandwidth: what the homes must give for computation not to wait [bytes/cycle].
        footprint_bytes: size of one instance's tiles by level and operand [bytes].
        overfull: levels whose tiles do not fit.
    """

    counts: dict[str, dict[str, dict[str, float]]]
    traffic_bytes: dict[str, dict[str, dict[str, float]]]
    energy_by_level_pj: dict[str, dict[str, float]]
    mac_energy_pj: float
    leakage_pj: dict[str, float]
    cycles_by_cause: dict[str, float]
    cycles: float
    latency_s: float
    utilization: float
    required_bandwidth: dict[str, float]
    io_bytes: dict[str, float]
    io_bandwidth: float
    footprint_bytes: dict[str, dict[str, float]]
    overfull: tuple[str, ...]

    @property
    def energy_pj(self) -> float:
        """Dynamic energy [pJ]: levels outermost first, then MACs."""
        total = 0.0
        for operands in self.energy_by_level_pj.values():
            for energy in operands.values():
                total += energy
        return total + self.mac_energy_pj

    @property
    def edp(self) -> float:
        """Energy-delay product [pJ * cycle]."""
        return self.energy_pj * self.cycles

    @property
    def fits(self) -> bool:
        """Whether all tiles fit."""
        return not self.overfull

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dictionaries, for JSON."""
        return {**asdict(self), "energy_pj": self.energy_pj, "fits": self.fits}


def calc_cost(
    layer: LayerArrays,
    core: CoreArrays,
    mapping: MappingArrays,
    conventions: Conventions = TIMELOOP,
    xp: ModuleType = np,
    limits: Limits | None = None,
) -> CostArrays:
    """The cost of encoded cases, over any leading axes.

    Args:
        layer: the layer; traced.
        core: the core; traced.
        mapping: the mapping; traced.
        conventions: static.
        xp: numpy or jax.numpy.
        limits: at least the bounds of P, R, Q, S (`window_limits`); needed when traced, with
            padding "skipped" or halo "exact". Static.
    """
    tiles = calc_tiles(layer, core, mapping, xp)
    counts = calc_counts(layer, core, mapping, tiles, conventions, xp, limits)
    traffic = calc_traffic(layer, core, counts, xp)
    footprint_bytes = calc_footprint_bytes(layer, core, tiles, traffic, conventions, xp)
    used = tiles.used[..., :-1]
    cycles = calc_cycles(core, traffic, tiles.steps, used, footprint_bytes, conventions, xp)
    moved = sum_last(traffic.read_bits + traffic.write_bits) / 8
    home = core.stored & ~(sum_last(core.parent)[..., :-1] > 0)
    io_bits = xp.where(xp.swapaxes(home, -1, -2), traffic.read_bits + traffic.write_bits, 0.0)
    return CostArrays(
        traffic=traffic,
        energy_pj=calc_energy_pj(core, traffic),
        mac_energy_pj=calc_mac_energy_pj(layer, core),
        leakage_pj=calc_leakage_pj(core, used, cycles.total),
        cycles=cycles,
        utilization=prod_last(layer.bounds) / (cycles.total * core.pes),
        required_bandwidth=moved / tiles.steps[..., None],
        io_bytes=sum_last(xp.swapaxes(io_bits, -1, -2)) / 8,
        footprint_bytes=footprint_bytes,
        fits=calc_fits(core, footprint_bytes, conventions, xp),
    )


def calc_footprint_bytes(
    layer: LayerArrays, core: CoreArrays, tiles: Tiles, traffic: Traffic,
    conventions: Conventions, xp: ModuleType,
) -> Array:  # fmt: skip
    """Size of a full tile of one instance. [l, t] [bytes] (eq. 11)."""
    extent = tiles.extent[..., :-1, :]
    weights = extent[..., 0, :, :]
    words_w = (
        weights[..., 0] * weights[..., 2] * weights[..., 3] * weights[..., 6] * weights[..., 7]
    )
    inputs = extent[..., 1, :, :]
    words_i = inputs[..., 0] * inputs[..., 1] * inputs[..., 3]
    for axis, (out, kernel) in enumerate((_WINDOW_DIMS[:2], _WINDOW_DIMS[2:])):
        along_out = layer.stride[..., axis, None] * (inputs[..., out] - 1)
        along_kernel = layer.dilation[..., axis, None] * (inputs[..., kernel] - 1)
        rows = along_out + along_kernel + 1
        if conventions.padding == "skipped":
            rows = xp.minimum(rows, layer.size[..., axis, None])
        words_i = words_i * rows
    outputs = extent[..., 2, :, :]
    words_o = (
        outputs[..., 0] * outputs[..., 1] * outputs[..., 2] * outputs[..., 4] * outputs[..., 5]
    )
    words = xp.stack([words_w, words_i, words_o], axis=-1)
    there = core.stored & layer.exists[..., :, None]
    return xp.where(xp.swapaxes(there, -1, -2), words * traffic.held_bits / 8, 0.0)


def calc_fits(
    core: CoreArrays, footprint_bytes: Array, conventions: Conventions, xp: ModuleType
) -> Array:
    """Whether every level holds its tiles, `buffering` times. [l] boolean."""
    needed = xp.where(core.limited, footprint_bytes, 0.0) * conventions.buffering
    together = sum_last(needed) <= core.capacity[..., 0]
    alone = (needed <= core.capacity).all(-1)
    return xp.where(core.shared, together, alone)


def evaluate(
    layer: Layer, core: Core, mapping: Mapping, conventions: Conventions = TIMELOOP
) -> Cost:
    """The cost of a layer on a core under a mapping.

    A mapping whose tiles do not fit is evaluated all the same; `Cost.overfull` says where.

    Raises:
        InputError: the mapping does not run this layer on this core.
    """
    return evaluate_many([(layer, core, mapping)], conventions)[0]


def evaluate_many(cases: Iterable[Case], conventions: Conventions = TIMELOOP) -> list[Cost]:
    """The costs of many cases at once, each the same to the last bit as evaluated alone.

    Raises:
        InputError: a mapping does not run its layer on its core.
    """
    cases = list(cases)
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (_, core, _) in enumerate(cases):
        alike[len(core.levels), len(core.axes)].append(index)
    costs: dict[int, Cost] = {}
    for indices in alike.values():
        size = _batch_size([cases[index] for index in indices], conventions)
        for start in range(0, len(indices), size):
            chosen = indices[start : start + size]
            costs.update(
                zip(chosen, _evaluate_alike([cases[i] for i in chosen], conventions), strict=True)
            )
    return [costs[index] for index in range(len(cases))]


def encode_many(cases: Sequence[Case]) -> tuple[LayerArrays, CoreArrays, MappingArrays]:
    """The arrays of cases with equally many levels and axes, stacked along a leading axis."""
    loops = max(len(mapping.loops) for _, _, mapping in cases)
    digits = max(_most_digits(mapping) for _, _, mapping in cases)
    layers = {id(layer): encode_layer(layer) for layer, _, _ in cases}
    cores = {(id(core), id(layer)): encode_core(core, layer) for layer, core, _ in cases}
    mappings = [encode_mapping(*case, loops=loops, digits=digits) for case in cases]
    return (
        LayerArrays(*map(np.stack, zip(*(layers[id(c[0])] for c in cases), strict=True))),
        CoreArrays(*map(np.stack, zip(*(cores[id(c[1]), id(c[0])] for c in cases), strict=True))),
        MappingArrays(*map(np.stack, zip(*mappings, strict=True))),
    )


def window_limits(layers: Iterable[Layer]) -> Limits:
    """`limits` of `calc_cost` for these layers: the largest P, R, Q and S."""
    sizes = [(layer.P, layer.R, layer.Q, layer.S) for layer in layers]
    largest = [max(column) for column in zip(*sizes, strict=True)]
    return largest[0], largest[1], largest[2], largest[3]


def _most_digits(mapping: Mapping) -> int:
    """At least the number of digits of any dimension."""
    factors = [*mapping.loops, *(f for part in mapping.spatial.values() for f in part)]
    dims = [dim for dim, factor in factors if factor > 1]
    return max((dims.count(dim) for dim in set(dims)), default=1)


def _batch_size(cases: Sequence[Case], conventions: Conventions) -> int:
    """How many of these cases to evaluate at once, by the memory of the largest arrays."""
    loops = max(len(mapping.loops) for _, _, mapping in cases) + 1
    digits = max(_most_digits(mapping) for _, _, mapping in cases)
    children = len(cases[0][1].levels) + 1
    elements = 9 * children * loops * digits
    if conventions.padding == "skipped" or conventions.halo == "exact":
        p, r, q, s = window_limits(layer for layer, _, _ in cases)
        elements += children * max(p * r, q * s) + children * loops * (p + q)
    return max(1, _BATCH_ELEMENTS // elements)


def _evaluate_alike(cases: Sequence[Case], conventions: Conventions) -> list[Cost]:
    """The costs of cases with equally many levels and axes."""
    arrays = calc_cost(*encode_many(cases), conventions)
    traffic, cycles = arrays.traffic, arrays.cycles
    seconds = cycles.total / np.array([core.clock_hz for _, core, _ in cases])
    io_bandwidth = sum_last(arrays.io_bytes) / cycles.compute
    columns = (
        np.stack([traffic.read_words, traffic.write_words], axis=-1),
        np.stack([traffic.read_bits, traffic.write_bits], axis=-1) / 8,
        arrays.energy_pj,
        arrays.mac_energy_pj,
        arrays.leakage_pj,
        cycles.compute,
        cycles.memory,
        cycles.fill,
        cycles.total,
        seconds,
        arrays.utilization,
        arrays.required_bandwidth,
        arrays.io_bytes,
        io_bandwidth,
        arrays.footprint_bytes,
        arrays.fits,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [_name(core, *row) for (_, core, _), row in zip(cases, rows, strict=True)]


def _name(
    core: Core,
    words: list[list[list[float]]],
    traffic_bytes: list[list[list[float]]],
    energy_pj: list[list[float]],
    mac_energy_pj: float,
    leakage_pj: list[float],
    compute: float,
    memory: list[float],
    fill: float,
    total: float,
    latency_s: float,
    utilization: float,
    required_bandwidth: list[float],
    io_bytes: list[float],
    io_bandwidth: float,
    footprint_bytes: list[list[float]],
    fits: list[bool],
) -> Cost:
    """One row of a batch under the names of the core's levels."""
    names = [level.name for level in core.levels]

    def by_operand(rows: list[list[Any]]) -> dict[str, dict[str, Any]]:
        return {
            level.name: {t: row[i] for i, t in enumerate(OPERANDS) if t in level.operands}
            for level, row in zip(core.levels, rows, strict=True)
        }

    def by_direction(rows: list[list[list[float]]]) -> dict[str, dict[str, dict[str, float]]]:
        return by_operand([[{"read": r, "write": w} for r, w in row] for row in rows])

    return Cost(
        counts=by_direction(words),
        traffic_bytes=by_direction(traffic_bytes),
        energy_by_level_pj=by_operand(energy_pj),
        mac_energy_pj=mac_energy_pj,
        leakage_pj=dict(zip(names, leakage_pj, strict=True)),
        cycles_by_cause={"compute": compute, **dict(zip(names, memory, strict=True)), "fill": fill},
        cycles=total,
        latency_s=latency_s,
        utilization=utilization,
        required_bandwidth=dict(zip(names, required_bandwidth, strict=True)),
        io_bytes=dict(zip(OPERANDS, io_bytes, strict=True)),
        io_bandwidth=io_bandwidth,
        footprint_bytes=by_operand(footprint_bytes),
        overfull=tuple(name for name, ok in zip(names, fits, strict=True) if not ok),
    )
