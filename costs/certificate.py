"""The proved optimal assignment of a workload on a chip, any layer on any core, at fixed widths.

Where memories are crowded the chip model is not linear: weights claim a buffer in program order,
and a tensor that spills costs more traffic. So the linear program chooses the homes of each layer's
operands itself, which can only be cheaper, and its optimum is a lower bound. The exact evaluator
prices the assignment found; if that is dearer than the bound, the assignment is excluded and the
program solved again, until the bound reaches the best exact price. For the interval the bound by
sets (`costs.interval_bound`) is taken as well where it is higher. Certified are the interval,
energy, IO bytes and weighted sums of them; the latency of one input follows events and is not
linear.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.chip_cost import calc_chip_cost
from costs.interval_bound import bound_interval
from costs.milp import PROVED, Solution, as_weights, solve_milp
from costs.problem import Problem
from costs.problem_instance import list_homes


def certify_assignment(
    problem: Problem,
    widths: np.ndarray,
    knobs: np.ndarray,
    objective: str | dict[str, float] = "interval",
    *,
    known: np.ndarray | None = None,
    time_limit_s: float = 60.0,
) -> Solution:
    """The assignment of least exact cost, with its bound.

    Args:
        problem: workload, chip, tables.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.
        objective: a name of `costs.instance_cost.OBJECTIVES`, or weights of costs by name.
        known: [layers] an assignment to compare with.
        time_limit_s: when to stop [s].

    Returns:
        Value and bound are of `costs.chip_cost`; `proved` says whether they meet.
    """
    start = time.perf_counter()
    weights = as_weights(objective)
    instance, homes = list_homes(problem, widths, knobs)
    best = known
    value = np.inf if known is None else calc_exact(problem, widths, knobs, known, weights)
    bound, excluded = 0.0, []
    if best is not None and np.isfinite(value) and weights == {"interval_s": 1.0}:
        bound = bound_interval(_cheapest(instance, homes), best[:, None])
    while True:
        left_s = time_limit_s - (time.perf_counter() - start)
        if best is not None and left_s <= 0:
            break
        found = solve_milp(
            instance, weights, homes=homes, excluded=tuple(excluded), time_limit_s=left_s
        )
        bound = min(max(bound, found.bound), value)
        exact = calc_exact(problem, widths, knobs, found.assignment, weights)
        if best is None or exact < value:
            best, value = found.assignment, exact
        if value <= found.bound * (1 + 2 * PROVED):
            bound = value
            break
        excluded.append(found.assignment)
    return Solution(best, float(value), float(bound), time.perf_counter() - start)


def _cheapest(instance: AssignmentInstance, homes: tuple[CoreCosts, ...]) -> AssignmentInstance:
    """The instance whose layers cost the least they can in each respect: a bound of it bounds all.

    Weights are left out, for they may stream.
    """
    time_s = np.min([home.time_s for home in homes], axis=0)
    dram_bytes = np.min([np.where(np.isfinite(h.time_s), h.dram_bytes, np.inf) for h in homes], 0)
    possible = np.isfinite(time_s)
    return replace(
        instance, layers=CoreCosts.of(time_s, dram_bytes=np.where(possible, dram_bytes, 0.0))
    )


def calc_exact(
    problem: Problem,
    widths: np.ndarray,
    knobs: np.ndarray,
    assignment: np.ndarray,
    weights: dict[str, float],
) -> float:
    """The weighted sum of exact costs of one assignment [layers]."""
    costs = calc_chip_cost(problem, widths[:, None], assignment[:, None], knobs[..., None])
    return float(sum(weight * costs[name][0] for name, weight in weights.items()))
