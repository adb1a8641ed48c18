"""Phase (a), weights: one network learns to be every design.

One hard integer design per step for the whole batch, of `dse.sampling`; the network is told all of
it. No gradient of the policy reaches the weights.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.handover import objective_of
from dse.objective import TERMS, sample_preferences
from dse.sampling import sample_design, sample_widths
from dse.search import improve
from dse.training import batch_indices, calc_learning_rate, make_optimizer

PATTERNS = 32  # of cheap crossings; each costs one search over assignments and hardware


def cheap_crossings(
    context: Context, objective: DesignObjective, reference: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Which edges cross where costs alone place designs of random widths for random preferences.

    Args:
        context: the experiment.
        objective: exact costs, without a predictor.
        reference: ordinals and assignment from which each search starts.

    Returns:
        [edges, patterns] 0/1 flags, int8; no patterns where the experiment samples none.
    """
    if context.config.surface.weights.cheap_fraction == 0:
        return np.zeros((len(context.net.edges), 0), np.int8)
    shape = objective.shape
    rng = np.random.default_rng([context.config.seed, 9])
    ordinals, assignment = reference
    terms: list[str] = [*context.config.surface.policy.terms]
    is_knob = np.arange(len(ordinals)) >= len(shape.max_widths)
    knobs = is_knob & (context.config.hardware.mode != "fixed")
    found = []
    for _ in range(PATTERNS):
        widths = sample_widths(rng, context.boundaries, context.config.surface.weights)
        start = np.array(ordinals)
        start[: len(widths)] = np.minimum(widths, np.array(shape.largest_pairs) + 1)
        preference = sample_preferences(rng, 1, terms)[:, 0]
        preference[TERMS.index("task")] = 0.0
        preference /= preference.sum()
        values, where = improve(objective, preference, start, assignment, knobs)
        costs = objective.costs(values[:, None], where[:, None])
        found.append(context.crossing(costs["crossing"])[:, 0])
    return np.stack(found, axis=1).astype(np.int8)


def training_design(
    context: Context, index: int, steps: int, cheap: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Widths [boundaries] and crossings [edges] of one step of a training for all designs.

    The whole network on one core comes first and narrower ones then (progressive shrinking; Cai et
    al., Once-for-all, ICLR 2020): what they share is learned undisturbed.
    """
    settings, boundaries = context.config.surface.weights, context.boundaries
    if index < settings.whole_fraction * steps:
        widths = np.array([b.width or b.channels for b in boundaries], np.float32)
        return widths, np.zeros(len(context.net.edges), np.float32)
    rng = np.random.default_rng([context.config.seed, 1, index])
    return sample_design(rng, boundaries, context.boundary_of_edge, settings, cheap)


class WeightsPhase:
    """Trains the conditioned network. State: parameters, optimizer leaves, cheap crossings."""

    name = "weights"

    def __init__(self, context: Context) -> None:
        """Bind the experiment; nothing is compiled yet."""
        self.context = context
        self.settings = context.config.surface.weights
        self.steps = self.settings.steps

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Fresh weights."""
        params, stats = self.context.net.init(jax.random.key(self.context.config.seed))
        leaves = jax.tree.leaves(make_optimizer(self.context.config.training).init(params))
        cheap = cheap_crossings(
            self.context, objective_of(self.context, outputs), outputs["tables"]["reference"]
        )
        return {"params": params, "stats": stats, "optimizer": leaves, "cheap": cheap}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch on one design."""
        seed = self.context.config.seed
        train, training = self.context.data.train, self.context.config.training
        chosen = batch_indices(seed, index, training.batch, len(train))
        widths, crossing = training_design(self.context, index, self.steps, state["cheap"])
        params, leaves, metrics = self.context.train_step(
            state["params"],
            state["optimizer"],
            state["stats"],
            index,
            calc_learning_rate(training, index, self.steps),
            train.pictures[chosen],
            train.labels[chosen],
            widths,
            crossing,
        )
        return {**state, "params": params, "optimizer": leaves}, metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Trained parameters; statistics are taken anew for every design."""
        return {name: state[name] for name in ("params", "stats", "cheap")}
