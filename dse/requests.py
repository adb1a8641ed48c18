"""Designs asked for by name: a preference, hard budgets or both, answered by the trained policy.

`start_design` is what `dse ask` and the `requests` of an experiment have in common. The phase adds
the designs of the latter to those that selection chose, so that they are tuned and measured too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.experiment_spec import Budget, Preference, Request
from dse.handover import budgets_of, objective_of
from dse.objective import COSTS, TERMS, sample_preferences
from dse.policy import propose
from dse.search import polish
from dse.selection import free_ordinals, rounded

TRIED = 16  # preferences around the one asked for, where a budget decides
PASSED_ON = ("preference", "relaxed", "ordinals", "assignment", "gaps")
"""What later phases take of chosen designs."""


def preference_vector(preference: Preference) -> np.ndarray:
    """[5] weights of the terms, the task loss with what the costs leave."""
    given = preference.model_dump()
    vector = np.array([0.0, *(given[name] for name in TERMS[1:])], np.float32)
    vector[0] = 1.0 - vector.sum()
    return vector


def limits_of(budget: Budget) -> dict[str, float]:
    """The limits that are given, by the names of `COSTS`."""
    given = budget.model_dump()
    return {name: given[name] for name in COSTS if given[name] is not None}


def words_of(request: Request) -> str:
    """A request in words: `io_bytes <= 150, prefer energy 0.2`."""
    limits = [f"{name} <= {limit:g}" for name, limit in limits_of(request.budget).items()]
    weights = {name: weight for name, weight in request.preference.model_dump().items() if weight}
    return ", ".join([*limits, *(f"prefer {name} {weight:g}" for name, weight in weights.items())])


def start_design(
    context: Context,
    objective: DesignObjective,
    outputs: dict[str, Any],
    preference: np.ndarray,
    tried: int = 1,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The policy's design for a preference, to begin a search from.

    Args:
        context: the experiment.
        objective: exact objective, with the budgets of the request.
        outputs: results of the phases, the policy among them.
        preference: [5].
        tried: so many preferences, this one among them; the best of their designs is taken.
        seed: of the others.

    Returns:
        [ordinals] relaxed and rounded, [layers].
    """
    terms: list[str] = [*context.config.surface.policy.terms]
    others = sample_preferences(np.random.default_rng(seed), tried - 1, terms)
    asked = np.concatenate([preference[:, None], others], axis=1)
    params = {name: np.asarray(value) for name, value in outputs["policy"]["params"].items()}
    relaxed, logits = propose(objective.shape, params, asked, np)
    ordinals, assignment = rounded(objective.shape, relaxed, logits)
    if "hardware" in outputs:  # one chip for all
        ordinals[len(objective.shape.max_widths) :] = outputs["hardware"]["knobs"][:, None]
    best = 0
    if tried > 1:
        best = int(np.argmin(objective.value(preference[:, None], ordinals, assignment)))
    return relaxed[:, best].astype(float), ordinals[:, best], assignment[:, best]


class RequestsPhase:
    """Finds a design for each request. State: the designs so far."""

    name = "requests"

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.requests = context.config.requests
        self.steps = len(self.requests)

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take tables, predictor, policy, shared hardware if any, and what selection chose."""
        self.outputs = outputs
        self.objective = objective_of(self.context, outputs)
        self.chosen = {name: outputs["selection"][name] for name in PASSED_ON}

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What selection chose, and room for the designs of the requests."""
        room = {
            name: np.concatenate(
                [array, np.zeros((*array.shape[:-1], self.steps), array.dtype)], -1
            )
            for name, array in self.chosen.items()
        }
        known = self.chosen["ordinals"].shape[1]
        return room | {"request": np.r_[np.full(known, -1), np.arange(self.steps)]}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """Answer one request by the policy and exact search."""
        context, request = self.context, self.requests[index]
        limits = {**budgets_of(context), **limits_of(request.budget)}
        objective = replace(self.objective, budgets=limits)
        preference = preference_vector(request.preference)
        tried = TRIED if limits_of(request.budget) else 1
        seed = context.config.seed + index
        start = start_design(context, objective, self.outputs, preference, tried, seed)
        free = free_ordinals(context, objective.shape)
        found = polish(objective, preference, *start[1:], free)
        gap = self.outputs["hardware"]["gap"][0] if "hardware" in self.outputs else None
        column = self.chosen["ordinals"].shape[1] + index
        state = {name: array.copy() for name, array in state.items()}
        for name, values in (
            ("preference", preference),
            ("relaxed", start[0]),
            ("ordinals", found.ordinals),
            ("assignment", found.assignment),
            (
                "gaps",
                (found.gap_before, found.gap_after, found.hardware_gap if gap is None else gap),
            ),
        ):
            state[name][:, column] = values
        costs = objective.costs(found.ordinals[:, None], found.assignment[:, None])
        shown = {name: float(costs[name][0]) for name in ("io_bytes", "energy_pj")}
        return state, {"request": index, **shown}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The chosen designs with those of the requests; which request each is for, or -1."""
        return state
