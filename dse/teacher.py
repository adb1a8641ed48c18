"""Plain training of any network, by steps: the teacher, or what skipping starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dse.augment import prepare_pictures
from dse.data import DataSet
from dse.experiment_spec import Experiment
from dse.trainable import Trainable
from dse.training import batch_indices, calc_learning_rate, cross_entropy, make_optimizer
from models.registry import build_network


class TeacherPhase:
    """Trains a network as it is. State: parameters, the rest of the network, optimizer leaves."""

    name = "teacher"

    def __init__(self, config: Experiment, data: DataSet, net: Trainable, steps: int) -> None:
        """Bind the experiment; nothing is compiled yet."""
        self.config, self.data, self.net, self.steps = config, data, net, steps
        self.optimizer = make_optimizer(config.training)
        self.compiled = jax.jit(self._step, donate_argnums=(0, 1, 2))

    def init(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """Fresh weights."""
        params, rest = self.net.init(jax.random.key(self.config.seed))
        return {
            "params": params,
            "rest": rest,
            "optimizer": jax.tree.leaves(self.optimizer.init(params)),
        }

    def step(self, state: dict[str, Any], index: int) -> tuple[dict[str, Any], dict | None]:
        """One batch."""
        pictures, labels = draw_batch(self.config, self.data, index)
        rate = calc_learning_rate(self.config.training, index, self.steps)
        params, rest, leaves, metrics = self.compiled(
            state["params"], state["rest"], state["optimizer"], index, rate, pictures, labels
        )
        return {"params": params, "rest": rest, "optimizer": leaves}, metrics

    def result(self, state: dict[str, Any]) -> dict[str, Any]:
        """The trained network, its norms measured on the calibration pictures."""
        rest = self.net.measure(
            state["params"], state["rest"], jnp.asarray(calibration(self.config, self.data))
        )
        return {"params": state["params"], "rest": rest}

    def _step(
        self,
        params: Any,
        rest: Any,
        leaves: Any,
        index: jax.Array,
        rate: jax.Array,
        pictures: jax.Array,
        labels: jax.Array,
    ) -> tuple[Any, Any, Any, dict[str, jax.Array]]:
        training = self.config.training
        key = jax.random.fold_in(jax.random.key(self.config.seed), index)
        pictures = prepare_pictures(key, pictures, training, self.data.scaling)

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, after = self.net.apply(params, rest, pictures, train=True)
            loss = cross_entropy(logits, labels, training.label_smoothing)
            return loss, (after, jnp.mean(jnp.argmax(logits, -1) == labels))

        (loss, (after, correct)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
        params, leaves = descend(self.optimizer, params, leaves, gradient, rate)
        return params, after, leaves, {"loss": loss, "accuracy": correct}


def descend(
    optimizer: Any, params: Any, leaves: Any, gradient: Any, rate: jax.Array | float
) -> tuple[Any, Any]:
    """Parameters and optimizer leaves after one step of an optimizer without learning rate."""
    structure = jax.tree.structure(jax.eval_shape(optimizer.init, params))
    updates, state = optimizer.update(gradient, jax.tree.unflatten(structure, leaves), params)
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return params, jax.tree.leaves(state)


def draw_batch(config: Experiment, data: DataSet, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Stored pictures and labels of one training step, a pure function of seed and index."""
    chosen = batch_indices(config.seed, index, config.training.batch, len(data.train))
    return data.train.pictures[chosen], data.train.labels[chosen]


def calibration(config: Experiment, data: DataSet) -> np.ndarray:
    """The fixed training pictures on which norms take their statistics."""
    return data.train.inputs(stop=config.training.calibration_pictures)


def plain_trainable(
    config: Experiment, data: DataSet, change: Callable[[Any, Any], None] | None = None
) -> Trainable:
    """The network of an experiment without bottlenecks.

    Args:
        config: The experiment.
        data: Tells the network its input and classes.
        change: (network, random keys) -> None, what is exchanged in it.
    """
    options: dict[str, Any] = {"input_shape": data.input_shape, "classes": data.classes}
    if config.network.width_multiplier != 1.0:
        options["width_multiplier"] = config.network.width_multiplier

    def make(rngs: Any) -> Any:
        net = build_network(config.network.name, rngs=rngs, **options)
        if change is not None:
            change(net, rngs)
        return net

    return Trainable(make)
