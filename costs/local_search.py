"""Assignments improved by moves and swaps; equal split and greedy to start from. No exact solver.

A step looks at every neighbour at once: any run of up to four successive layers of one core moved
to another core, and any two layers on different cores swapped. It takes the best by weights that
do not fit, then objective, then the sum of squared loads, which leads across the plateaus of a
maximum. A kick moves a few layers at random and descends again; the best of all is kept.
"""

from __future__ import annotations

import functools

import numpy as np

from costs.assignment_instance import AssignmentInstance
from costs.instance_cost import (
    OBJECTIVES,
    CostTables,
    calc_costs_of_sums,
    calc_instance_cost,
    count_columns,
    item_rows,
    transfer_rows,
)

RUN = 4  # successive layers that move together
IMPOSSIBLE = 1e30  # stands for an infinite cost, so that sums of squares stay numbers
TIE = 1e-12  # relative; less is rounding


def split_equally(instance: AssignmentInstance) -> np.ndarray:
    """[layers] as many successive layers on every core, in the order of the cores."""
    layers, cores = instance.shape
    return np.arange(layers) * min(cores, layers) // layers


def assign_greedily(instance: AssignmentInstance, objective: str = "interval") -> np.ndarray:
    """[layers] each layer in program order put where the layers so far cost least.

    Args:
        instance: layers, cores and links.
        objective: one of `costs.instance_cost.OBJECTIVES`.
    """
    layers, cores = instance.shape
    every = np.arange(cores)
    found: list[int] = []
    sums = np.zeros(count_columns(instance))
    for layer in range(layers):
        options = sums + item_rows(instance, instance.layers, layer, every)
        for number, readers in enumerate(instance.consumers):
            if readers and readers[-1] == layer:
                mask = 1 << every
                for reader in readers[:-1]:
                    mask = mask | (1 << found[reader])
                here = np.full(cores, found[instance.producer[number]])
                options = options + transfer_rows(instance, number, here, mask)
        best = _order(instance, calc_costs_of_sums(instance, options), objective)[0]
        found.append(int(best))
        sums = options[best]
    return np.array(found)


def improve(
    instance: AssignmentInstance | CostTables,
    assignment: np.ndarray,
    objective: str = "interval",
    *,
    kicks: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """The assignment after moves and swaps until none helps.

    Args:
        instance: the instance, or its tables where they are at hand.
        assignment: [layers] where to start.
        objective: one of `costs.instance_cost.OBJECTIVES`.
        kicks: how often the best assignment is disturbed and descended from again.
        seed: of the kicks.

    Returns:
        [layers].
    """
    tables = instance if isinstance(instance, CostTables) else CostTables.of(instance)
    layers, cores = tables.instance.shape
    rng = np.random.default_rng([seed, 21])
    best, best_key = _descend(tables, np.array(assignment), objective)
    for _ in range(kicks if cores > 1 else 0):
        kicked = best.copy()
        moved = rng.choice(layers, min(layers, int(rng.integers(2, 5))), replace=False)
        kicked[moved] = rng.integers(0, cores, len(moved))
        found, key = _descend(tables, kicked, objective)
        if key < best_key:
            best, best_key = found, key
    return best


def list_neighbours(assignment: np.ndarray, cores: int) -> np.ndarray:
    """[layers, count] every assignment that a move or a swap makes of one."""
    layers = len(assignment)
    first, last, core = _moves(layers, cores)
    number = np.arange(layers)[:, None]
    runs = (assignment[first] != core) & (assignment[first] == assignment[last])
    between = np.cumsum(np.insert(np.diff(assignment) != 0, 0, False))
    runs &= between[first] == between[last]  # one core holds all of the run
    first, last, core = first[runs], last[runs], core[runs]
    moved = np.where((number >= first) & (number <= last), core, assignment[:, None])
    one, other = np.triu_indices(layers, 1)
    differ = assignment[one] != assignment[other]
    one, other = one[differ], other[differ]
    swapped = np.repeat(assignment[:, None], len(one), axis=1)
    swapped[one, np.arange(len(one))] = assignment[other]
    swapped[other, np.arange(len(one))] = assignment[one]
    return np.concatenate([moved, swapped], axis=1)


@functools.lru_cache(maxsize=64)
def _moves(layers: int, cores: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, length, core = np.indices((layers, RUN, cores)).reshape(3, -1)
    inside = first + length < layers
    return first[inside], (first + length)[inside], core[inside]


Key = tuple[float, float, float]


def _descend(tables: CostTables, assignment: np.ndarray, objective: str) -> tuple[np.ndarray, Key]:
    """Steepest descent to an assignment that no neighbour beats, and its key."""
    cores = tables.instance.shape[1]
    costs = calc_instance_cost(tables, assignment[:, None])
    key = _key(tables.instance, costs, objective, 0)
    while True:
        options = list_neighbours(assignment, cores)
        if not options.shape[1]:
            return assignment, key
        costs = calc_instance_cost(tables, options)
        best = _order(tables.instance, costs, objective)[0]
        found = _key(tables.instance, costs, objective, best)
        if not _less(found, key):
            return assignment, key
        assignment, key = options[:, best], found


def _less(one: Key, other: Key) -> bool:
    """Lexicographic, differences by rounding being none, so that descent ends."""
    for a, b in zip(one, other, strict=True):
        if abs(a - b) > TIE * max(abs(a), abs(b)):
            return a < b
    return False


def _keys(
    instance: AssignmentInstance, costs: dict[str, np.ndarray], objective: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Overflow, objective, sum of squared loads, each [assignments]."""
    room = instance.capacity_bytes[:, None]
    over = np.maximum(costs["weight_bytes"] - room, 0.0).sum(axis=0)
    value = np.minimum(costs[OBJECTIVES[objective]], IMPOSSIBLE)
    busy = np.minimum(costs["core_busy_s"], IMPOSSIBLE)
    links = costs["each_link_bytes"] / instance.bandwidth_bytes_per_s[:, None]
    return over, value, (busy**2).sum(axis=0) + (links**2).sum(axis=0)


def _order(
    instance: AssignmentInstance, costs: dict[str, np.ndarray], objective: str
) -> np.ndarray:
    """Assignments from best to worst."""
    over, value, loads = _keys(instance, costs, objective)
    return np.lexsort((loads, value, over))


def _key(
    instance: AssignmentInstance, costs: dict[str, np.ndarray], objective: str, at: int
) -> Key:
    over, value, loads = _keys(instance, costs, objective)
    return float(over[at]), float(value[at]), float(loads[at])
