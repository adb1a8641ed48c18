"""Phase (d), fine-tuning: a short training of each chosen design through the same masked step.

Before, the chosen designs may go on together for a while, in turn, still sharing their weights:
neighbours on a front are much alike, and what one learns serves the others. Widths and crossings
are runtime values, so nothing is compiled anew. Whichever weights validate better are kept, the
shared ones or the tuned ones.
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
    """Tunes all designs together, then each. State: the weights at work, shared, and kept."""

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
        """Steps together, then of each design, plus one for each that measures and keeps."""
        steps = self.settings.steps
        each = chosen_designs(outputs)["ordinals"].shape[1] * (steps + 1) if steps else 0
        return self.settings.together + each

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Every design begins with the shared weights."""
        shared = self.weights["params"]
        return {**self._fresh(shared), **self._shared(shared)}

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch for the design at work, or its comparison with the shared weights."""
        steps, together = self.settings.steps, self.settings.together
        if index < together:
            # a new order in each round
            round_, place = divmod(index, self.widths.shape[1])
            order = np.random.default_rng([self.context.config.seed, 10, round_])
            design = int(order.permutation(self.widths.shape[1])[place])
            state, metrics = self._train(state, index, design, (index, together))
            if index == together - 1:
                shared = {name: np.asarray(value) for name, value in state["params"].items()}
                state = {**self._fresh(shared), **self._shared(shared)}
            return state, metrics
        design, place = divmod(index - together, steps + 1)
        if place == steps:
            return self._keep(state, design)
        return self._train(state, index, design, (place, steps))

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """Weights of each design [designs, ...], and whether tuning improved on the shared ones."""
        return {"params": state["kept"], "improved": state["improved"]}

    def _train(
        self, state: dict[str, Any], index: int, design: int, place: tuple[int, int]
    ) -> tuple[dict[str, Any], dict]:
        """One batch for a design; `place` is where in its schedule, and how long that is."""
        training, train = self.context.config.training, self.context.data.train
        chosen = batch_indices(self.context.config.seed + 1, index, training.batch, len(train))
        params, leaves, metrics = self.context.train_step(
            state["params"],
            state["optimizer"],
            self.weights["stats"],
            index,
            one_cycle(self.settings.learning_rate, *place),
            train.pictures[chosen],
            train.labels[chosen],
            self.widths[:, design],
            self.crossing[:, design],
        )
        return {**state, "params": params, "optimizer": leaves}, {**metrics, "design": design}

    def _fresh(self, shared: dict[str, Any]) -> dict[str, Any]:
        params = {name: jnp.array(value) for name, value in shared.items()}
        optimizer = make_optimizer(self.context.config.training)
        return {"params": params, "optimizer": jax.tree.leaves(optimizer.init(params))}

    def _shared(self, shared: dict[str, Any]) -> dict[str, Any]:
        """These weights as those of every design."""
        designs = self.widths.shape[1]
        kept = {
            name: np.repeat(np.asarray(value)[None], designs, axis=0)
            for name, value in shared.items()
        }
        return {"shared": shared, "kept": kept, "improved": np.zeros(designs, bool)}

    def _keep(self, state: dict[str, Any], design: int) -> tuple[dict[str, Any], dict]:
        def measure(params: dict[str, Any]) -> tuple[int, float]:
            found = self.context.evaluate(
                params,
                self.weights["stats"],
                self.context.calibration,
                self.context.data.validation,
                self.widths[:, design],
                self.crossing[:, design],
            )
            return found.correct, -found.loss

        shared, tuned = measure(state["shared"]), measure(state["params"])
        kept, improved = state["kept"], state["improved"].copy()
        if tuned > shared:
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
        state = {**state, **self._fresh(state["shared"])}
        return {**state, "kept": kept, "improved": improved}, metrics
