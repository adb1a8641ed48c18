"""Phase (a), weights: one network learns to be every design.

One hard integer design per step for the whole batch: half of the steps tie the widths, half draw
them independently, log-uniform both; then a share of the steps is overwritten by all-minimum. Which
boundaries cross is drawn too, and the network is told all of it. No gradient of the policy reaches
the weights.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from costs.problem import Boundary
from dse.context import Context
from dse.experiment_spec import Weights
from dse.training import batch_indices, calc_learning_rate, make_optimizer

UNCOMPRESSED_SHARE = 0.1  # of boundaries; log-uniform widths alone hardly ever reach the top
WHOLE_SHARE = 0.8  # of boundaries: all their consumers are on one side


def sample_design(
    rng: np.random.Generator,
    boundaries: tuple[Boundary, ...],
    boundary_of_edge: np.ndarray,
    settings: Weights,
) -> tuple[np.ndarray, np.ndarray]:
    """A random design to train on.

    Args:
        rng: random generator.
        boundaries: bottlenecks.
        boundary_of_edge: [edges] boundary of each edge of the network.
        settings: shares of tied and of all-minimum designs.

    Returns:
        [boundaries] integer widths and [edges] 0/1 crossing flags, float32.
    """
    channels = np.array([b.channels for b in boundaries])
    top = np.array([len(b.reduce) for b in boundaries]) + 1.0  # the last stands for uncompressed
    exponent = rng.uniform(size=len(top))
    if rng.uniform() < settings.tied_fraction:
        exponent[:] = exponent[0]
    widths = np.clip(np.round(top**exponent), 1, top)
    widths = np.where(rng.uniform(size=len(top)) < UNCOMPRESSED_SHARE, top, widths)
    if rng.uniform() < settings.minimum_fraction:
        widths[:] = 1
    widths = np.where(widths == top, channels, widths)
    only = [b.width or 0 for b in boundaries]
    widths = np.where(only, only, widths)
    whole = rng.uniform(size=len(top)) < WHOLE_SHARE
    together = (rng.uniform(size=len(top)) < 0.5)[boundary_of_edge]
    apart = rng.uniform(size=len(boundary_of_edge)) < 0.5
    crossing = np.where(whole[boundary_of_edge], together, apart)
    return widths.astype(np.float32), crossing.astype(np.float32)


class WeightsPhase:
    """Trains the conditioned network. State: parameters, optimizer leaves."""

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
        return {"params": params, "stats": stats, "optimizer": leaves}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch on one design."""
        seed = self.context.config.seed
        train, training = self.context.data.train, self.context.config.training
        chosen = batch_indices(seed, index, training.batch, len(train))
        rng = np.random.default_rng([seed, 1, index])
        widths, crossing = sample_design(
            rng, self.context.boundaries, self.context.boundary_of_edge, self.settings
        )
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
        return {"params": params, "stats": state["stats"], "optimizer": leaves}, metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Trained parameters; statistics are taken anew for every design."""
        return {"params": state["params"], "stats": state["stats"]}
