"""The best mapping of a layer on a core, exact over integer tilings, loop orders and positions.

`costs.search` leaves the few mappings one of which is best; here they are written out, evaluated
by the cost model itself, and compared. Every number reported is that evaluation's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from costs.bounds import calc_compulsory_words
from costs.candidate_cost import overstates
from costs.conventions import TIMELOOP, Conventions
from costs.core import Core
from costs.counts import calc_counts
from costs.digits import sum_last
from costs.encode import (
    CoreArrays,
    LayerArrays,
    MappingArrays,
    encode_core,
    encode_layer,
    encode_mapping,
)
from costs.energy import calc_energy_pj, calc_mac_energy_pj, calc_traffic
from costs.errors import InputError
from costs.evaluate import Cost, calc_fits, calc_footprint_bytes, evaluate, window_limits
from costs.hardware_points import Same
from costs.latency import calc_cycles
from costs.layer import OPERANDS, Layer
from costs.mapping import Mapping
from costs.orders import Structure, list_orders
from costs.polish import make_price, polish
from costs.real_count import find_rest
from costs.search import Candidates, find_candidates
from costs.tiles import calc_tiles
from costs.written_mapping import write_mapping

Objective = Literal["energy", "latency", "edp"]


@dataclass(frozen=True)
class Solutions:
    """The best mappings of one layer on several cores of one structure.

    Attributes:
        mappings: the candidates that remained, written out.
        best: `(points,)` index of the best mapping of each core; -1 where nothing fits.
        energy_pj: `(points, levels, operands)` dynamic energy [pJ].
        mac_energy_pj: `(points,)` [pJ].
        total_energy_pj: `(points,)` sum of both, outermost level first [pJ].
        cycles: `(points,)` [cycles].
        read_bytes, write_bytes: `(points, levels, operands)` traffic of each level [bytes].
        candidate_read_bits, candidate_write_bits: `(mappings, levels)` traffic of every candidate
            [bits], what `costs.envelope` chooses among.
        candidates: the search's own account, by equations (1) and (2).
        bound: what no mapping really undercuts; `None` where that was not asked.
        proved: whether no mapping really costs less; not where that was not asked.
    """

    mappings: tuple[Mapping, ...]
    best: np.ndarray
    energy_pj: np.ndarray
    mac_energy_pj: np.ndarray
    total_energy_pj: np.ndarray
    cycles: np.ndarray
    read_bytes: np.ndarray
    write_bytes: np.ndarray
    candidate_read_bits: np.ndarray
    candidate_write_bits: np.ndarray
    candidates: Candidates
    bound: float | None = None
    proved: bool = False


def check_objective(objective: str) -> None:
    """Raises InputError unless the objective is one of `Objective`."""
    if objective not in get_args(Objective):
        raise InputError(key="objective", value=objective, allowed=get_args(Objective))


def solve(
    layer: Layer,
    cores: Sequence[Core],
    objective: str,
    conventions: Conventions = TIMELOOP,
    limit_s: float | None = None,
    *,
    real: bool = False,
) -> Solutions:
    """The best mapping of a layer on each of several cores that differ in sizes and prices only.

    Args:
        layer: the layer.
        cores: cores with the same levels, axes and chains.
        objective: "energy", "latency" or "edp"; ties go to the lower energy, then to fewer cycles,
            then to less traffic at the outermost level and in all.
        conventions: how accesses are counted.
        limit_s: see `costs.search.find_candidates`.
        real: whether to look, for a single core, for mappings too whose real cost is less than
            that of the best by equations (1) and (2) (`costs.real_count`); where accesses are
            whole, which those leave out, with half of the time (`costs.polish`).
    """
    check_objective(objective)
    deadline_s = math.inf if limit_s is None else time.monotonic() + limit_s
    whole = conventions.accesses == "whole"
    if whole and len({tuple(level.access_bits for level in core.levels) for core in cores}) > 1:
        raise InputError(
            key="conventions.accesses", value="whole", allowed="cores with accesses of one width"
        )
    if whole and real and limit_s is not None:
        limit_s /= 2
    candidates = find_candidates(layer, cores, objective, conventions, limit_s)
    structure = Structure.of(layer, cores[0], conventions)
    orders = list_orders(structure)
    sizes = {
        axis.name: max(core.axes[number].size for core in cores)
        for number, axis in enumerate(cores[0].axes)
    }
    mappings, extents = [], []
    rows = candidates.rows
    for row in range(len(rows)):
        order = orders[rows.order[row]]
        mappings.append(
            write_mapping(layer, structure, order, rows, row, sizes, coarse=candidates.coarse)
        )
        extents.append(rows.values[row, structure.first_axis :])
    levels = len(cores[0].levels)
    if not mappings:
        shape = (len(cores), levels, len(OPERANDS))
        nothing = np.full(len(cores), math.nan)
        return Solutions(
            mappings=(),
            best=np.full(len(cores), -1),
            energy_pj=np.full(shape, math.nan),
            mac_energy_pj=nothing,
            total_energy_pj=nothing,
            cycles=nothing,
            read_bytes=np.full(shape, math.nan),
            write_bytes=np.full(shape, math.nan),
            candidate_read_bits=np.zeros((0, levels)),
            candidate_write_bits=np.zeros((0, levels)),
            candidates=candidates,
        )
    found = _select(
        layer, cores, tuple(mappings), np.array(extents), objective, conventions, candidates
    )
    if not real:
        return found
    rest = find_rest(
        layer, cores[0], objective, conventions, float(calc_goal(found, objective)[0]), deadline_s,
        rough=not candidates.proved or overstates(layer, conventions) or whole,
    )  # fmt: skip
    more, used = rest.mappings, rest.extents
    if whole:
        price = make_price(layer, cores[0], objective, conventions)
        more = tuple(polish(layer, cores[0], price, mappings, deadline_s))
        used = np.array([[one.spatial_factor(a.name) for a in cores[0].axes] for one in more])
    if more:
        found = _select(
            layer,
            cores,
            (*mappings, *more),
            np.concatenate([extents, used]),
            objective,
            conventions,
            candidates,
        )
    bound = float(calc_goal(found, objective)[0]) if rest.complete else rest.bound
    return replace(found, bound=bound, proved=rest.complete)


def calc_goal(found: Solutions, objective: str) -> np.ndarray:
    """Objective of the best mapping of every core; infinite where nothing fits."""
    energy, cycles = found.total_energy_pj, found.cycles
    goal = {"energy": energy, "latency": cycles, "edp": energy * cycles}[objective]
    return np.where(found.best < 0, math.inf, goal)


@lru_cache(maxsize=16)
def encode_cores(cores: tuple[Same, ...], bits: int) -> CoreArrays:
    """The arrays of several cores, stacked; factors of so many bits choose the MAC energy."""
    layer = Layer("bits", bits_w=bits, bits_i=bits)
    encoded = [encode_core(item.core, layer) for item in cores]
    return CoreArrays(*map(np.stack, zip(*encoded, strict=True)))


def _select(
    layer: Layer,
    cores: Sequence[Core],
    mappings: tuple[Mapping, ...],
    extents: np.ndarray,
    objective: str,
    conventions: Conventions,
    candidates: Candidates,
) -> Solutions:
    """Evaluates all candidates on all cores and picks the best of each."""
    layer_arrays = encode_layer(layer)
    encoded = encode_cores(tuple(map(Same, cores)), max(layer.bits_w, layer.bits_i))
    core_arrays = CoreArrays(*(field[:, None] for field in encoded))
    first = CoreArrays(*(field[0] for field in encoded))
    longest = max(len(mapping.loops) for mapping in mappings)
    digits = max(len(mapping.loops) + len(cores[0].axes) for mapping in mappings)
    # counts do not depend on the array's size, only on how much of it a mapping uses
    sizes = np.array([[axis.size for axis in core.axes] for core in cores])
    sizes = sizes.reshape(len(cores), len(cores[0].axes))
    names = [axis.name for axis in cores[0].axes]
    widest = cores[0].scaled(
        axes=dict(zip(names, map(int, sizes.max(axis=0, initial=0)), strict=True))
    )
    written = [
        encode_mapping(layer, widest, mapping, loops=longest, digits=digits) for mapping in mappings
    ]
    arrays = MappingArrays(*map(np.stack, zip(*written, strict=True)))
    limits = window_limits([layer])
    tiles = calc_tiles(layer_arrays, first, arrays, np)
    counts = calc_counts(layer_arrays, first, arrays, tiles, conventions, np, limits)
    traffic = calc_traffic(layer_arrays, first, counts, np)
    footprint = calc_footprint_bytes(layer_arrays, first, tiles, traffic, conventions, np)
    energy = calc_energy_pj(core_arrays, traffic)
    cycles = calc_cycles(
        core_arrays, traffic, tiles.steps, tiles.used[..., :-1], footprint, conventions, np
    ).total
    mac = calc_mac_energy_pj(_leading(layer_arrays), core_arrays)
    total = sum_last(energy.reshape(*energy.shape[:-2], -1)) + mac
    fits = calc_fits(core_arrays, footprint, conventions, np).all(-1)
    fits &= (extents[None] <= sizes[:, None]).all(-1)
    goal = {"energy": total, "latency": cycles, "edp": total * cycles}[objective]
    moved = sum_last(traffic.read_bits + traffic.write_bits)
    points = len(cores)
    best = np.full(points, -1)
    for point in range(points):
        able = np.flatnonzero(fits[point])
        if able.size:
            keys = (
                sum_last(moved)[able], moved[able, 0], cycles[point, able], total[point, able],
                goal[point, able],
            )  # fmt: skip
            best[point] = able[np.lexsort(keys)[0]]
    at = (np.arange(points), best)
    none = best < 0
    return Solutions(
        mappings=mappings,
        best=best,
        energy_pj=_blank(energy[at], none),
        mac_energy_pj=_blank(mac[:, 0], none),
        total_energy_pj=_blank(total[at], none),
        cycles=_blank(cycles[at], none),
        read_bytes=_blank(traffic.read_bits[best] / 8, none),
        write_bytes=_blank(traffic.write_bits[best] / 8, none),
        candidate_read_bits=sum_last(traffic.read_bits),
        candidate_write_bits=sum_last(traffic.write_bits),
        candidates=candidates,
    )


def _leading(arrays: LayerArrays) -> LayerArrays:
    return LayerArrays(*(np.asarray(field)[None] for field in arrays))


def _blank(values: np.ndarray, none: np.ndarray) -> np.ndarray:
    """Values with not-a-number where there is no mapping."""
    return np.where(none.reshape(-1, *(1,) * (values.ndim - 1)), math.nan, values)


@dataclass(frozen=True)
class BestMapping:
    """The best mapping of a layer on a core with its certificate.

    Attributes:
        mapping: the mapping.
        cost: what `costs.evaluate.evaluate` says of it.
        enumerated: mappings the search stands for.
        pruned: how many partial mappings were dropped, by reason.
        compared: candidates that were compared by their exact cost.
        compulsory_bytes: traffic that no mapping undercuts, by operand [bytes].
        bound: objective that no mapping undercuts; that of this mapping where it is proved.
        gap: by what part of the bound this mapping is above it; 0 where it is proved.
        proved: whether no mapping costs less, as `costs.evaluate` counts; not where the time or the
            effort for the proof was over (docs/theory/mapping_space.md, The real count).
        least_by_1: whether no mapping is less by equations (1) and (2) of that page.
    """

    mapping: Mapping
    cost: Cost
    enumerated: int
    pruned: dict[str, int]
    compared: int
    compulsory_bytes: dict[str, float]
    bound: float
    gap: float
    proved: bool
    least_by_1: bool


def best_mapping(
    layer: Layer,
    core: Core,
    objective: str = "energy",
    conventions: Conventions = TIMELOOP,
    limit_s: float | None = None,
) -> BestMapping:
    """The best mapping of a layer on a core.

    Args:
        layer: the layer.
        core: the core; `Core.with_homes` says where operands live.
        objective: "energy", "latency" or "edp".
        conventions: how accesses are counted.
        limit_s: how long to look for the proof [s]; by default until it is found.

    Raises:
        InputError: nothing fits; the message says which operand at which level is too large and
            by how much.
    """
    solutions = solve(layer, [core], objective, conventions, limit_s, real=True)
    if solutions.best[0] < 0 or solutions.bound is None:
        raise _explain_misfit(layer, core, conventions)
    mapping = solutions.mappings[solutions.best[0]]
    words = calc_compulsory_words(layer)
    return BestMapping(
        mapping=mapping,
        cost=evaluate(layer, core, mapping, conventions),
        enumerated=solutions.candidates.enumerated,
        pruned={
            "does not fit": solutions.candidates.unfit,
            "dominated": solutions.candidates.dominated,
            "bound above the best": solutions.candidates.bounded,
        },
        compared=len(solutions.mappings),
        compulsory_bytes={t: words[t] * layer.bits(t) / 8 for t in layer.operands},
        bound=solutions.bound,
        gap=_calc_gap(float(calc_goal(solutions, objective)[0]), solutions),
        proved=solutions.proved,
        least_by_1=solutions.candidates.proved,
    )


def _calc_gap(reached: float, solutions: Solutions) -> float:
    if solutions.proved:
        return 0.0
    return reached / solutions.bound - 1 if solutions.bound else math.inf


def _explain_misfit(layer: Layer, core: Core, conventions: Conventions) -> InputError:
    """The error that names the operands whose smallest tiles, one word each, are too large.

    A level that the MACs accumulate in holds partial sums, unless the array adds them all up.
    """
    lines = _list_misfits(layer, core, conventions, layer.bits_o) or _list_misfits(
        layer, core, conventions, layer.bits_psum
    )
    return InputError(
        key=f"{core.name}.levels", value="; ".join(lines), allowed=f"room for {layer.name}"
    )


def _list_misfits(
    layer: Layer, core: Core, conventions: Conventions, output_bits: int
) -> list[str]:
    """What is too large where and by how much, when a word of outputs has so many bits."""
    lines = []
    for level in core.levels:
        capacity = level.capacity_bytes
        held = [
            t
            for t in level.operands
            if t in layer.operands and t not in level.unlimited and core.chain(t)[0] != level.name
        ]
        groups = [[t] for t in held] if isinstance(capacity, Dict) else [held]
        for group in groups:
            bits = [output_bits if t == "O" else layer.bits(t) for t in group]
            size = sum(bits) / 8 * conventions.buffering
            limit = capacity[group[0]] if isinstance(capacity, Dict) else capacity
            if group and size > limit:
                lines.append(
                    f"{'+'.join(group)} at {level.name} needs {size:g} bytes for one word each, "
                    f"{size - limit:g} more than {limit:g}"
                )
    return lines
