"""A small convolutional network: two or more 3x3 convolutions, each pooled, and two linear layers.

The default is the network of Flax's MNIST example: 824,458 parameters.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
from flax import nnx

from costs.errors import InputError
from models.trace import mark_boundary


class SmallCNN(nnx.Module):
    """3x3 convolution, ReLU and 2x2 average pooling, repeated; boundaries `conv0`, `conv1`, ..."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (28, 28, 1),
        classes: int = 10,
        channels: Sequence[int] = (32, 64),
        hidden: int = 256,
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture.
            classes: Logits.
            channels: Of each convolution.
            hidden: Units of the hidden linear layer.
            width_multiplier: Factor on channels and hidden units.
            rngs: Random keys.
        """
        height, width, first = input_shape
        smallest = 2 ** len(channels)
        if min(height, width) < smallest:
            raise InputError(
                key="input_shape", value=tuple(input_shape), allowed=f"{smallest} pixels or more"
            )
        widths = [first, *(max(1, round(n * width_multiplier)) for n in channels)]
        self.conv = nnx.List(
            [nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in itertools.pairwise(widths)]
        )
        units = max(1, round(hidden * width_multiplier))
        positions = (height // smallest) * (width // smallest)
        self.hidden = nnx.Linear(positions * widths[-1], units, rngs=rngs)
        self.head = nnx.Linear(units, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        for index, conv in enumerate(self.conv):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
            x = mark_boundary(x, f"conv{index}")
        x = x.reshape(x.shape[0], -1)
        return self.head(nnx.relu(self.hidden(x)))
