"""A phase that trains weights and one array of relaxed numbers by one backward pass.

What `dse.insitu` does with numbers of bases and `dse.skipping` with kept shares: the numbers have
an optimizer of their own and are held for the last part of the steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dse.augment import prepare_pictures
from dse.data import DataSet
from dse.experiment_spec import Experiment, InSitu, Skipping
from dse.teacher import descend, draw_batch
from dse.training import one_cycle


class Batch(NamedTuple):
    """What a step sees.

    Attributes:
        key: of this step.
        step: its number.
        pictures: f32[batch, height, width, channels], prepared.
        labels: i32[batch].
        given: what `RelaxedPhase.given` returns.
    """

    key: jax.Array
    step: jax.Array
    pictures: jax.Array
    labels: jax.Array
    given: Any


Loss = tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]
"""(loss, (rest after it, metrics))."""


class RelaxedPhase(ABC):
    """Training with relaxed numbers. State: parameters, rest, numbers, both optimizers' leaves.

    Attributes:
        name: of the phase.
        relaxed: what the numbers are, "width" or "share": the state has `widths`,
            `width_optimizer`.
    """

    name: str
    relaxed: str

    def __init__(
        self,
        config: Experiment,
        data: DataSet,
        settings: InSitu | Skipping,
        optimizer: optax.GradientTransformation,
        *,
        rate: float,
        bounds: tuple[Any, Any],
        held_share: float,
        seed: int,
    ) -> None:
        """Bind an experiment; nothing is compiled yet.

        Args:
            config: the experiment.
            data: its data.
            settings: of the method.
            optimizer: of the weights, without its learning rate.
            rate: learning rate of the numbers; 0: they stay.
            bounds: least and largest numbers.
            held_share: share of the steps after which they are held.
            seed: of everything random in a step.
        """
        self.config, self.data, self.settings = config, data, settings
        self.steps = settings.steps
        self.optimizer = optimizer
        self.rate, self.bounds = rate, bounds
        self.relaxed_optimizer = optax.scale_by_adam()
        self.held_from = int(held_share * self.steps)
        self.seed = seed
        self.parts = (
            "params",
            "rest",
            "optimizer",
            f"{self.relaxed}s",
            f"{self.relaxed}_optimizer",
        )
        self.compiled = jax.jit(self._step, donate_argnums=tuple(range(len(self.parts))))

    @abstractmethod
    def calc_loss(self, params: Any, numbers: jax.Array, rest: Any, batch: Batch) -> Loss:
        """The loss of a batch.

        Args:
            params: the weights.
            numbers: the relaxed numbers.
            rest: all else that the network keeps.
            batch: what the step sees.
        """

    def given(self) -> Any:
        """Further arrays of the loss, such as a teacher's; not trained."""
        return None

    def begin(self, params: Any, rest: Any, numbers: jax.Array) -> dict[str, Any]:
        """The state before the first step."""
        optimizers = (self.optimizer.init(params), self.relaxed_optimizer.init(numbers))
        leaves, relaxed_leaves = map(jax.tree.leaves, optimizers)
        return dict(zip(self.parts, (params, rest, leaves, numbers, relaxed_leaves), strict=True))

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch."""
        batch = draw_batch(self.config, self.data, index)
        rate = one_cycle(self.settings.learning_rate, index, self.steps)
        old = (state[name] for name in self.parts)
        *new, metrics = self.compiled(*old, index, rate, *batch, self.given())
        return dict(zip(self.parts, new, strict=True)), metrics

    def _step(
        self,
        params: Any,
        rest: Any,
        leaves: Any,
        numbers: jax.Array,
        relaxed_leaves: Any,
        index: jax.Array,
        rate: jax.Array,
        pictures: jax.Array,
        labels: jax.Array,
        given: Any,
    ) -> tuple[Any, ...]:
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        pictures = prepare_pictures(key, pictures, self.config.training, self.data.scaling)
        (loss, (rest, metrics)), (gradient, relaxed_gradient) = jax.value_and_grad(
            self.calc_loss, argnums=(0, 1), has_aux=True
        )(params, numbers, rest, Batch(key, index, pictures, labels, given))
        params, leaves = descend(self.optimizer, params, leaves, gradient, rate)
        if self.rate:
            free = jnp.where(index >= self.held_from, 0.0, self.rate)
            moved, relaxed_leaves = descend(
                self.relaxed_optimizer, numbers, relaxed_leaves, relaxed_gradient, free
            )
            numbers = jnp.clip(moved, *self.bounds)
        return params, rest, leaves, numbers, relaxed_leaves, metrics | {"loss": loss}
