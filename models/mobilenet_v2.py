"""MobileNetV2 (Sandler et al., Inverted residuals and linear bottlenecks, CVPR 2018, table 2).

On 224x224 pictures as published: 3,504,872 parameters with 1,000 classes. On CIFAR the stem and the
second stage keep their resolution: 2,236,682 parameters with 10 classes, 2,351,972 with 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from costs.errors import InputError
from models.trace import mark_boundary

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and first stride of each stage."""


def calc_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to a width, at least 90 % of it (the papers' rule) [1]."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNorm(nnx.Module):
    """Convolution without bias, padded to keep the resolution at stride 1; batch normalisation."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        depthwise: bool = False,
        epsilon: float = 1e-5,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights; a depthwise convolution has one filter per channel."""
        pad = (kernel - 1) // 2
        self.conv = nnx.Conv(
            channels,
            out,
            (kernel, kernel),
            strides=stride,
            padding=((pad, pad), (pad, pad)),
            feature_group_count=channels if depthwise else 1,
            use_bias=False,
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(out, epsilon=epsilon, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolved and normalised."""
        return self.norm(self.conv(x))


class InvertedResidual(nnx.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection, added to the input where that fits."""

    def __init__(
        self, channels: int, out: int, expansion: int, stride: int, *, rngs: nnx.Rngs
    ) -> None:
        """Fresh weights; there is no expansion layer where the expansion is 1."""
        inner = channels * expansion
        self.residual = stride == 1 and channels == out
        self.expand = ConvNorm(channels, inner, rngs=rngs) if expansion != 1 else None
        self.depthwise = ConvNorm(inner, inner, 3, stride, depthwise=True, rngs=rngs)
        self.project = ConvNorm(inner, out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's output, without an activation after it."""
        y = x if self.expand is None else nnx.relu6(self.expand(x))
        y = self.project(nnx.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class MobileNetV2(nnx.Module):
    """A stem, 17 inverted residuals and a head; boundaries `stem`, `block0`, ..., `block16`."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (32, 32, 3),
        classes: int = 10,
        resolution: Literal["cifar", "imagenet"] = "cifar",
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture.
            classes: Logits.
            resolution: "cifar" keeps the resolution in the stem and the second stage, "imagenet"
                halves it there.
            width_multiplier: Factor on all channels but, below 1, those of the head.
            rngs: Random keys.
        """
        if resolution not in ("cifar", "imagenet"):
            raise InputError(key="resolution", value=resolution, allowed=("cifar", "imagenet"))
        early = 1 if resolution == "cifar" else 2
        channels = calc_channels(32 * width_multiplier)
        self.stem = ConvNorm(input_shape[2], channels, 3, early, rngs=rngs)
        blocks = []
        for number, (expansion, width, count, stride) in enumerate(STAGES):
            out = calc_channels(width * width_multiplier)
            first = early if number == 1 else stride
            for index in range(count):
                step = first if index == 0 else 1
                blocks.append(InvertedResidual(channels, out, expansion, step, rngs=rngs))
                channels = out
        self.block = nnx.List(blocks)
        final = calc_channels(1280 * max(1.0, width_multiplier))
        self.last = ConvNorm(channels, final, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(final, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        x = mark_boundary(nnx.relu6(self.stem(x)), "stem")
        for index, block in enumerate(self.block):
            x = mark_boundary(block(x), f"block{index}")
        x = nnx.relu6(self.last(x))
        with jax.named_scope("pool"):
            x = jnp.mean(x, (1, 2))
        return self.head(self.dropout(x))
