"""A bottleneck: what a tensor goes through when its boundary crosses cores.

Order: reduce (1x1), norm with shift and mask, quantise, cross, expand (1x1), norm, and a relu where
the tensor itself is never negative. At full width there is no pair: the tensor itself crosses,
quantised to the same bits. Which edges cross is decided by the network's gates, not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from costs.errors import InputError
from costs.layer import Layer
from models.norm import BatchNorm, Mode, Statistic
from models.relax import mix, straight_through


@dataclass(frozen=True)
class Boundary:
    """A tensor that may cross cores.

    Attributes:
        name: Module path of its bottleneck, such as ``stage1.block0.out``.
        channels: Channels of the tensor, C.
        height: Height [pixels].
        width: Width [pixels].
        bits: Bits of each crossing word.
        producer: Name of the layer that produces the tensor.
        rectified: Whether the tensor is never negative, so that what is restored is rectified too.
    """

    name: str
    channels: int
    height: int
    width: int
    bits: int
    producer: str
    rectified: bool = True

    def __post_init__(self) -> None:
        """Refuse word lengths the symmetric quantiser cannot have."""
        if not 2 <= self.bits <= 32:
            raise InputError("bits of a crossing", key=self.name, value=self.bits, allowed="2..32")

    def words(self, width: int) -> int:
        """Words that cross per image when the bottleneck has this width [channels]."""
        return width * self.height * self.width

    def reduce_layer(self, width: int, **kwargs: int) -> Layer:
        """The 1x1 convolution to ``width`` channels, on the producer's core."""
        return self._pointwise("reduce", C=self.channels, K=width, bits_o=self.bits, **kwargs)

    def expand_layer(self, width: int, **kwargs: int) -> Layer:
        """The 1x1 convolution back to all channels, on the consumer's core."""
        return self._pointwise("expand", C=width, K=self.channels, bits_i=self.bits, **kwargs)

    def _pointwise(self, role: str, **kwargs: int) -> Layer:
        return Layer(f"{self.name}.{role}", P=self.height, Q=self.width, **kwargs)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class Edge:
    """One consumer of a boundary's tensor.

    Attributes:
        boundary: Index of the boundary.
        consumer: Name of the layer that reads the tensor (for an identity skip, the layer in which
            the addition is fused).
    """

    boundary: int
    consumer: str


class Quantiser(nnx.Module):
    """Symmetric uniform quantisation with a straight-through gradient; zero stays exactly zero."""

    def __init__(self, bits: int) -> None:
        """Make a quantiser of this word length [bits] with range 1."""
        self.bits = bits
        self.range = Statistic(jnp.ones(()))

    def __call__(self, x: jax.Array, *, mode: Mode) -> jax.Array:
        """Round x to the grid; mode "batch" takes, and records, the largest magnitude of x."""
        if mode == "batch":
            # max |x|, in half of the time that the maximum of magnitudes takes on a CPU
            largest = jnp.maximum(jnp.max(x), -jnp.min(x))
            self.range[...] = jax.lax.stop_gradient(largest)
        step = calc_quantiser_step(self.range[...], self.bits)
        return calc_quantised(x, step, self.bits)


def calc_quantiser_step(largest: jax.Array, bits: int) -> jax.Array:
    """Step of the symmetric grid whose last level is the largest magnitude (floored at 1e-12)."""
    return jnp.maximum(largest, 1e-12) / (2.0 ** (bits - 1) - 1)


def calc_quantised(x: jax.Array, step: jax.Array, bits: int) -> jax.Array:
    """The nearest of the 2^bits - 1 levels; gradient one inside the range and zero outside."""
    levels = 2.0 ** (bits - 1) - 1
    scaled = jnp.clip(x / step, -levels, levels)
    return straight_through(jnp.round(scaled) * step, scaled * jax.lax.stop_gradient(step))


class Bottleneck(nnx.Module):
    """The pair of one boundary at every width, the narrower ones being prefixes of the widest."""

    def __init__(
        self,
        boundary: Boundary,
        *,
        quantise: bool,
        kernel_init: nnx.Initializer,
        rngs: nnx.Rngs,
    ) -> None:
        """Make the pair.

        Args:
            boundary: Where it stands.
            quantise: Whether what crosses is quantised to the boundary's bits.
            kernel_init: Initial kernels.
            rngs: Random keys for it.
        """
        self.name = boundary.name
        self.rectified = boundary.rectified
        channels = boundary.channels
        self.largest = channels - 1
        if self.largest:
            self.reduce = nnx.Conv(
                channels, self.largest, (1, 1), use_bias=False, kernel_init=kernel_init, rngs=rngs
            )
            self.reduce_norm = BatchNorm(self.largest)
            self.code = Quantiser(boundary.bits) if quantise else None
            self.expand = nnx.Conv(
                self.largest, channels, (1, 1), use_bias=False, kernel_init=kernel_init, rngs=rngs
            )
            self.expand_norm = BatchNorm(channels)
        self.plain = Quantiser(boundary.bits) if quantise else None

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        changes: Mapping[str, jax.Array],
        *,
        mode: Mode,
    ) -> jax.Array:
        """The tensor on the consumer's side of a crossing.

        Args:
            x: The boundary's tensor, f32[batch, height, width, channels].
            mask: Open channels, f32[channels], its last slot meaning "uncompressed"; None for
                uncompressed everywhere.
            changes: What the design adds to scale and bias of norms, by their names.
            mode: Which statistics norms and quantisers use.

        Returns:
            A tensor of the shape of x.
        """
        with jax.named_scope(f"{self.name}.plain"):
            plain = x if self.plain is None else self.plain(x, mode=mode)
        if mask is None or not self.largest:
            return plain
        with jax.named_scope(f"{self.name}.reduce"):
            code = self.reduce(x)
        with jax.named_scope(f"{self.name}.code"):
            change, opened = changes.get(f"{self.name}.reduce_norm"), mask[: self.largest]
            code = self.reduce_norm(code, change, opened, mode=mode)
            code = code if self.code is None else self.code(code, mode=mode)
        with jax.named_scope(f"{self.name}.expand"):
            restored = self.expand(code)
        with jax.named_scope(f"{self.name}.restore"):
            change = changes.get(f"{self.name}.expand_norm")
            restored = self.expand_norm(restored, change, mode=mode)
            restored = jax.nn.relu(restored) if self.rectified else restored
            return mix(mask[-1], plain, restored)


class SlimBottleneck(nnx.Module):
    """The pair of one design: only its channels are there, and its norms are folded."""

    def __init__(self, boundary: Boundary, width: int, *, quantise: bool, rngs: nnx.Rngs) -> None:
        """Make the pair of this width [channels]; at full width there is none."""
        self.rectified = boundary.rectified
        self.paired = width < boundary.channels
        channels = boundary.channels
        if self.paired:
            self.reduce = nnx.Conv(channels, width, (1, 1), rngs=rngs)
            self.expand = nnx.Conv(width, channels, (1, 1), rngs=rngs)
        self.code = Quantiser(boundary.bits) if quantise else None

    def __call__(self, x: jax.Array, *, mode: Mode) -> jax.Array:
        """The tensor on the consumer's side, of the shape of x f32[batch, height, width, C]."""
        code = self.reduce(x) if self.paired else x
        code = code if self.code is None else self.code(code, mode=mode)
        if not self.paired:
            return code
        restored = self.expand(code)
        return jax.nn.relu(restored) if self.rectified else restored
