"""Symmetric DoReFa quantisation of stored weights, with a straight-through gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from costs.insitu import DENSE_BITS
from models.relax import straight_through


def calc_dorefa(x: jax.Array, bits: int, where: jax.Array | None = None) -> jax.Array:
    """Weights of so many bits (Zhou et al., 2016, made symmetric by Gu et al., 2021).

    With w = tanh(x) and m = max|w| the 2^bits levels lie evenly from -m to m, zero not among them;
    the gradient is that of w. With 1 bit the levels are +-mean|x|, and the gradient is one.

    Args:
        x: Trained values, any shape.
        bits: Width of a word [bit]; 32 leaves x as it is.
        where: Which entries are stored at all, broadcastable to x; the others set no scale.
    """
    if bits >= DENSE_BITS:
        return x
    stored = None if where is None else jnp.broadcast_to(where > 0, x.shape)
    if bits == 1:
        scale = jnp.mean(jnp.abs(x), where=stored)
        return straight_through(jnp.where(x < 0, -1.0, 1.0) * scale, x)
    w = jnp.tanh(x)
    m = jax.lax.stop_gradient(jnp.max(jnp.abs(w), initial=0.0, where=stored))
    m = jnp.maximum(m, jnp.finfo(w.dtype).tiny)
    steps = 2.0**bits - 1.0
    hard = jnp.round((w / (2.0 * m) + 0.5) * steps) / steps * 2.0 * m - m
    return straight_through(hard, w)


def calc_codes(x: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
    """What is stored of a quantised array: codes u8 or u16 0 .. 2^bits - 1, and their scale.

    Code c means scale (2 c / (2^bits - 1) - 1), which is `calc_dorefa`'s value.
    """
    kind = np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32
    value = np.asarray(calc_dorefa(jnp.asarray(x), bits), np.float64)
    scale = max(float(np.abs(value).max()), float(np.finfo(np.float32).tiny))
    return np.round((value / scale + 1) / 2 * (2**bits - 1)).astype(kind), scale


def invert_dorefa(w: jax.Array, bits: int) -> jax.Array:
    """Trained values whose quantised ones are nearest to w; |w| beyond 0.95 is clipped."""
    if bits >= DENSE_BITS or bits == 1:
        return w
    return jnp.arctanh(jnp.clip(w, -0.95, 0.95))
