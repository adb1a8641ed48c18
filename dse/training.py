"""The masked training step: one integer design for the whole batch, widths as runtime values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.augment import prepare_pictures
from dse.data import Scaling, Split
from dse.devices import check_batch, everywhere, on_all_devices, share_out
from dse.experiment_spec import Training
from models.functional import Functional

Array = jax.Array

MOMENTUM = 0.9
EVALUATED_AT_ONCE = 500  # pictures; more of them would cost memory and gain no speed


def make_optimizer(settings: Training) -> optax.GradientTransformation:
    """The optimizer without its learning rate, which the step takes as a value: compiled once."""
    if settings.optimizer == "sgd":
        return optax.chain(
            optax.add_decayed_weights(settings.weight_decay),
            optax.trace(decay=MOMENTUM, nesterov=True),
        )
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(settings.weight_decay))


def calc_learning_rate(settings: Training, index: int, steps: int) -> float:
    """Learning rate of step `index` under the schedule of an experiment."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return one_cycle(settings.learning_rate, index, steps, settings.rise)


def one_cycle(peak: float, index: int, steps: int, rise: float = 0.1) -> float:
    """Learning rate of step `index`: linear from a tenth during `rise`, then a cosine to 1 %."""
    rising = max(1, int(steps * rise))
    if index < rising:
        return peak * (0.1 + 0.9 * index / rising)
    part = (index - rising) / max(1, steps - rising)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))


