"""Factors from a trained kernel: truncated SVD, projection loss, orthogonality.

Kernels are taken as f32[taps, Ci per group, Co], as `models.insitu.generate` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from costs.insitu import Factors
from models.insitu import generate, is_depthwise
from models.insitu_quantise import calc_dorefa, invert_dorefa

Arrays = dict[str, jax.Array]


def calc_svd_factors(kernel: jax.Array, factors: Factors) -> Arrays:
    """Factors of a kernel by truncated singular value decompositions.

    First across kernels, V and {W_i} from the rows of W [Co, Ci taps], then inside each W_i. Either
    alone is the best approximation of its rank in the Frobenius norm; B has orthonormal rows and
    V and each U_i orthogonal columns. Missing directions of a rank-deficient kernel are zero.

    Args:
        kernel: f32[taps, Ci per group, Co].
        factors: Shapes and bits; quantised factors are values whose quantised ones come nearest.

    Returns:
        "basis", "coefficients", "mixing" as far as the factors have them.
    """
    arrays: Arrays = {}
    inside = jnp.transpose(kernel, (2, 1, 0))
    if is_depthwise(factors):
        inside = jnp.transpose(inside, (1, 0, 2))
    if factors.mixing:
        outputs, kernels = factors.mixing
        u, s, vt = jnp.linalg.svd(inside.reshape(outputs, -1), full_matrices=False)
        arrays["mixing"] = _fitted(u, (outputs, kernels))
        rows = _fitted(s[:, None] * vt, (kernels, vt.shape[1]))
        inside = rows.reshape(kernels, -1, factors.basis[2])
    if factors.coefficients:
        u, s, vt = jnp.linalg.svd(inside, full_matrices=False)
        arrays["coefficients"] = _fitted(u * s[:, None, :], factors.coefficients)
        arrays["basis"] = _fitted(vt, factors.basis)
    else:
        arrays["basis"] = inside
    bits = dict(
        basis=factors.bases.bits_b,
        coefficients=factors.bases.bits_u,
        mixing=factors.bases.bits_v,
    )
    return {name: invert_dorefa(array, bits[name]) for name, array in arrays.items()}


def calc_projection_loss(
    kernel: jax.Array, factors: Factors, arrays: Mapping[str, jax.Array]
) -> jax.Array:
    """Squared distance of the generated kernel to a kernel, over the square of the latter [1]."""
    distance = jnp.sum(jnp.square(generate(factors, arrays) - kernel))
    return distance / jnp.maximum(jnp.sum(jnp.square(kernel)), 1e-30)


def calc_orthogonality_loss(factors: Factors, arrays: Mapping[str, jax.Array]) -> jax.Array:
    """sum_i (|B_i B_i^T - I|^2 + |U~_i^T U~_i - I|^2) + |V~^T V~ - I|^2 [1].

    U~ and V~ have columns of length one, so that only their directions are asked to differ; a
    level that a kernel does not have contributes nothing. All are meant as they are stored.
    """
    bases, total = factors.bases, jnp.zeros(())
    if factors.coefficients:
        basis = calc_dorefa(arrays["basis"], bases.bits_b)
        total += _distance(jnp.einsum("nit,njt->nij", basis, basis))
        total += _distance(_gram(calc_dorefa(arrays["coefficients"], bases.bits_u)))
    if factors.mixing:
        total += _distance(_gram(calc_dorefa(arrays["mixing"], bases.bits_v)))
    return total


def _gram(columns: jax.Array) -> jax.Array:
    """Products of the columns, each of length one, [..., n, n]."""
    norms = jnp.sum(jnp.square(columns), axis=-2, keepdims=True)
    unit = columns * jax.lax.rsqrt(jnp.maximum(norms, 1e-12))
    return jnp.einsum("...ai,...aj->...ij", unit, unit)


def _distance(gram: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(gram - jnp.eye(gram.shape[-1])[(None,) * (gram.ndim - 2)]))


def _fitted(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The first entries along each axis, zeros where there are fewer."""
    cut = array[tuple(slice(size) for size in shape)]
    return jnp.pad(cut, [(0, want - have) for want, have in zip(shape, cut.shape, strict=True)])
