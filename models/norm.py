"""Batch normalisation whose affine part may follow the design, and which folds into a convolution.

Statistics are of the batch while widths are sampled (a running average over unlike designs would
describe none of them) and stored ones, taken on a fixed training subset, for one fixed design.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Mode = Literal["batch", "stored"]

EPSILON = 1e-5


class Statistic(nnx.Variable):
    """What a layer measured on data; not trained by gradients."""


def calc_design_features(
    widths: jax.Array, channels: jax.Array, active: jax.Array, crossing: jax.Array
) -> jax.Array:
    """What a norm is told about the design.

    A boundary that does not cross cores, or crosses uncompressed, is told as width = channels, so
    that a width without effect on the hardware has none on the network either.

    Args:
        widths: Integer-valued widths [channels], f32[boundaries].
        channels: Full widths [channels], f32[boundaries].
        active: 1 where any edge of the boundary crosses, f32[boundaries].
        crossing: 1 where the edge crosses cores, f32[edges].

    Returns:
        Features log(w / C), 1/w - 1/C and the crossing flags, f32[2 boundaries + edges].
    """
    logs = active * jnp.log(widths / channels)
    inverses = active * (1.0 / widths - 1.0 / channels)
    return jnp.concatenate([logs, inverses, crossing])


class Modulation(nnx.Module):
    """What a design adds to scale and bias of every norm: a linear map of its features, at first 0.

    One matrix for all norms costs a training step less than one each.
    """

    def __init__(self, features: int, norms: dict[str, int]) -> None:
        """Make the map for norms given as name -> channels."""
        self.norms = tuple(norms.items())
        self.kernel = nnx.Param(jnp.zeros((features, 2 * sum(norms.values()))))

    def __call__(self, features: jax.Array) -> dict[str, jax.Array]:
        """Changes by name of norm, f32[2, channels] each, from f32[features]."""
        ends = np.cumsum([2 * channels for _, channels in self.norms])[:-1]
        parts = jnp.split(features @ self.kernel[...], ends)
        return {
            name: part.reshape(2, channels)
            for (name, channels), part in zip(self.norms, parts, strict=True)
        }


class BatchNorm(nnx.Module):
    """y = scale * (x - mean) / sqrt(var + eps) + bias over the last axis."""

    def __init__(self, channels: int) -> None:
        """Make the identity norm of an axis of this size."""
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = Statistic(jnp.zeros(channels))
        self.var = Statistic(jnp.ones(channels))

    def __call__(
        self,
        x: jax.Array,
        change: jax.Array | None = None,
        mask: jax.Array | None = None,
        *,
        mode: Mode,
    ) -> jax.Array:
        """Normalise a batch.

        Args:
            x: Values, f32[..., channels].
            change: What the design adds to scale and bias, f32[2, channels].
            mask: Factor on what is returned, f32[channels]; on scale and bias, so that its gradient
                takes no sum over the batch beside theirs.
            mode: "batch" uses, and records, statistics of x; "stored" the recorded ones.

        Returns:
            Values of the shape of x.
        """
        if mode == "batch":
            axes = tuple(range(x.ndim - 1))
            # bfloat16 has too few digits for the difference of two means
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            mean = jnp.mean(wide, axes)
            var = jnp.maximum(jnp.mean(jnp.square(wide), axes) - jnp.square(mean), 0.0)
            self.mean[...] = jax.lax.stop_gradient(mean)
            self.var[...] = jax.lax.stop_gradient(var)
        else:
            mean, var = self.mean[...], self.var[...]
        scale, bias = self.scale[...], self.bias[...]
        if change is not None:
            scale, bias = scale + change[0], bias + change[1]
        if mask is not None:
            scale, bias = scale * mask, bias * mask
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return (x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)).astype(x.dtype)


def fold_affine(
    scale: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and offset, f32[channels] each, such that the stored norm is x * factor + offset."""
    factor = scale / np.sqrt(var + EPSILON)
    return factor, bias - mean * factor
