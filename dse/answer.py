"""After training: a design for any preference or hard budget, from the policy alone, at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from costs.errors import InputError
from dse.context import Context, make_context
from dse.design_objective import DesignObjective
from dse.experiment import phases
from dse.handover import budgets_of, objective_of
from dse.objective import COSTS, TERMS
from dse.outcomes import RunError
from dse.recovery import choose_start
from dse.requests import TRIED, start_design
from dse.rundir import RunDir
from dse.search import improve
from dse.selection import free_ordinals
from dse.session import load_config_of


@dataclass(frozen=True)
class Surface:
    """A finished run of `method: surface`, ready to be asked.

    Attributes:
        context: its experiment.
        outputs: results of its phases by name.
        objective: exact costs and predicted task loss.
    """

    context: Context
    outputs: dict[str, Any]
    objective: DesignObjective


@dataclass(frozen=True)
class Answer:
    """A design, not fine-tuned.

    Attributes:
        ordinals: [ordinals] integers.
        assignment: [layers].
        costs: of `calc_chip_cost`, arrays of one design.
        predicted_loss: cross-entropy that the predictor expects [nat].
    """

    ordinals: np.ndarray
    assignment: np.ndarray
    costs: dict[str, Any]
    predicted_loss: float


def load_surface(path: str | Path) -> Surface:
    """Read what a finished run learned.

    Raises:
        InputError: if there is no run, or it is no surface.
        RunError: if it is not finished.
    """
    from dse.checkpoint import CheckpointStore

    rundir = RunDir(Path(path))
    rundir.require_run()
    config = load_config_of(rundir)
    if config.method != "surface":
        raise InputError(
            file=rundir.config_file, key="method", value=config.method, allowed="surface"
        )
    names = [phase.name for phase in phases(config, rundir)]
    start = choose_start(names, CheckpointStore(rundir.checkpoints), rundir, lambda _: None)
    if "policy" not in start.outputs:
        raise RunError(f"{path}: the policy is not trained yet; `dse resume {path}` goes on")
    context = make_context(config)
    return Surface(context, start.outputs, objective_of(context, start.outputs))


def answer(
    surface: Surface, preference: dict[str, float], budgets: dict[str, float], seed: int = 0
) -> Answer:
    """The policy's design for a preference, polished by exact search; no network is run.

    Args:
        surface: a finished run.
        preference: weight of each cost by the names of `COSTS`; the task loss has the rest.
        budgets: hard limits by the same names; with any, the designs of several preferences of
            the policy are tried and the best that keeps them is polished.
        seed: of those preferences.

    Raises:
        RunError: if nothing that was found keeps the budgets.
    """
    context = surface.context
    objective = replace(surface.objective, budgets={**budgets_of(context), **budgets})
    vector = np.array([0.0, *(preference.get(name, 0.0) for name in TERMS[1:])])
    vector[0] = 1.0 - vector.sum()
    tried = TRIED if budgets else 1
    _, start, cores = start_design(context, objective, surface.outputs, vector, tried, seed)
    free = free_ordinals(context, objective.shape)
    ordinals, assignment = improve(objective, vector, start, cores, free)
    costs = objective.costs(ordinals[:, None], assignment[:, None])
    if objective.penalty(costs)[0] > 0:
        found = ", ".join(
            f"{name} {limit:g} (found {float(np.ravel(costs[COSTS[name]])[0]):g})"
            for name, limit in objective.budgets.items()
        )
        raise RunError(f"no design that was found keeps the budgets: {found}")
    loss = float(objective.predicted_loss(ordinals[:, None], costs)[0])
    return Answer(ordinals, assignment, costs, loss)
