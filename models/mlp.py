"""Multilayer perceptron: linear layers with a ReLU between them.

The default, 300 and 100 hidden units on 28x28 pictures, is LeNet-300-100 (LeCun et al., Gradient-
based learning applied to document recognition, 1998) with the ReLU that is usual today.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import jax
from flax import nnx

from models.trace import mark_boundary


class MLP(nnx.Module):
    """Linear layers on the flattened input; boundaries `hidden0`, `hidden1`, ..."""

    def __init__(
        self,
        *,
        input_shape: Sequence[int] = (28, 28, 1),
        classes: int = 10,
        hidden: Sequence[int] = (300, 100),
        width_multiplier: float = 1.0,
        rngs: nnx.Rngs,
    ) -> None:
        """Fresh weights.

        Args:
            input_shape: Height, width, channels of a picture, or any other shape.
            classes: Logits.
            hidden: Units of each hidden layer.
            width_multiplier: Factor on the hidden units.
            rngs: Random keys.
        """
        units = [math.prod(input_shape), *(max(1, round(n * width_multiplier)) for n in hidden)]
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(units)])
        self.head = nnx.Linear(units[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [batch, classes] of pictures [batch, ...]."""
        x = x.reshape(x.shape[0], -1)
        for index, layer in enumerate(self.hidden):
            x = mark_boundary(nnx.relu(layer(x)), f"hidden{index}")
        return self.head(x)
