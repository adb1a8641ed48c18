"""The masked training step: one integer design for the whole batch, widths as runtime values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.data import Split
from dse.experiment_spec import Training
from models.functional import Functional

Array = jax.Array


def make_optimizer(settings: Training) -> optax.GradientTransformation:
    """AdamW without its learning rate, which the step takes as a value: one compilation for all."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(settings.weight_decay))


def one_cycle(peak: float, index: int, steps: int) -> float:
    """Learning rate of step `index`: linear rise over the first tenth, then a cosine to 1 %."""
    rise = max(1, steps // 10)
    if index < rise:
        return peak * (0.1 + 0.9 * index / rise)
    part = (index - rise) / max(1, steps - rise)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


def batch_indices(seed: int, index: int, batch: int, count: int) -> np.ndarray:
    """[batch] which pictures step `index` sees: epochs without repetition, a pure function."""
    per_epoch = max(1, count // batch)
    epoch, place = divmod(index, per_epoch)
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.resize(order, per_epoch * batch)[place * batch : (place + 1) * batch]


def shift_pictures(key: Array, pictures: Array, largest: int) -> Array:
    """Pictures [n, h, w, c] moved by up to `largest` pixels each way, zeros moving in."""
    count, height, width, channels = pictures.shape
    padded = jnp.pad(pictures, ((0, 0), (largest, largest), (largest, largest), (0, 0)))
    offsets = jax.random.randint(key, (count, 2), 0, 2 * largest + 1)

    def crop(picture: Array, offset: Array) -> Array:
        size = (height, width, channels)
        return jax.lax.dynamic_slice(picture, (offset[0], offset[1], 0), size)

    return jax.vmap(crop)(padded, offsets)


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Mean cross-entropy [nat] of logits [n, classes] and labels [n]."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def make_train_step(
    net: Functional, settings: Training, seed: int
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """A jitted step (params, optimizer leaves, stats, index, rate, data, labels, widths, crossing).

    The first two are donated. Statistics are of each batch alone while designs change from step to
    step, so none are kept.
    """
    optimizer = make_optimizer(settings)
    treedef = optimizer_structure(net, optimizer)

    def loss_fn(
        params: Any, stats: Any, pictures: Array, labels: Array, widths: Array, crossing: Array
    ) -> tuple[Array, Array]:
        logits, _ = net.apply(params, stats, pictures, widths, crossing, "batch")
        correct = jnp.mean(jnp.argmax(logits, -1) == labels)
        return cross_entropy(logits, labels, settings.label_smoothing), correct

    def step(
        params: Any,
        leaves: Any,
        stats: Any,
        index: int,
        learning_rate: float,
        pictures: Array,
        labels: Array,
        widths: Array,
        crossing: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        if settings.shift:
            key = jax.random.fold_in(jax.random.key(seed), index)
            pictures = shift_pictures(key, pictures, settings.shift)
        (loss, correct), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            params, stats, pictures, labels, widths, crossing
        )
        updates, state = optimizer.update(gradient, jax.tree.unflatten(treedef, leaves), params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
        return params, jax.tree.leaves(state), {"loss": loss, "accuracy": correct}

    return jax.jit(step, donate_argnums=(0, 1))


def optimizer_structure(net: Functional, optimizer: optax.GradientTransformation) -> Any:
    """Tree structure of an optimizer's state for the parameters of a network."""
    params = jax.eval_shape(net.init, jax.random.key(0))[0]
    return jax.tree.structure(jax.eval_shape(optimizer.init, params))


@dataclass(frozen=True)
class Evaluation:
    """What one network of one design does on one split.

    Attributes:
        correct: number of correct predictions.
        loss: mean cross-entropy [nat].
    """

    correct: int
    loss: float


def make_evaluate(net: Functional) -> Callable[..., Evaluation]:
    """An evaluation (params, stats, calibration pictures, split, design).

    The statistics of the norms are first taken on the calibration pictures under the very design
    that is evaluated, then the split is predicted with them.
    """

    @jax.jit
    def predict(
        params: Any, stats: Any, pictures: Array, labels: Array, widths: Array, crossing: Array
    ) -> tuple[Array, Array]:
        logits, _ = net.apply(params, stats, pictures, widths, crossing, "stored")
        return jnp.sum(jnp.argmax(logits, -1) == labels), cross_entropy(logits, labels)

    def evaluate(
        params: Any,
        stats: Any,
        calibration: np.ndarray,
        split: Split,
        widths: np.ndarray,
        crossing: np.ndarray,
    ) -> Evaluation:
        design = (jnp.asarray(widths, jnp.float32), jnp.asarray(crossing, jnp.float32))
        measured = net.measure(params, stats, jnp.asarray(calibration), *design)
        correct, loss = predict(params, measured, split.pictures, split.labels, *design)
        return Evaluation(int(correct), float(loss))

    return evaluate
