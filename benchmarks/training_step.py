"""The training step of a run against the same network's plain step, side by side.

    python benchmarks/training_step.py [EXPERIMENT.yaml [KEY=VALUE ...]]

Plain, for `method: surface` and `method: joint`: the network of one design whose pairs are all
present at their largest width, without masks, gates and modulation; a joint step trains weights,
widths, assignment and hardware. Building cost tables is printed apart. For `method:
train`: the same network, with scaling, flip, crop and cutout written out here. Either is trained
by a jitted step and a loop that know nothing of runs. Both see batches of the same size. They
alternate step by step in one process, now one first and now the other, so that other work on the
machine meets both alike; the ratio is the median over pairs of neighbouring steps, with the 95 %
interval of a median. It is given in CPU time (all threads of the process) and by the clock.
Validation at the end of an epoch is not timed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.augment import prepare_pictures
from dse.config import load_config
from dse.context import Context, make_context
from dse.joint import JointPhase
from dse.tables import TablesPhase
from dse.train import TrainContext, TrainPhase, make_train_context
from dse.training import batch_indices, cross_entropy
from dse.weights import WeightsPhase
from models.slim import slim

PAIRS = 200
WARM_UP = 10  # steps of each before the first pair
TARGET = 1.10


def plain_step(context: Context) -> tuple[Callable[[Any, int], Any], Any]:
    """A hand-written training step of the network of the widest design with pairs."""
    net = context.net
    params, stats = net.init(jax.random.key(0))
    widths = [max(1, b.channels - 1) for b in net.boundaries]
    plain, params, stats = slim(net, params, stats, widths, [True] * len(net.edges))
    settings, train = context.config.training, context.data.train
    optimizer = optax.adamw(settings.learning_rate, weight_decay=settings.weight_decay)

    def loss_fn(params: Any, pictures: Any, labels: Any) -> Any:
        logits, _ = plain.apply(params, stats, pictures, mode="batch")
        return cross_entropy(logits, labels, settings.label_smoothing)

    def step(params: Any, leaves: Any, key: Any, pictures: Any, labels: Any) -> Any:
        pictures = prepare_pictures(key, pictures, settings, context.data.scaling)
        loss, gradient = jax.value_and_grad(loss_fn)(params, pictures, labels)
        updates, state = optimizer.update(gradient, jax.tree.unflatten(treedef, leaves), params)
        return optax.apply_updates(params, updates), jax.tree.leaves(state), loss

    treedef = jax.tree.structure(optimizer.init(params))
    jitted = jax.jit(step, donate_argnums=(0, 1))
    key = jax.random.key(0)

    def run(state: Any, index: int) -> Any:
        chosen = batch_indices(0, index, settings.batch, len(train))
        params, leaves, _ = jitted(*state, key, train.pictures[chosen], train.labels[chosen])
        return params, leaves

    return run, (jax.tree.map(jnp.copy, params), jax.tree.leaves(optimizer.init(params)))


def plain_training(context: TrainContext) -> tuple[Callable[[Any, int], Any], Any]:
    """A hand-written training loop of the same network, augmentation included."""
    net, train, settings = context.net, context.data.train, context.config.training
    params, stats = net.init(jax.random.key(0))
    optimizer = optax.chain(
        optax.add_decayed_weights(settings.weight_decay),
        optax.sgd(settings.learning_rate, momentum=0.9, nesterov=True),
    )
    batch, shift, side = settings.batch, settings.shift, settings.cutout
    scaling = context.data.scaling
    mean, std = (0.0, 1.0) if scaling is None else (scaling.mean, scaling.std)
    mean, std = (np.array([[[x]]], np.float32) for x in (mean, std))
    size = train.pictures.shape[1:]

    def augment(key: Any, x: Any) -> Any:
        flip_key, crop_key, cut_key = jax.random.split(key, 3)
        if scaling is not None:
            x = (x / np.float32(255) - mean) / std
        if settings.flip:
            x = jnp.where(jax.random.bernoulli(flip_key, 0.5, (batch, 1, 1, 1)), x[:, :, ::-1], x)
        if shift:
            x = jnp.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
            at = jax.random.randint(crop_key, (batch, 2), 0, 2 * shift + 1)
            x = jax.vmap(lambda p, o: jax.lax.dynamic_slice(p, (o[0], o[1], 0), size))(x, at)
        if side:
            row = jax.random.randint(cut_key, (batch, 1, 1), 0, size[0]) - side // 2
            column = jax.random.randint(cut_key, (batch, 1, 1), 0, size[1]) - side // 2
            i, j = jnp.mgrid[0 : size[0], 0 : size[1]]
            inside = (i >= row) & (i < row + side) & (j >= column) & (j < column + side)
            x = jnp.where(inside[..., None], 0.0, x)
        return x

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: Any, pictures: Any, labels: Any) -> Any:
        x = augment(key, pictures)

        def loss_fn(params: Any) -> Any:
            logits, _ = net.apply(params, stats, x, mode="batch")
            return cross_entropy(logits, labels, settings.label_smoothing)

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    key = jax.random.key(0)
    order = np.random.default_rng(0).permutation(len(train))
    places = len(train) // batch

    def run(state: Any, index: int) -> Any:
        chosen = order[index % places * batch :][:batch]
        key_of_step = jax.random.fold_in(key, index)
        params, moments, _ = step(*state, key_of_step, train.pictures[chosen], train.labels[chosen])
        return params, moments

    return run, (jax.tree.map(jnp.copy, params), optimizer.init(params))


def build_tables(context: Context) -> Any:
    """The result of phase tables, its time printed: it is no part of a step, but of a run."""
    phase, began = TablesPhase(context), time.process_time()
    state = phase.init({})
    for index in range(phase.count({})):
        state, _ = phase.step(state, index)
    tables = phase.result(state)
    print(f"cost tables   {time.process_time() - began:7.1f} s of CPU (those cached are read)")
    return tables


def main() -> None:
    """Print the ratio."""
    path = sys.argv[1] if len(sys.argv) > 1 else "experiments/quickstart.yaml"
    config = load_config(path, sys.argv[2:])
    outputs: dict[str, Any] = {}
    if config.method == "train":
        trained = make_train_context(config)
        phase = TrainPhase(trained, Path(tempfile.gettempdir()))

        def advance(state: Any, index: int) -> Any:
            return phase.run_steps(state, index, index + 1)

        plain, plain_state = plain_training(trained)
    else:
        context = make_context(config)
        outputs = {"tables": build_tables(context)}
        if config.method == "joint":
            phase = JointPhase(context)
            phase.bind(outputs)
        else:
            phase = WeightsPhase(context)
        advance = phase.step
        plain, plain_state = plain_step(context)
    state = phase.init(outputs)
    began = time.perf_counter()
    state, _ = jax.block_until_ready(advance(state, 0))
    compiled = time.perf_counter()
    plain_state = jax.block_until_ready(plain(plain_state, 0))
    compile_s = compiled - began, time.perf_counter() - compiled
    seconds = np.zeros((PAIRS, 2, 2))  # pair, run or plain, CPU or clock
    for index in range(1, WARM_UP + PAIRS + 1):
        for which in (0, 1) if index % 2 else (1, 0):
            before = np.array([time.process_time(), time.perf_counter()])
            if which == 0:
                state, _ = jax.block_until_ready(advance(state, index))
            else:
                plain_state = jax.block_until_ready(plain(plain_state, index))
            spent = np.array([time.process_time(), time.perf_counter()]) - before
            if index > WARM_UP:
                seconds[index - WARM_UP - 1, which] = spent
    for name, compiled_s, (cpu_s, clock_s) in zip(
        ("step of a run", "plain step"), compile_s, np.median(seconds, axis=0), strict=True
    ):
        print(
            f"{name:13} {1e3 * cpu_s:7.2f} ms of CPU, {1e3 * clock_s:7.2f} ms by the clock "
            f"(compiled in {compiled_s:.1f} s)"
        )
    for kind, pairs in zip(("CPU time", "clock"), np.moveaxis(seconds, 2, 0), strict=True):
        ratios = np.sort(pairs[:, 0] / pairs[:, 1])
        half = 0.98 * PAIRS**0.5  # order statistics between which the median lies, 95 %
        low, high = ratios[int(PAIRS / 2 - half)], ratios[int(PAIRS / 2 + half)]
        print(f"ratio in {kind}: {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] (target {TARGET})")


if __name__ == "__main__":
    main()
