"""The weight-training step of a run against the same network's plain step, side by side.

    python benchmarks/training_step.py [EXPERIMENT.yaml]

Plain: the network of one design whose pairs are all present at their largest width, without masks,
gates and modulation, trained by a jitted AdamW step written out here. Both steps see the same
batches; they alternate in one process, and the ratio is that of the medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dse.augment import shift_pictures
from dse.config import load_config
from dse.context import Context, make_context
from dse.training import batch_indices, cross_entropy
from dse.weights import WeightsPhase
from models.slim import slim

ROUNDS = 15
STEPS_PER_ROUND = 20
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
        if settings.shift:
            pictures = shift_pictures(key, pictures, settings.shift)
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


def main() -> None:
    """Print the ratio."""
    path = sys.argv[1] if len(sys.argv) > 1 else "experiments/quickstart.yaml"
    context = make_context(load_config(path))
    phase = WeightsPhase(context)
    plain, plain_state = plain_step(context)
    state = phase.init({})
    began = time.perf_counter()
    state, _ = jax.block_until_ready(phase.step(state, 0))
    compiled = time.perf_counter()
    plain_state = jax.block_until_ready(plain(plain_state, 0))
    compile_s = compiled - began, time.perf_counter() - compiled
    times: dict[str, list[float]] = {"run": [], "plain": []}
    for round_ in range(ROUNDS):
        first = 1 + round_ * STEPS_PER_ROUND
        began = time.perf_counter()
        for index in range(first, first + STEPS_PER_ROUND):
            state, _ = phase.step(state, index)
        jax.block_until_ready(state)
        times["run"].append((time.perf_counter() - began) / STEPS_PER_ROUND)
        began = time.perf_counter()
        for index in range(first, first + STEPS_PER_ROUND):
            plain_state = plain(plain_state, index)
        jax.block_until_ready(plain_state)
        times["plain"].append((time.perf_counter() - began) / STEPS_PER_ROUND)
    run_s, plain_s = (float(np.median(times[name])) for name in ("run", "plain"))
    ratios = np.array(times["run"]) / np.array(times["plain"])
    low, high = np.quantile(ratios, [0.25, 0.75])
    print(f"step of a run   {run_s * 1e3:7.2f} ms   (compiled in {compile_s[0]:.1f} s)")
    print(f"plain step      {plain_s * 1e3:7.2f} ms   (compiled in {compile_s[1]:.1f} s)")
    spread = f"rounds {low:.3f} to {high:.3f}"
    print(f"ratio {run_s / plain_s:.3f}, {spread} (target {TARGET})")


if __name__ == "__main__":
    main()