def batch_indices(seed: int, index: int, batch: int, count: int) -> np.ndarray:
    """[batch] which pictures step `index` sees: epochs without repetition, a pure function."""
    per_epoch = max(1, count // batch)
    epoch, place = divmod(index, per_epoch)
    order = np.resize(_epoch_order(seed, epoch, count), per_epoch * batch)
    return order[place * batch : (place + 1) * batch]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    order = np.random.default_rng([seed, epoch]).permutation(count)
    order.setflags(write=False)
    return order


def cross_entropy(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Mean cross-entropy [nat] of logits [n, classes] and labels [n]."""
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return jnp.mean(optax.softmax_cross_entropy(logits, targets))


def make_step(
    net: Functional, settings: Training, scaling: Scaling | None
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """A step (params, leaves, stats, seed, index, rate, pictures, labels, widths, crossing).

    The seed is a value: what is compiled serves every seed. It returns new params, new leaves and
    metrics. Statistics are of each batch alone while designs change from step to step, so none are
    kept. With `bfloat16` the network runs in it; weights, statistics, loss and optimizer stay
    float32.
    """
    optimizer = make_optimizer(settings)
    treedef = optimizer_structure(net, optimizer)
    precision = jnp.dtype(settings.precision)

    def loss_fn(
        params: Any, stats: Any, pictures: Array, labels: Array, widths: Any, crossing: Any
    ) -> tuple[Array, Array]:
        params = jax.tree.map(lambda value: value.astype(precision), params)
        pictures = pictures.astype(precision)
        logits, _ = net.apply(params, stats, pictures, widths, crossing, "batch")
        logits = logits.astype(jnp.float32)
        correct = jnp.mean(jnp.argmax(logits, -1) == labels)
        return cross_entropy(logits, labels, settings.label_smoothing), correct

    def step(
        params: Any,
        leaves: Any,
        stats: Any,
        seed: Any,
        index: Any,
        learning_rate: Any,
        pictures: Array,
        labels: Array,
        widths: Any = None,
        crossing: Any = None,
    ) -> tuple[Any, Any, dict[str, Array]]:
        key = jax.random.fold_in(jax.random.key(seed), index)
        pictures = prepare_pictures(key, pictures, settings, scaling)
        (loss, correct), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            params, stats, pictures, labels, widths, crossing
        )
        updates, state = optimizer.update(gradient, jax.tree.unflatten(treedef, leaves), params)
        params = jax.tree.map(lambda p, u: p - learning_rate * u, params, updates)
        return params, jax.tree.leaves(state), {"loss": loss, "accuracy": correct}

    return step


def make_train_step(
    net: Functional, settings: Training, seed: int, scaling: Scaling | None = None
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """The jitted step of `make_step`; the first two arguments are donated.

    Where there are several devices each takes its share of the batch, and all hold the weights.

    Raises:
        InputError: if the batch cannot be shared out evenly.
    """
    check_batch(settings.batch)
    jitted = jax.jit(
        make_step(net, settings, scaling),
        donate_argnums=(0, 1),
        out_shardings=everywhere(),
    )

    def step(
        params: Any,
        leaves: Any,
        stats: Any,
        index: int,
        learning_rate: float,
        pictures: np.ndarray,
        labels: np.ndarray,
        widths: np.ndarray | None = None,
        crossing: np.ndarray | None = None,
    ) -> tuple[Any, Any, dict[str, Array]]:
        params, leaves, stats = on_all_devices((params, leaves, stats))
        pictures, labels = share_out(pictures), share_out(labels)
        return jitted(
            params, leaves, stats, seed, index, learning_rate, pictures, labels, widths, crossing
        )

    return step


def make_chunk_step(
    net: Functional, settings: Training, seed: int, scaling: Scaling | None
) -> Callable[..., tuple[Any, Any, dict[str, Array]]]:
    """Several steps in one call, for accelerators: the data set lies on the device.

    A function (params, optimizer leaves, stats, first index, rates [k], rows [k, batch], all
    pictures, all labels); the first two are donated; metrics come as [k]. Not for CPU, where a
    convolution inside a scan is 60 times slower than outside.
    """
    check_batch(settings.batch)
    step = make_step(net, settings, scaling)

    def chunk(
        params: Any,
        leaves: Any,
        stats: Any,
        first: Any,
        rates: Array,
        rows: Array,
        pictures: Array,
        labels: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        def body(carry: Any, xs: Any) -> Any:
            index, rate, chosen = xs
            batch = pictures[chosen], labels[chosen]
            *carry, metrics = step(*carry, stats, seed, index, rate, *batch)
            return tuple(carry), metrics

        steps = (first + jnp.arange(len(rates)), rates, rows)
        (params, leaves), metrics = jax.lax.scan(body, (params, leaves), steps)
        return params, leaves, metrics

    jitted = jax.jit(chunk, donate_argnums=(0, 1), out_shardings=everywhere())

    def run(
        params: Any,
        leaves: Any,
        stats: Any,
        first: int,
        rates: np.ndarray,
        rows: np.ndarray,
        pictures: Array,
        labels: Array,
    ) -> tuple[Any, Any, dict[str, Array]]:
        params, leaves, stats = on_all_devices((params, leaves, stats))
        return jitted(
            params, leaves, stats, first, rates, share_out(rows, axis=1), pictures, labels
        )

    return run


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
        params: Any, stats: Any, pictures: Array, labels: Array, widths: Any, crossing: Any
    ) -> tuple[Array, Array]:
        logits, _ = net.apply(params, stats, pictures, widths, crossing, "stored")
        return jnp.sum(jnp.argmax(logits, -1) == labels), cross_entropy(logits, labels)

    def evaluate(
        params: Any,
        stats: Any,
        calibration: np.ndarray,
        split: Split,
        widths: np.ndarray | None = None,
        crossing: np.ndarray | None = None,
    ) -> Evaluation:
        design = [None if x is None else jnp.asarray(x, jnp.float32) for x in (widths, crossing)]
        measured = net.measure(params, stats, jnp.asarray(calibration), *design)
        correct, loss = 0, 0.0
        for start in range(0, len(split), EVALUATED_AT_ONCE):
            labels = split.labels[start : start + EVALUATED_AT_ONCE]
            pictures = split.inputs(start, start + EVALUATED_AT_ONCE)
            found = predict(params, measured, pictures, labels, *design)
            correct += int(found[0])
            loss += float(found[1]) * len(labels)
        return Evaluation(correct, loss / len(split))

    return evaluate
