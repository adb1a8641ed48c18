"""VGG-16 (Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, configuration D).

As published for 224x224 pictures (138,357,544 parameters with 1,000 classes), and the form usual on
CIFAR: batch normalisation after each convolution and one linear layer (14,728,266 with 10 classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
from flax import nnx

from costs.errors import InputError
from models.trace import mark_boundary

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of 3x3 convolutions of each stage; 2x2 max pooling ends each."""


class VGG16(nnx.Module):
    """Thirteen 3x3 convolutions named as in the paper; boundaries `pool1` to `pool5`."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (224, 224, 3),
        classes: int = 1000,
        head: Literal["imagenet", "cifar"] = "imagenet",
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture. The head "imagenet" needs 32 pixels
                each way; with "cifar", pooling ends where one pixel is left.
            classes: Logits.
            head: "imagenet" for two hidden layers of 4,096 units with dropout, "cifar" for batch
                normalisation throughout and a mean before one linear layer.
            width_multiplier: Factor on channels and hidden units.
            rngs: Random keys.
        """
        height, width, channels = input_shape
        if head not in ("imagenet", "cifar"):
            raise InputError(key="head", value=head, allowed=("imagenet", "cifar"))
        if head == "imagenet" and min(height, width) < 2 ** len(STAGES):
            raise InputError(
                key="input_shape", value=tuple(input_shape), allowed="32 pixels or more each way"
            )
        self.cifar = head == "cifar"
        for stage, (width_of_stage, count) in enumerate(STAGES, start=1):
            wide = max(1, round(width_of_stage * width_multiplier))
            for index in range(1, count + 1):
                conv = nnx.Conv(channels, wide, (3, 3), rngs=rngs)
                setattr(self, f"conv{stage}_{index}", conv)
                if self.cifar:
                    setattr(self, f"norm{stage}_{index}", nnx.BatchNorm(wide, rngs=rngs))
                channels = wide
        if self.cifar:
            self.fc = nnx.Linear(channels, classes, rngs=rngs)
            return
        units = max(1, round(4096 * width_multiplier))
        self.fc6 = nnx.Linear((height // 32) * (width // 32) * channels, units, rngs=rngs)
        self.fc7 = nnx.Linear(units, units, rngs=rngs)
        self.fc8 = nnx.Linear(units, classes, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        for stage, (_, count) in enumerate(STAGES, start=1):
            for index in range(1, count + 1):
                x = getattr(self, f"conv{stage}_{index}")(x)
                if self.cifar:
                    x = getattr(self, f"norm{stage}_{index}")(x)
                x = nnx.relu(x)
            if min(x.shape[1:3]) > 1:
                with jax.named_scope(f"pool{stage}"):
                    x = nnx.max_pool(x, (2, 2), (2, 2))
            x = mark_boundary(x, f"pool{stage}")
        if self.cifar:
            with jax.named_scope("pool"):
                x = x.mean((1, 2))
            return self.fc(x)
        x = x.reshape(x.shape[0], -1)
        x = self.dropout(nnx.relu(self.fc6(x)))
        x = self.dropout(nnx.relu(self.fc7(x)))
        return self.fc8(x)
