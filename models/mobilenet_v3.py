"""MobileNetV3 (Howard et al., Searching for MobileNetV3, ICCV 2019, tables 1 and 2).

With 1,000 classes 5,483,032 parameters (large) and 2,542,856 (small). On CIFAR the first two
halvings of the resolution are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from costs.errors import InputError
from models.mobilenet_v2 import ConvNorm, calc_channels
from models.trace import mark_boundary


@dataclass(frozen=True)
class Row:
    """A row of the paper's tables: kernel, expanded and output channels, excitation, h-swish."""

    kernel: int
    expanded: int
    out: int
    excited: bool
    hard: bool
    stride: int


LARGE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)

SMALL = (
    Row(3, 16, 16, True, False, 2),
    Row(3, 72, 24, False, False, 2),
    Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2),
    Row(5, 240, 40, True, True, 1),
    Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1),
    Row(5, 144, 48, True, True, 1),
    Row(5, 288, 96, True, True, 2),
    Row(5, 576, 96, True, True, 1),
    Row(5, 576, 96, True, True, 1),
)

HIDDEN = {"large": 1280, "small": 1024}
"""Units of the hidden layer of the head."""

_EPSILON = 1e-3


class SqueezeExcite(nnx.Module):
    """Scales each channel by a gate computed from the means of all of them."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        """Fresh weights; a quarter of the channels in between."""
        squeezed = calc_channels(channels / 4)
        self.reduce = nnx.Linear(channels, squeezed, rngs=rngs)
        self.expand = nnx.Linear(squeezed, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The same shape, scaled."""
        with jax.named_scope("pool"):
            gate = jnp.mean(x, (1, 2), keepdims=True)
        gate = nnx.hard_sigmoid(self.expand(nnx.relu(self.reduce(gate))))
        return x * gate


class Block(nnx.Module):
    """1x1 expansion, depthwise, excitation, linear 1x1 projection, added where that fits."""

    def __init__(self, row: Row, channels: int, multiplier: float, *, rngs: nnx.Rngs) -> None:
        """Fresh weights; there is no expansion layer where nothing is expanded."""
        inner = calc_channels(row.expanded * multiplier)
        self.out = calc_channels(row.out * multiplier)
        self.hard = row.hard
        self.residual = row.stride == 1 and channels == self.out
        self.expand = (
            ConvNorm(channels, inner, epsilon=_EPSILON, rngs=rngs) if inner != channels else None
        )
        self.depthwise = ConvNorm(
            *(inner, inner, row.kernel, row.stride), depthwise=True, epsilon=_EPSILON, rngs=rngs
        )
        self.excite = SqueezeExcite(inner, rngs=rngs) if row.excited else None
        self.project = ConvNorm(inner, self.out, epsilon=_EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The block's output, without an activation after it."""
        activation = nnx.hard_swish if self.hard else nnx.relu
        y = x if self.expand is None else activation(self.expand(x))
        y = activation(self.depthwise(y))
        if self.excite is not None:
            y = self.excite(y)
        y = self.project(y)
        return x + y if self.residual else y


class MobileNetV3(nnx.Module):
    """A stem, the blocks of table 1 or 2 and a head; boundaries `stem`, `block0`, ..."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (224, 224, 3),
        classes: int = 1000,
        size: Literal["large", "small"] = "large",
        resolution: Literal["cifar", "imagenet"] = "imagenet",
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture.
            classes: Logits.
            size: "large" or "small".
            resolution: "imagenet" as published, "cifar" without the first two halvings.
            width_multiplier: Factor on all channels.
            rngs: Random keys.
        """
        for key, value, allowed in (
            ("size", size, ("large", "small")),
            ("resolution", resolution, ("cifar", "imagenet")),
        ):
            if value not in allowed:
                raise InputError(key=key, value=value, allowed=allowed)
        rows = list(LARGE if size == "large" else SMALL)
        early = 2
        if resolution == "cifar":
            early = 1
            halving = next(i for i, row in enumerate(rows) if row.stride == 2)
            rows[halving] = replace(rows[halving], stride=1)
        channels = calc_channels(16 * width_multiplier)
        self.stem = ConvNorm(input_shape[2], channels, 3, early, epsilon=_EPSILON, rngs=rngs)
        blocks = []
        for row in rows:
            blocks.append(Block(row, channels, width_multiplier, rngs=rngs))
            channels = blocks[-1].out
        self.block = nnx.List(blocks)
        self.last = ConvNorm(channels, 6 * channels, epsilon=_EPSILON, rngs=rngs)
        hidden = calc_channels(HIDDEN[size] * max(1.0, width_multiplier))
        self.hidden = nnx.Linear(6 * channels, hidden, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        x = mark_boundary(nnx.hard_swish(self.stem(x)), "stem")
        for index, block in enumerate(self.block):
            x = mark_boundary(block(x), f"block{index}")
        x = nnx.hard_swish(self.last(x))
        with jax.named_scope("pool"):
            x = jnp.mean(x, (1, 2))
        return self.head(self.dropout(nnx.hard_swish(self.hidden(x))))
