"""Exact assignment of layers to cores: contiguous partitions, enumerated or by dynamic programming.

A contiguous partition cuts the layers, in program order, into stages and gives each stage a core of
its own. `enumerate_contiguous` lists them all, for chips small enough; `solve_contiguous` is a
dynamic program that keeps, for every (cores used, layers done), the non-dominated vectors of
energy, DRAM bytes, link bytes and slowest stage. Every objective that grows in those and in what
follows from them (interval, idle energy, IO bytes) has its optimum among the survivors, so one
solution serves all preferences.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import numpy as np

from costs.chip_cost import calc_chip_cost
from costs.problem import Problem


def count_contiguous(layers: int, cores: int) -> int:
    """Number of contiguous partitions of `layers` onto distinct `cores`, any order of cores."""
    return sum(
        math.comb(layers - 1, k - 1) * math.perm(cores, k) for k in range(1, min(cores, layers) + 1)
    )


Path = tuple[tuple[int, int], ...]
"""Stages of a partition as (layers done after it, core)."""


@functools.lru_cache(maxsize=8)
def enumerate_contiguous(
    layers: int, cores: int, kinds: tuple[int, ...] | None = None
) -> np.ndarray:
    """All contiguous partitions onto distinct cores.

    Args:
        layers: number of layers.
        cores: number of cores.
        kinds: type of each core, where cores of one type can be exchanged (they share one bus):
            then they are taken in order. None lists all.

    Returns:
        [layers, count] core index of each layer; read-only.
    """
    found = []
    for stages in range(1, min(cores, layers) + 1):
        for cuts in itertools.combinations(range(1, layers), stages - 1):
            stage = np.searchsorted(cuts, np.arange(layers), side="right")
            for order in itertools.permutations(range(cores), stages):
                if kinds is None or _takes_twins_in_order(order, kinds):
                    found.append(np.array(order)[stage])
    options = np.stack(found, axis=1)
    options.setflags(write=False)
    return options


def solve_contiguous(problem: Problem, widths: np.ndarray, knobs: np.ndarray) -> np.ndarray:
    """Assignments among which every monotone objective has its contiguous optimum.

    Exact for chips whose cores share one bus: there what a stage costs depends on its own layers
    and core alone. Latency of one input is not among the objectives it covers.

    Args:
        problem: workload, chip, tables.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.

    Returns:
        [layers, count] non-dominated contiguous assignments.
    """
    layers, cores = len(problem.workload.layers), len(problem.chip.cores)
    stages = [
        (s, e, k) for s in range(layers) for e in range(s + 1, layers + 1) for k in range(cores)
    ]
    cost = _stage_costs(problem, widths, knobs, stages)
    kinds = problem.core_types
    labels: dict[tuple[frozenset[int], int], tuple[np.ndarray, list[Path]]]
    labels = {(frozenset(), 0): (np.zeros((1, 4)), [()])}
    by_start: dict[int, list[int]] = {}
    for number, (start, _, _) in enumerate(stages):
        by_start.setdefault(start, []).append(number)
    for done in range(layers):
        for used in [u for u, d in labels if d == done]:
            vectors, paths = labels[used, done]
            for number in by_start[done]:
                _, end, core = stages[number]
                if core in used or _has_unused_twin(core, used, kinds):
                    continue
                grown = vectors + cost[number]
                grown[:, 3] = np.maximum(vectors[:, 3], cost[number, 3])
                steps = [(*path, (end, core)) for path in paths]
                key = (used | {core}, end)
                if key in labels:
                    grown = np.concatenate([labels[key][0], grown])
                    steps = labels[key][1] + steps
                keep = _non_dominated(grown)
                labels[key] = grown[keep], [steps[i] for i in np.flatnonzero(keep)]
    finals = [labels[key] for key in labels if key[1] == layers]
    vectors = np.concatenate([v for v, _ in finals])
    paths = [path for _, p in finals for path in p]
    survivors = [paths[i] for i in np.flatnonzero(_non_dominated(vectors))]
    return np.stack([_assignment(path) for path in survivors], axis=1)


def _takes_twins_in_order(order: tuple[int, ...], kinds: tuple[int, ...]) -> bool:
    return not any(
        _has_unused_twin(core, frozenset(order[:n]), kinds) for n, core in enumerate(order)
    )


def _has_unused_twin(core: int, used: frozenset[int], kinds: np.ndarray | tuple[int, ...]) -> bool:
    """Equal cores are taken in order, which loses nothing on a bus."""
    return any(kinds[c] == kinds[core] and c not in used for c in range(core))


def _assignment(path: Path) -> np.ndarray:
    cores: list[int] = []
    for end, core in path:
        cores += [core] * (end - len(cores))
    return np.array(cores)


def _non_dominated(vectors: np.ndarray) -> np.ndarray:
    """[n] mask of the rows that no other row undercuts or equals; the first of equals stays."""
    order = np.lexsort(vectors.T[::-1])
    keep = np.zeros(len(vectors), bool)
    kept = np.empty((0, vectors.shape[1]))
    for i in order:
        if not (kept <= vectors[i]).all(axis=1).any():
            keep[i] = True
            kept = np.concatenate([kept, vectors[i : i + 1]])
    return keep


def _stage_costs(
    problem: Problem, widths: np.ndarray, knobs: np.ndarray, stages: list[tuple[int, int, int]]
) -> np.ndarray:
    """[stages, 4] energy without link and idle [pJ], DRAM bytes, link bytes sent, busy time [s]."""
    ghostly = _with_free_cores(problem)
    layers, cores = len(problem.workload.layers), len(problem.chip.cores)
    index = np.arange(layers)[:, None]
    start, end, core = (np.array(column) for column in zip(*stages, strict=True))
    assignment = np.where(index < start, cores, np.where(index < end, core, cores + 1))
    count = len(stages)
    free_knobs = np.zeros((1, knobs.shape[1], count), int)
    tiled = np.concatenate([np.repeat(knobs[:, :, None], count, axis=2), free_knobs])
    costs = calc_chip_cost(ghostly, np.repeat(widths[:, None], count, axis=1), assignment, tiled)
    energy = costs["energy_pj"] - costs["energy_idle_pj"] - costs["energy_link_pj"]
    sizes = {
        b.tensor: b.positions * widths[i] * b.bits / 8 for i, b in enumerate(problem.boundaries)
    }
    sent, outside = np.zeros(count), np.zeros(count)  # outside: input and output of free cores
    for number, tensor in enumerate(problem.workload.tensors):
        if tensor.producer < 0:
            for consumer in tensor.consumers:
                outside += np.where((start <= consumer) & (consumer < end), 0.0, tensor.bytes)
        elif not tensor.consumers:
            inside = (start <= tensor.producer) & (tensor.producer < end)
            outside += np.where(inside, 0.0, tensor.bytes)
        else:
            leaves = (start <= tensor.producer) & (tensor.producer < end)
            leaves &= max(tensor.consumers) >= end
            sent += np.where(leaves, sizes.get(number, tensor.bytes), 0.0)
    busy = costs["core_busy_s"][core, np.arange(count)]
    energy = energy - outside * 8.0 * problem.chip.dram_energy_pj_per_bit
    return np.stack([energy, costs["dram_bytes"] - outside, sent, busy], axis=1)


def _with_free_cores(problem: Problem) -> Problem:
    """The problem with two more cores on its bus on which everything is free."""
    chip = problem.chip
    free = replace(
        chip.types[0],
        name="free",
        knobs=tuple((name, (1,), 0) for name, _, _ in chip.types[0].knobs),
    )
    names = ("before", "after")
    bus = replace(chip.links[0], cores=chip.core_names + names)
    wider = replace(
        chip,
        types=(*chip.types, free),
        cores=chip.cores + tuple((name, len(chip.types)) for name in names),
        links=(bus,),
    )
    points = len(problem.area_mm2)
    table = problem.table.reshape(len(problem.rows), points, 4, -1)
    table = np.concatenate([table, np.zeros_like(table[:, :1])], axis=1)
    extra = {"global_buffer_bytes": np.inf, "weight_buffer_bytes": np.inf}
    grown = {
        name: np.append(getattr(problem, name), extra.get(name, 0.0))
        for name in (
            "global_buffer_bytes",
            "weight_buffer_bytes",
            "area_mm2",
            "leakage_w",
            "buffer_read_pj",
            "buffer_write_pj",
        )
    }
    if problem.port_bytes_per_s is not None:
        grown["port_bytes_per_s"] = np.append(problem.port_bytes_per_s, np.inf)
    offset = np.append(problem.hardware_offset, points)
    return replace(
        problem,
        chip=wider,
        table=table.reshape(-1, table.shape[-1]),
        hardware_offset=offset,
        **grown,
    )
