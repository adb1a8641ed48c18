"""Widths optimized against the staircase of a GPU, and against FLOPs.

Question: do widths that are optimized for latency land on the edges of the staircase, and do those
that are optimized for a model in proportion to FLOPs not?

    python experiments/gpu_waves.py run     # optimize, write widths.csv
    python experiments/gpu_waves.py draw    # figure and table from widths.csv

One layer, 3x3, 256 -> K channels on 28x28 maps, batch 16. The objective is a stated proxy of the
task loss, SCALE / sqrt(K), plus price x latency. No network is trained: the proxy stands for
diminishing returns of width, nothing else. Both latency models agree in their mean over all widths.
Relaxation: `jittered` of `models.relax` (integer width in the forward pass, noise falling from 64
channels to 1/4) and the two-point extension of the latency table in the backward pass. The best
of the integer widths, found by listing, stands beside.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.gpu_waves import calc_width_table_s, extend_table, find_gpu
from costs.layer import Layer
from models.relax import RELAXATIONS

FOLDER = Path(__file__).parent / "results" / "gpu_waves"
LAYER = Layer("conv", N=16, K=512, C=256, P=28, Q=28, R=3, S=3)
LARGEST = 512
SCALE = 10.0  # of the proxy
PRICES = np.geomspace(0.3, 10.0, 12)  # of a latency that is 1 at the largest width
STEPS, STARTS, DRAWS, RATE = 400, 8, 32, 4.0
NOISE = (64.0, 0.25)  # [channels]
SEED = 0
# a short memory of squares: steps of the staircase are rare and steep beside the slope of the proxy
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(RATE, STEPS, 0.05), b2=0.9)


def tables() -> dict[str, np.ndarray]:
    """[512] relative latency by model, at the widths 1, 2, ..."""
    gpu = find_gpu("gpu_80sm")
    assert gpu is not None
    stairs = calc_width_table_s(LAYER, gpu, LARGEST)
    smooth = np.arange(1, LARGEST + 1) * stairs.mean() / np.arange(1, LARGEST + 1).mean()
    return {"waves": stairs / stairs[-1], "flops": smooth / stairs[-1]}


def optimise(table: np.ndarray, price: float, seed: int) -> tuple[int, float]:
    """The width of the best of the starts, rounded, and its objective."""
    width = jnp.asarray(np.random.default_rng(seed).uniform(32, LARGEST, STARTS), jnp.float32)
    state = OPTIMIZER.init(width)
    key, latency = jax.random.key(seed), jnp.asarray(table, jnp.float32)
    for index in range(STEPS):
        noise = NOISE[0] * (NOISE[1] / NOISE[0]) ** (index / (STEPS - 1))
        width, state = step(width, state, jax.random.fold_in(key, index), noise, latency, price)
    found = np.clip(np.round(np.asarray(width)), 1, LARGEST).astype(int)
    values = SCALE / np.sqrt(found) + price * table[found - 1]
    return int(found[values.argmin()]), float(values.min())


def drawn(width: Any, key: Any, noise: Any, latency: Any, price: Any) -> Any:
    """Objective of one rounding, its slope that to a neighbour, either one as likely."""
    mask_key, side_key = jax.random.split(key)
    hard = jnp.sum(RELAXATIONS["jittered"].sample(width, LARGEST, mask_key, noise))
    side = jax.random.uniform(side_key, minval=-1.0, maxval=1.0)
    moved = jnp.clip(hard + side, 1.0, LARGEST)
    return SCALE / jnp.sqrt(moved) + price * extend_table(latency, moved, jnp)


@jax.jit
def step(width: Any, state: Any, key: Any, noise: Any, latency: Any, price: Any) -> Any:
    """One step of all starts."""
    keys = jax.random.split(key, (STARTS, DRAWS))
    over_draws = jax.vmap(jax.grad(drawn), (None, 0, None, None, None))
    over_starts = jax.vmap(over_draws, (0, 0, None, None, None))
    slope = over_starts(width, keys, noise, latency, price).mean(axis=1)
    updates, state = OPTIMIZER.update(slope, state)
    return jnp.clip(optax.apply_updates(width, updates), 1.0, LARGEST), state


def run() -> None:
    """Optimize at every price with both models."""
    latency, rows = tables(), []
    for number, price in enumerate(PRICES):
        for name, table in latency.items():
            found, value = optimise(table, float(price), SEED + number)
            listed = SCALE / np.sqrt(np.arange(1, LARGEST + 1)) + price * table
            best = int(listed.argmin()) + 1
            true = latency["waves"]
            edge = found == LARGEST or true[found] > true[found - 1]
            row = {"model": name, "price": float(price), "width": found, "on_edge": int(edge)}
            row |= {"best_width": best, "gap": value / float(listed.min()) - 1}
            row |= {"waves_latency": float(true[found - 1]), "seed": SEED + number}
            rows.append(row)
            print(row, flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "widths.csv").open("w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw() -> None:
    """The figure and the table."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    with (FOLDER / "widths.csv").open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    lines = ["| latency model | widths on an edge of a step | mean gap to the best width |"]
    lines += ["|---|---|---|"]
    for axis, (name, table) in zip(axes, tables().items(), strict=True):
        mine = [row for row in rows if row["model"] == name]
        chosen = np.array([int(row["width"]) for row in mine])
        edges = sum(int(row["on_edge"]) for row in mine)
        gap = np.mean([float(row["gap"]) for row in mine])
        lines.append(f"| {name} | {edges} of {len(mine)} | {gap:.2%} |")
        axis.plot(np.arange(1, LARGEST + 1), table, label="latency model")
        axis.plot(chosen, table[chosen - 1], "o", label="optimized widths, one for each price")
        axis.set(xlabel="width [channels]", title=f"{name}: {edges} of {len(mine)} on an edge")
        axis.set_xticks(range(0, LARGEST + 1, 64))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("latency / that of 512 channels")
    axes[0].legend()
    figure.savefig(FOLDER / "widths.png", dpi=150)
    (FOLDER / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    """One of run and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "draw"))
    what = parser.parse_args().what
    print(f"{platform.machine()}, jax {jax.__version__}, {time.strftime('%Y-%m-%d')}")
    run() if what == "run" else draw()


if __name__ == "__main__":
    main()
