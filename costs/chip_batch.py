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
) -> Callable[[np.ndarray], dict[str, jax.Array]]:
    """A function that evaluates assignments in float32, for searches; report in float64.

    It is `calc_chip_cost` itself under jit, for fixed widths and hardware.

    Args:
        problem: workload, chip and cost tables.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.
        names: which of its results are wanted, of those that are one number for each design.

    Returns:
        A function from assignment [layers, designs] to arrays f32[designs].
    """
    single = replace(problem, table=np.asarray(problem.table, np.float32))
    wide = np.repeat(np.asarray(widths, np.int32)[:, None], CHUNK, axis=1)
    sizes = np.repeat(np.asarray(knobs, np.int32)[:, :, None], CHUNK, axis=2)

    def evaluate(assignment: jax.Array) -> dict[str, jax.Array]:
        costs = calc_chip_cost(single, wide, assignment, sizes, xp=jnp)
        return {name: costs[name] for name in names}

    mapped = jax.jit(lambda chunks: jax.lax.map(evaluate, chunks))

    def run(assignment: np.ndarray) -> dict[str, jax.Array]:
        layers, designs = assignment.shape
        chunks = -(-designs // CHUNK)
        padded = np.zeros((layers, chunks * CHUNK), np.int32)
        padded[:, :designs] = assignment
        found = mapped(padded.reshape(layers, chunks, CHUNK).swapaxes(0, 1))
        return {name: value.reshape(-1)[:designs] for name, value in found.items()}

    return run
