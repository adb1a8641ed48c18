"""Layers on ordered stages with the largest total score, by dynamic programming in JAX.

The solver inside the perturbed relaxation of `dse.assignment_relaxations`; that of costs, which
knows links and memories, is `costs.distribution`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def solve_ordered(score: Array) -> Array:
    """Place of each layer, never falling, with the largest total score.

    Args:
        score: [layers, places].

    Returns:
        [layers] places.
    """
    best, through = solve_through(score, rows=1)
    return through[jnp.argmax(best[0])]


def solve_through(score: Array, rows: int | None = None) -> tuple[Array, Array]:
    """For each (layer, place): the best total score that passes through it, and that solution.

    Forward and backward dynamic program over never falling places, O(layers * places).

    Args:
        score: [layers, places].
        rows: solutions of the first so many layers only; None: of all.

    Returns:
        [rows, places] totals and [rows * places, layers] solutions.
    """
    layers, places = score.shape
    rows = layers if rows is None else rows

    def extend(total: Array, gained: Array) -> tuple[Array, tuple[Array, Array]]:
        best = jax.lax.cummax(total)
        here = jnp.where(total == best, np.arange(places), 0)
        grown = gained + best
        return grown, (grown, jax.lax.cummax(here))

    zero = jnp.zeros(places, score.dtype)
    _, (ahead, came_from) = jax.lax.scan(extend, zero, score)
    _, (behind, goes_to) = jax.lax.scan(extend, zero, score[::-1, ::-1])
    behind, goes_to = behind[::-1, ::-1], places - 1 - goes_to[::-1, ::-1]
    layer, place = np.divmod(np.arange(rows * places), places)

    def walk(table: Array, forward: bool) -> Array:
        """[layers, columns] places on the way from each start, outwards in one direction."""

        def step(at: Array, row: Any) -> tuple[Array, Array]:
            number, pointers = row
            at = jnp.where(number == layer, place, at)
            # the pointers of a layer lead from it to the next one in this direction
            return pointers[at], at

        return jax.lax.scan(
            step, jnp.asarray(place), (np.arange(layers), table), reverse=not forward
        )[1]

    after, before = walk(goes_to, True), walk(came_from, False)
    solutions = jnp.where(np.arange(layers)[:, None] >= layer, after, before)
    return (ahead + behind - score)[:rows], solutions.T
