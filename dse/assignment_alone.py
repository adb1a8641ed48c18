"""Relaxations by themselves: the assignment of a fixed workload by gradient steps.

Several starts descend side by side. In each step every start draws a discrete assignment, numpy
prices it and its neighbours exactly (`costs.instance_cost`), and the relaxation turns those prices
into a gradient. An interval is a maximum, flat in most moves; the neighbours are priced by a
p-norm over cores, links and DRAM instead, which tends to the maximum as p grows. It steers only:
the answer is the rounded assignment of the start that is best in the exact objective.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from costs.assignment_instance import AssignmentInstance
from costs.instance_cost import OBJECTIVES, CostTables, calc_instance_cost, calc_objective
from costs.local_search import assign_greedily
from dse.assignment_relaxations import AssignmentRelaxation, make_relaxation

BLOCK = 40  # layers are padded to a multiple with layers that cost nothing: fewer compilations
EXCESS = 5.0  # slope of the log cost in weights over capacity
STARTS = 8
SPREAD = 0.3  # standard deviation of the starts' parameters
IMPOSSIBLE = 1e30  # stands for an infinite cost


@dataclass(frozen=True)
class Schedule:
    """How one relaxation descends.

    Attributes:
        learning_rate: of Adam, falling to a tenth.
        temperature: at the first and the last step, geometric between.
        steps: number of steps.
        norm: p at the first and the last step, geometric between.
        greedy: part of the starts that is near the greedy assignment instead of equal splits.
    """

    learning_rate: float
    temperature: tuple[float, float]
    steps: int = 400
    norm: tuple[float, float] = (2.0, 40.0)
    greedy: float = 0.0


# tuned on random_instance(20000 ..), which the recorded study does not use
SCHEDULES = {
    "softmax": Schedule(0.1, (1.0, 1.0), greedy=0.5),
    "gumbel": Schedule(0.2, (2.0, 0.5)),
    "cuts": Schedule(0.2, (1.0, 0.2)),
    "perturbed": Schedule(0.2, (1.0, 1.0), greedy=0.5),
}


def solve_softmax(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """[layers] by annealed softmax."""
    return relax(instance, "softmax", objective=objective, seed=seed)


def solve_gumbel(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """[layers] by Gumbel straight-through."""
    return relax(instance, "gumbel", objective=objective, seed=seed)


def solve_cuts(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """[layers] by monotone cuts; contiguous."""
    return relax(instance, "cuts", objective=objective, seed=seed)


def solve_perturbed(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """[layers] by the perturbed exact solver; contiguous."""
    return relax(instance, "perturbed", objective=objective, seed=seed)


def relax(
    instance: AssignmentInstance,
    method: str,
    *,
    objective: str = "interval",
    seed: int = 0,
    starts: int = STARTS,
    schedule: Schedule | None = None,
) -> np.ndarray:
    """The best of the starts' rounded assignments.

    Args:
        instance: what is to be assigned.
        method: one of `dse.assignment_relaxations.RELAXATIONS`.
        objective: one of `costs.instance_cost.OBJECTIVES`.
        seed: of starts and noise.
        starts: number of starts.
        schedule: learning rate, temperature, steps; None: the method's.

    Returns:
        [layers] core of each layer.
    """
    schedule = SCHEDULES[method] if schedule is None else schedule
    layers, cores = instance.shape
    relaxation = make_relaxation(method, -(-layers // BLOCK) * BLOCK, cores)
    draw, descend, optimizer = _compiled(relaxation, schedule)
    tables = CostTables.of(instance)
    near = assign_greedily(instance, objective) if schedule.greedy else None
    raw = _starts(relaxation, layers, starts, seed, near, round(schedule.greedy * starts))
    state = optimizer.init(raw)
    for index in range(schedule.steps):
        part = index / max(1, schedule.steps - 1)
        temperature, norm = (_between(x, part) for x in (schedule.temperature, schedule.norm))
        key = jax.random.key(index + (seed << 12))
        assignment, neighbours = draw(key, raw, temperature)
        values = _prices(tables, assignment, neighbours, objective, norm)
        raw, state = descend(key, raw, temperature, values, state)
    rounded = relaxation.round(raw)[:layers]
    return rounded[:, int(np.argmin(calc_objective(tables, rounded, objective)))]


def _prices(
    tables: CostTables, assignment: Any, neighbours: Any, objective: str, norm: float
) -> np.ndarray:
    """[columns, starts] steering cost of the neighbours over that of the assignment.

    Those that differ from it in padding alone, or not at all, are zero without being priced.
    """
    layers = tables.instance.shape[0]
    here, there = np.asarray(assignment)[:layers], np.asarray(neighbours)[:layers]
    differs = (there != here[:, None]).any(axis=0)
    options = np.concatenate([here, there[:, differs]], axis=1)
    found = steering_cost(tables, options, objective, norm)
    starts = here.shape[1]
    values = np.zeros(differs.shape, np.float32)
    values[differs] = found[starts:] - found[np.nonzero(differs)[1]]
    return values


def steering_cost(
    tables: CostTables, assignment: np.ndarray, objective: str, norm: float
) -> np.ndarray:
    """[n] log of the cost, finite everywhere, the interval by a p-norm of its terms.

    Args:
        tables: of an instance.
        assignment: [layers, n].
        objective: one of `OBJECTIVES`.
        norm: p.
    """
    instance = tables.instance
    costs = calc_instance_cost(tables, assignment)
    cost = np.minimum(costs[OBJECTIVES[objective]], IMPOSSIBLE)
    if objective == "interval":
        terms = np.concatenate(
            [
                costs["core_busy_s"],
                costs["each_link_bytes"] / instance.bandwidth_bytes_per_s[:, None],
                costs["dram_bytes"][None] / instance.dram_bandwidth_bytes_per_s,
            ]
        )
        cost = cost * np.sum((np.minimum(terms, IMPOSSIBLE) / cost) ** norm, axis=0) ** (1 / norm)
    over = np.maximum(costs["weight_bytes"] / instance.capacity_bytes[:, None] - 1.0, 0.0)
    return np.log(cost) + EXCESS * over.sum(axis=0)


def _starts(
    relaxation: AssignmentRelaxation,
    layers: int,
    starts: int,
    seed: int,
    near: np.ndarray | None,
    count: int,
) -> np.ndarray:
    """[size, starts] near equal splits over the cores in random orders, `count` near `near`."""
    rng = np.random.default_rng([seed, 22])
    cores, padded = relaxation.cores, relaxation.layers
    stage = np.minimum(np.arange(padded) * min(cores, layers) // layers, cores - 1)
    columns = [relaxation.start(rng.permutation(cores)[stage]) for _ in range(starts)]
    if near is not None:
        columns[:count] = [relaxation.start(np.pad(near, (0, padded - layers), "edge"))] * count
    raw = np.stack(columns, axis=1)
    return (raw + SPREAD * rng.normal(size=raw.shape)).astype(np.float32)


def _between(ends: tuple[float, float], part: float) -> float:
    return ends[0] * (ends[1] / ends[0]) ** part


@functools.lru_cache(maxsize=32)
def _compiled(relaxation: AssignmentRelaxation, schedule: Schedule) -> tuple[Any, Any, Any]:
    """Draw and step of one size of problem, and the step's optimizer."""
    rate = optax.cosine_decay_schedule(schedule.learning_rate, schedule.steps, 0.1)
    optimizer = optax.adam(rate)

    @jax.jit
    def draw(key: Any, raw: Any, temperature: Any) -> Any:
        drawn = relaxation.draw(key, raw, temperature)
        return drawn.assignment, drawn.neighbours

    @jax.jit
    def descend(key: Any, raw: Any, temperature: Any, values: Any, state: Any) -> Any:
        def expected(raw: Any) -> Any:  # the same key draws the same neighbours again
            return relaxation.draw(key, raw, temperature).estimate(values).sum()

        updates, state = optimizer.update(jax.grad(expected)(raw), state)
        return optax.apply_updates(raw, updates), state

    return draw, descend, optimizer
