"""Many assignments of one workload to one chip in one compiled call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from costs.chip_cost import calc_chip_cost
from costs.problem import Problem

TOTALS = ("energy_pj", "link_bytes", "dram_bytes", "interval_s", "latency_s")
CHUNK = 4096  # assignments at a time: what they need stays in the processor's cache


def compile_assignments(
    problem: Problem, widths: np.ndarray, knobs: np.ndarray, names: Sequence[str] = TOTALS
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """A function that evaluates assignments in float32, for searches; report in float64.

    It is `calc_chip_cost` itself under jit, for fixed widths and hardware. Chunks run side by side
    on as many processors as there are.

    Args:
        problem: workload, chip and cost tables.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.
        names: which of its results are wanted; those of cores and links have a leading axis.

    Returns:
        A function from assignment [layers, designs] to arrays f32[designs].
    """
    single = replace(problem, table=np.asarray(problem.table, np.float32))
    wide = np.repeat(np.asarray(widths, np.int32)[:, None], CHUNK, axis=1)
    sizes = np.repeat(np.asarray(knobs, np.int32)[:, :, None], CHUNK, axis=2)

    @jax.jit
    def evaluate(assignment: jax.Array) -> dict[str, jax.Array]:
        costs = calc_chip_cost(single, wide, assignment, sizes, xp=jnp)
        return {name: costs[name] for name in names}

    def run(assignment: np.ndarray) -> dict[str, np.ndarray]:
        layers, designs = assignment.shape
        chunks = -(-designs // CHUNK)
        padded = np.zeros((chunks, layers, CHUNK), np.int32)
        for number, chunk in enumerate(padded):
            part = assignment[:, number * CHUNK : (number + 1) * CHUNK]
            chunk[:, : part.shape[1]] = part
        found = [evaluate(chunk) for chunk in padded]  # dispatched, not yet waited for
        return {
            name: np.concatenate([np.asarray(f[name]) for f in found], axis=-1)[..., :designs]
            for name in names
        }

    return run
