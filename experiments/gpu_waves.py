"""Widths optimized against the staircase of a GPU, and against FLOPs.

Question: do widths that are optimized for latency land on the edges of the staircase, and do those
that are optimized for a model in proportion to FLOPs not?

    python experiments/gpu_waves.py run     # optimize, write widths.csv
    python experiments/gpu_waves.py draw    # figure and table from widths.csv

One layer, 3x3, 256 -> K channels on 28x28 maps, batch 16. The objective is a stated proxy of the
task loss, SCALE / sqrt(K), plus price x latency. No network is trained: the proxy stands for
diminishing returns of width, nothing else. Both latency models agree in their mean over all widths.
Relaxation: the width carries normal noise whose scale falls from half a tile (less in some of the
eight starts, down to two channels) to a twentieth of a channel, and the slope is that of the
two-point extension at the noisy real width; rounded at the end. One coordinate step of the exact
objective (a channel more or less) follows: the columns `rounded_*` are before it, the others
after. `gap_on_waves` prices the same width by the staircase. The best of the integer widths, found
by listing, stands beside.
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from costs.gpu_waves import calc_width_table_s, extend_table, find_gpu
from costs.layer import Layer

FOLDER = Path(__file__).parent / "results" / "gpu_waves"
LAYER = Layer("conv", N=16, K=512, C=256, P=28, Q=28, R=3, S=3)
LARGEST = 512
SCALE = 10.0  # of the proxy
PRICES = np.geomspace(0.3, 10.0, 12)  # of a latency that is 1 at the largest width
STEPS, STARTS, DRAWS, RATE = 400, 8, 128, 4.0
NOISE = (32.0, 0.05)  # [channels]; half a tile, and next to none
FIRST = np.geomspace(2.0, NOISE[0], STARTS)  # of each start: far sight, and near
SEED = 0
# a short memory of squares: steps of the staircase are rare and steep beside the slope of the proxy
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(RATE, STEPS, 0.005), b2=0.9)


def tables() -> dict[str, np.ndarray]:
    """[512] relative latency by model, at the widths 1, 2, ..."""
    gpu = find_gpu("gpu_80sm")
    assert gpu is not None
    stairs = calc_width_table_s(LAYER, gpu, LARGEST)
    smooth = np.arange(1, LARGEST + 1) * stairs.mean() / np.arange(1, LARGEST + 1).mean()
    return {"waves": stairs / stairs[-1], "flops": smooth / stairs[-1]}


def objective_of(width: Any, table: Any, price: Any, xp: ModuleType = np) -> Any:
    """Proxy of the loss plus price x extended latency, exact at integers; width [channels]."""
    return SCALE / xp.sqrt(width) + price * extend_table(table, width, xp)


def optimise(table: np.ndarray, price: float, seed: int) -> int:
    """The width of the best of the starts, rounded."""
    first = np.random.default_rng(seed).uniform(np.log(16), np.log(LARGEST), STARTS)
    width: Any = jnp.asarray(np.exp(first), jnp.float32)
    state: Any = OPTIMIZER.init(width)
    key, latency = jax.random.key(seed), jnp.asarray(table, jnp.float32)
    for index in range(STEPS):
        noise = jnp.asarray(FIRST * (NOISE[1] / FIRST) ** (index / (STEPS - 1)), jnp.float32)
        width, state = step(width, state, jax.random.fold_in(key, index), noise, latency, price)
    found = np.clip(np.round(np.asarray(width)), 1, LARGEST).astype(int)
    return int(found[objective_of(found, table, price).argmin()])


def polish(width: int, table: np.ndarray, price: float) -> int:
    """The best of a width and its two neighbours, exactly."""
    near = np.clip([width, width - 1, width + 1], 1, LARGEST)
    return int(near[objective_of(near, table, price).argmin()])


def drawn(width: Any, key: Any, noise: Any, latency: Any, price: Any) -> Any:
    """Extended objective at one noisy real width."""
    moved = jnp.clip(width + noise * jax.random.normal(key), 1.0, LARGEST)
    return objective_of(moved, latency, price, jnp)


@jax.jit
def step(width: Any, state: Any, key: Any, noise: Any, latency: Any, price: Any) -> Any:
    """One step of all starts."""
    keys = jax.random.split(key, (STARTS, DRAWS))
    over_draws = jax.vmap(jax.grad(drawn), (None, 0, None, None, None))
    over_starts = jax.vmap(over_draws, (0, 0, 0, None, None))
    slope = over_starts(width, keys, noise, latency, price).mean(axis=1)
    updates, state = OPTIMIZER.update(slope, state)
    moved: Any = optax.apply_updates(width, updates)
    return jnp.clip(moved, 1.0, LARGEST), state


def on_edge(width: int) -> bool:
    """Whether one channel more would take another wave, or there is none."""
    true = tables()["waves"]
    return width == LARGEST or bool(true[width] > true[width - 1])


def run() -> None:
    """Optimize at every price with both models."""
    latency, rows = tables(), []
    for number, price in enumerate(PRICES):
        for name, table in latency.items():
            listed = objective_of(np.arange(1, LARGEST + 1), table, float(price))
            rounded = optimise(table, float(price), SEED + number)
            width = polish(rounded, table, float(price))
            row = {"model": name, "price": float(price), "seed": SEED + number}
            for label, at in (("rounded_", rounded), ("", width)):
                row |= {f"{label}width": at, f"{label}on_edge": int(on_edge(at))}
                row[f"{label}gap"] = float(listed[at - 1] / listed.min() - 1)
            row |= {"best_width": int(listed.argmin()) + 1}
            true = objective_of(np.arange(1, LARGEST + 1), latency["waves"], float(price))
            row |= {"gap_on_waves": float(true[width - 1] / true.min() - 1)}
            row |= {"waves_latency": float(latency["waves"][width - 1])}
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
    lines = [
        "| latency model | on an edge, rounded | polished | mean gap, rounded | polished"
        " | mean gap where latency is the staircase, polished |",
        "|---|---|---|---|---|---|",
    ]
    for axis, (name, table) in zip(axes, tables().items(), strict=True):
        mine = [row for row in rows if row["model"] == name]
        chosen = np.array([int(row["width"]) for row in mine])
        before, edges = (sum(int(r[k]) for r in mine) for k in ("rounded_on_edge", "on_edge"))
        raw, gap, true = (
            np.mean([float(r[k]) for r in mine]) for k in ("rounded_gap", "gap", "gap_on_waves")
        )
        lines.append(
            f"| {name} | {before} of {len(mine)} | {edges} of {len(mine)} | {raw:.2%} | {gap:.2%}"
            f" | {true:.2%} |"
        )
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
