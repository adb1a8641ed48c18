"""A network of one's own: any Flax module that marks the tensors which may cross cores."""

import jax.numpy as jnp
from flax import nnx

from models.trace import mark_boundary


class MyNet(nnx.Module):
    """A stem, a residual branch and a head; boundaries `stem` and `merged`."""

    def __init__(self, *, input_shape, classes: int, channels: int = 8, rngs: nnx.Rngs):
        """Fresh weights."""
        self.stem = nnx.Conv(input_shape[-1], channels, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(channels, rngs=rngs)
        self.branch = nnx.Conv(channels, channels, (3, 3), rngs=rngs)
        self.last = nnx.Conv(channels, 2 * channels, (1, 1), rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(2 * channels, classes, rngs=rngs)

    def __call__(self, x):
        """Logits [batch, classes] of pictures [batch, height, width, channels]."""
        x = mark_boundary(nnx.relu(self.norm(self.stem(x))), "stem")
        x = mark_boundary(nnx.relu(x + self.branch(x)), "merged")
        x = jnp.mean(nnx.relu(self.last(x)), (1, 2))
        return self.head(self.dropout(x))
