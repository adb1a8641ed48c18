"""Solvers of an assignment by itself, by name: exact ones, relaxations, and what needs no search.

Every solver is a function of an instance, `solve(instance, *, objective, seed)`, that returns the
core of each layer [layers]. Importing this module imports none of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np

from costs.assignment_instance import AssignmentInstance
from costs.errors import InputError, nearest


class Solver(Protocol):
    """Puts layers on cores."""

    def __call__(
        self, instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
    ) -> np.ndarray:
        """[layers] core of each layer."""
        ...


SOLVERS: Mapping[str, str] = MappingProxyType(
    {
        "dp": "dse.assignment_solvers:solve_by_stages",
        "milp": "dse.assignment_solvers:solve_by_milp",
        "local": "dse.assignment_solvers:search_locally",
        "equal": "dse.assignment_solvers:split_in_order",
        "greedy": "dse.assignment_solvers:take_greedily",
        "softmax": "dse.assignment_alone:solve_softmax",
        "gumbel": "dse.assignment_alone:solve_gumbel",
        "cuts": "dse.assignment_alone:solve_cuts",
        "perturbed": "dse.assignment_alone:solve_perturbed",
    }
)
"""Where each solver is, as `module:function`."""

PROOFS = ("dp", "milp")
"""Solvers that end with the optimum of what they search: stages, or everything."""


def find_solver(name: str) -> Solver:
    """The solver of a name.

    Raises:
        InputError: if there is none.
    """
    if name not in SOLVERS:
        close = nearest(name, SOLVERS)
        hint = f"{close}? or any of " if close else ""
        raise InputError(
            "no such solver", key="--solver", value=name, allowed=hint + ", ".join(SOLVERS)
        )
    module, _, function = SOLVERS[name].partition(":")
    return cast(Solver, getattr(importlib.import_module(module), function))


def solve_by_stages(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """The best contiguous stages, each on a core of its own, by dynamic programming.

    Raises:
        InputError: for another objective than the interval.
    """
    from costs.distribution import UNORDERED_CORES, solve_stages
    from costs.stages import calc_stage_costs

    if objective != "interval":
        raise InputError(
            "the dynamic program over stages minimises the interval alone",
            key="--objective",
            value=objective,
            allowed="interval; or --solver milp",
        )
    ordered = instance.shape[1] > UNORDERED_CORES
    return solve_stages(calc_stage_costs(instance, ordered=ordered), ordered=ordered).assignment


def solve_in_order(instance: AssignmentInstance, cores: Sequence[int]) -> np.ndarray:
    """[layers] the best contiguous stages on these cores in this order, none of them empty.

    Raises:
        InputError: if there are more of them than layers, or links or DRAM couple the stages.
    """
    from costs.distribution import check_stages, solve_stages
    from costs.stages import calc_stage_costs

    check_stages(len(cores), instance.shape[0])
    chosen = np.asarray(cores)
    costs = calc_stage_costs(instance.permuted(chosen), ordered=True)
    return chosen[solve_stages(costs, ordered=True, use_all=True).assignment]


def solve_by_milp(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """The best assignment of any layer to any core, or the best in a minute."""
    from costs.milp import solve_milp

    known = search_locally(instance, objective=objective, seed=seed)
    return solve_milp(instance, objective, known=known).assignment


def search_locally(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """Annealed moves and swaps from the greedy assignment."""
    from costs.annealing import anneal

    return anneal(instance, take_greedily(instance, objective=objective), objective, seed=seed)


def split_in_order(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """As many successive layers on every core."""
    from costs.local_search import split_equally

    return split_equally(instance)


def take_greedily(
    instance: AssignmentInstance, *, objective: str = "interval", seed: int = 0
) -> np.ndarray:
    """Layer after layer where the layers so far cost least."""
    from costs.local_search import assign_greedily

    return assign_greedily(instance, objective)
