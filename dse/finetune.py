"""Phase (d), fine-tuning: a short training of each chosen design through the same masked step.

Widths and crossings are runtime values, so nothing is compiled anew. Whichever weights validate
better are kept, the shared ones or the tuned ones.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dse.context import Context
from dse.design_objective import DesignObjective
from dse.handover import chosen_designs, objective_of, trained_weights
from dse.training import batch_indices, make_optimizer, one_cycle


class FinetunePhase:
    """Tunes design after design. State: the design at work, and the weights kept for each."""

    name = "finetune"
    steps = 0  # see `count`

    def __init__(self, context: Context) -> None:
        """Bind the experiment."""
        self.context = context
        self.settings = context.config.surface.finetune

    def bind(self, outputs: dict[str, Any]) -> None:
        """Take the shared weights and the chosen designs."""
        self.weights = trained_weights(outputs)
        chosen = chosen_designs(outputs)
        objective: DesignObjective = objective_of(self.context, outputs)
        costs = objective.costs(chosen["ordinals"], chosen["assignment"])
        self.widths = objective.shape.widths(chosen["ordinals"]).astype(np.float32)
        self.crossing = self.context.crossing(costs["crossing"]).astype(np.float32)

    def count(self, outputs: dict[str, Any]) -> int:
        """Steps of all designs, plus one for each that measures and keeps."""
        return chosen_designs(outputs)["ordinals"].shape[1] * (self.settings.steps + 1)

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Every design begins with the shared weights."""
        designs = self.widths.shape[1]
        kept = {
            name: np.repeat(np.asarray(value)[None], designs, axis=0)
            for name, value in self.weights["params"].items()
        }
        return {**self._fresh(), "kept": kept, "improved": np.zeros(designs, bool)}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch for the design at work, or its comparison with the shared weights."""
        design, place = divmod(index, self.settings.steps + 1)
        widths, crossing = self.widths[:, design], self.crossing[:, design]
        if place == self.settings.steps:
            return self._keep(state, design, widths, crossing)
        training, train = self.context.config.training, self.context.data.train
        chosen = batch_indices(self.context.config.seed + 1, index, training.batch, len(train))
        params, leaves, metrics = self.context.train_step(
            state["params"],
            state["optimizer"],
            self.weights["stats"],
            index,
            one_cycle(self.settings.learning_rate, place, self.settings.steps),
            train.pictures[chosen],
            train.labels[chosen],
            widths,
            crossing,
        )
        return {**state, "params": params, "optimizer": leaves}, {**metrics, "design": design}

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Weights of each design [designs, ...], and whether tuning improved on the shared ones."""
        return {"params": state["kept"], "improved": state["improved"]}

    def _fresh(self) -> dict[str, Any]:
        params = {name: jnp.array(value) for name, value in self.weights["params"].items()}
        optimizer = make_optimizer(self.context.config.training)
        return {"params": params, "optimizer": jax.tree.leaves(optimizer.init(params))}

    def _keep(
        self, state: dict[str, Any], design: int, widths: np.ndarray, crossing: np.ndarray
    ) -> tuple[dict[str, Any], dict]:
        def measure(params: dict[str, Any]) -> tuple[int, float]:
            found = self.context.evaluate(
                params,
                self.weights["stats"],
                self.context.calibration,
                self.context.data.validation,
                widths,
                crossing,
            )
            return found.correct, -found.loss

        shared, tuned = measure(self.weights["params"]), measure(state["params"])
        better = tuned > shared
        kept, improved = state["kept"], state["improved"].copy()
        if better:
            kept = {name: array.copy() for name, array in kept.items()}
            for name, value in state["params"].items():
                kept[name][design] = np.asarray(value)
            improved[design] = True
        total = len(self.context.data.validation)
        metrics = {
            "design": design,
            "shared_accuracy": shared[0] / total,
            "tuned_accuracy": tuned[0] / total,
        }
        return {**self._fresh(), "kept": kept, "improved": improved}, metrics
