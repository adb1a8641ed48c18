"""DenseNet-121 (Huang et al., Densely connected convolutional networks, CVPR 2017).

Growth 32, bottleneck layers of 4 times that, transitions that halve the channels. The CIFAR form
has a 3x3 stem without pooling: 6,956,298 parameters with 10 classes, 7,048,548 with 100. The
ImageNet form has the paper's 7x7 stem: 7,978,856 with 1,000 classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from costs.errors import InputError
from models.trace import mark_boundary

BLOCKS = (6, 12, 24, 16)
"""Layers of each dense block."""


class DenseLayer(nnx.Module):
    """BN, ReLU, 1x1 to four times the growth, BN, ReLU, 3x3 to the growth; beside its input."""

    def __init__(self, channels: int, growth: int, *, rngs: nnx.Rngs) -> None:
        """Fresh weights for an input of `channels`."""
        self.norm1 = nnx.BatchNorm(channels, rngs=rngs)
        self.conv1 = nnx.Conv(channels, 4 * growth, (1, 1), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(4 * growth, rngs=rngs)
        self.conv2 = nnx.Conv(4 * growth, growth, (3, 3), use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The input with `growth` new channels after it."""
        new = self.conv1(nnx.relu(self.norm1(x)))
        new = self.conv2(nnx.relu(self.norm2(new)))
        return jnp.concatenate([x, new], axis=-1)


class Transition(nnx.Module):
    """BN, ReLU, 1x1 to half of the channels, 2x2 average pooling."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs) -> None:
        """Fresh weights for an input of `channels`."""
        self.norm = nnx.BatchNorm(channels, rngs=rngs)
        self.conv = nnx.Conv(channels, channels // 2, (1, 1), use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Half as high, wide and deep."""
        x = self.conv(nnx.relu(self.norm(x)))
        with jax.named_scope("pool"):
            return nnx.avg_pool(x, (2, 2), (2, 2))


class DenseNet121(nnx.Module):
    """Four dense blocks; boundaries `stem` and `transition0` to `transition2`."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (32, 32, 3),
        classes: int = 10,
        growth: int = 32,
        stem: Literal["cifar", "imagenet"] = "cifar",
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture.
            classes: Logits.
            growth: Channels that each layer adds.
            stem: "cifar" for 3x3, "imagenet" for 7x7 at stride 2 and 3x3 max pooling at stride 2.
            width_multiplier: Factor on the growth.
            rngs: Random keys.
        """
        if stem not in ("cifar", "imagenet"):
            raise InputError(key="stem", value=stem, allowed=("cifar", "imagenet"))
        growth = max(1, round(growth * width_multiplier))
        channels = 2 * growth
        self.imagenet = stem == "imagenet"
        kernel, stride, pad = ((7, 7), 2, 3) if self.imagenet else ((3, 3), 1, 1)
        self.stem = nnx.Conv(
            input_shape[2],
            channels,
            kernel,
            strides=stride,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            rngs=rngs,
        )
        if self.imagenet:
            self.stem_norm = nnx.BatchNorm(channels, rngs=rngs)
        blocks, transitions = [], []
        for number, count in enumerate(BLOCKS):
            layers = [DenseLayer(channels + i * growth, growth, rngs=rngs) for i in range(count)]
            blocks.append(nnx.List(layers))
            channels += count * growth
            if number < len(BLOCKS) - 1:
                transitions.append(Transition(channels, rngs=rngs))
                channels //= 2
        self.block = nnx.List(blocks)
        self.transition = nnx.List(transitions)
        self.norm = nnx.BatchNorm(channels, rngs=rngs)
        self.head = nnx.Linear(channels, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        x = self.stem(x)
        if self.imagenet:
            x = nnx.relu(self.stem_norm(x))
            with jax.named_scope("stem_pool"):
                padding = ((0, 0), (1, 1), (1, 1), (0, 0))
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding
                )
        x = mark_boundary(x, "stem")
        for number, layers in enumerate(self.block):
            for layer in layers:
                x = layer(x)
            if number < len(self.transition):
                x = mark_boundary(self.transition[number](x), f"transition{number}")
        x = nnx.relu(self.norm(x))
        with jax.named_scope("pool"):
            x = jnp.mean(x, (1, 2))
        return self.head(x)
