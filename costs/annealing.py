"""Moves and swaps with simulated annealing: many chains at once, all evaluated in one call.

Each step proposes to every chain a move of up to four successive layers to a core, or a swap of two
layers. It is taken if it lowers the potential, else with probability exp(- rise / temperature). The
potential is the objective, for the interval the p-norm of all loads, which sees the loads below
the largest; p rises towards the maximum. Temperatures fall geometrically, as parts of the first
potential; a third and two thirds of the way through, the better half of the chains replaces the
worse. Descent by `costs.local_search` ends it.
"""

from __future__ import annotations

import numpy as np

from costs.assignment_instance import AssignmentInstance
from costs.instance_cost import OBJECTIVES, CostTables, calc_instance_cost
from costs.local_search import RUN, improve

SOFT, SHARP = 6.0, 20.0  # norm of the loads, first and last
OVERFULL = 10.0  # potential of weights that exceed all memories by themselves, times the interval
SHARPEN = 20  # steps after which the potential of where chains are is brought up to date
HOT, COLD = 0.04, 0.0005  # temperature over potential, first and last


def anneal(
    instance: AssignmentInstance | CostTables,
    assignment: np.ndarray,
    objective: str = "interval",
    *,
    chains: int = 64,
    steps: int = 1000,
    hot: float = HOT,
    seed: int = 0,
) -> np.ndarray:
    """The best assignment that annealed moves and swaps lead to from one, then descent.

    Args:
        instance: the instance, or its tables where they are at hand.
        assignment: [layers] where to start, or [layers, starts].
        objective: one of `costs.instance_cost.OBJECTIVES`.
        chains: how many walk side by side.
        steps: of each chain.
        hot: first temperature over potential.
        seed: of the walk.

    Returns:
        [layers]; never worse than the best that was given.
    """
    tables = instance if isinstance(instance, CostTables) else CostTables.of(instance)
    layers, cores = tables.instance.shape
    if cores == 1:
        return np.zeros(layers, int)
    rng = np.random.default_rng([seed, 22])
    starts = assignment.reshape(layers, -1)
    here = starts[:, np.arange(chains) % starts.shape[1]].copy()
    value, potential = _potential(tables, here, objective, SOFT)
    best, best_value = here[:, np.argmin(value)].copy(), value.min()
    scale = np.median(potential)
    for step in range(steps):
        done = step / max(steps - 1, 1)
        temperature = scale * hot * (COLD / hot) ** done
        norm = SOFT * (SHARP / SOFT) ** done
        if step % SHARPEN == 0:
            _, potential = _potential(tables, here, objective, norm)
        there = _propose(here, cores, rng)
        new_value, new = _potential(tables, there, objective, norm)
        rise = np.maximum(new - potential, 0.0)
        taken = rng.uniform(size=chains) < np.exp(-rise / max(temperature, 1e-300))
        here = np.where(taken, there, here)
        potential = np.where(taken, new, potential)
        if new_value.min() < best_value:
            best, best_value = there[:, np.argmin(new_value)].copy(), new_value.min()
        if step in (steps // 3, 2 * steps // 3):
            order = np.argsort(potential)
            half = np.resize(order[: max(chains // 2, 1)], chains)
            here, potential = here[:, half], potential[half]
    return improve(tables, best, objective)


def _propose(here: np.ndarray, cores: int, rng: np.random.Generator) -> np.ndarray:
    """[layers, chains] a random neighbour of each."""
    layers, chains = here.shape
    number = np.arange(layers)[:, None]
    chain = np.arange(chains)
    one, other = rng.integers(0, layers, (2, chains))
    length = np.where(rng.uniform(size=chains) < 0.6, 1, rng.integers(2, RUN + 1, chains))
    core = rng.integers(0, cores, chains)
    # half of the moves go to a core next to the run, which costs no further crossing
    beside = np.where(rng.uniform(size=chains) < 0.5, one - 1, one + length)
    near = (rng.uniform(size=chains) < 0.5) & (beside >= 0) & (beside < layers)
    core = np.where(near, here[np.clip(beside, 0, layers - 1), chain], core)
    moved = np.where((number >= one) & (number < one + length), core, here)
    swap = rng.uniform(size=chains) < 0.3
    swapped = here.copy()
    swapped[one, chain], swapped[other, chain] = here[other, chain], here[one, chain]
    return np.where(swap, swapped, moved)


def _potential(
    tables: CostTables, assignment: np.ndarray, objective: str, norm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Objective (infinite where weights do not fit) and potential, each [assignments]."""
    instance = tables.instance
    costs = calc_instance_cost(tables, assignment)
    value = costs[OBJECTIVES[objective]]
    potential = value
    if objective == "interval":
        loads = np.concatenate(
            [
                costs["core_busy_s"],
                costs["each_link_bytes"] / instance.bandwidth_bytes_per_s[:, None],
            ]
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = ((loads / value) ** norm).sum(axis=0) ** (1 / norm)
        potential = np.where(value > 0, value * spread, value)
    room = instance.capacity_bytes[:, None]
    over = np.maximum(costs["weight_bytes"] / room - 1.0, 0.0).sum(axis=0)
    potential = np.where(np.isfinite(value), potential, np.inf) * (1.0 + OVERFULL * over)
    return np.where(costs["fits"], value, np.inf), np.nan_to_num(potential, nan=1e300, posinf=1e300)
