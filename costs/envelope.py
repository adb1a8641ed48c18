"""Gradients through the choice of a mapping: the envelope theorem, in JAX.

A mapping is never relaxed. The derivative of a minimum over candidates is the derivative of the
one that attains it (Danskin), so the choice is made on values that carry no gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def take_best(values: jax.Array, goal: jax.Array | None = None) -> jax.Array:
    """The value of the best candidate; its gradient is that candidate's own.

    Args:
        values: `(candidates, ...)` what is wanted of the best candidate.
        goal: `(candidates, ...)` what it is best in, if not `values` themselves.

    Returns:
        `(...)` one value each. At ties the first candidate's gradient, a subgradient.
    """
    chosen = jnp.argmin(jax.lax.stop_gradient(values if goal is None else goal), axis=0)
    return jnp.take_along_axis(values, chosen[None], axis=0)[0]


def calc_envelope_energy_pj(
    read_bits: jax.Array,
    write_bits: jax.Array,
    read_pj_per_bit: jax.Array,
    write_pj_per_bit: jax.Array,
) -> jax.Array:
    """Energy of the memories under the best candidate, differentiable in the prices [pJ].

    Exact at the prices the candidates were searched for, gradient included; elsewhere the best of
    these candidates, which is never below the true optimum.

    Args:
        read_bits: `(candidates, levels)` read from each level [bits].
        write_bits: `(candidates, levels)` written to each level [bits].
        read_pj_per_bit: `(levels,)` [pJ/bit].
        write_pj_per_bit: `(levels,)` [pJ/bit].
    """
    energy = jnp.sum(read_bits * read_pj_per_bit[None] + write_bits * write_pj_per_bit[None], -1)
    return take_best(energy)
