"""From stored pictures to what a training step sees: scaling, flip, crop and cutout, all in jax.

Everything random follows from the key alone, so that a resumed run sees the same pictures.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dse.data import Scaling
from dse.experiment_spec import Training

Array = jax.Array


def prepare_pictures(
    key: Array, pictures: Array, settings: Training, scaling: Scaling | None
) -> Array:
    """Augmented network inputs f32[n, h, w, c].

    Args:
        key: For the random choices of this step.
        pictures: Stored pictures [n, h, w, c].
        settings: Which augmentation.
        scaling: Of bytes; None where pictures are network inputs already.
    """
    if scaling is not None:
        pictures = scaling(pictures)
    if settings.flip:
        pictures = flip_pictures(jax.random.fold_in(key, 1), pictures)
    if settings.shift:
        pictures = shift_pictures(key, pictures, settings.shift)
    if settings.cutout:
        pictures = cut_out(jax.random.fold_in(key, 2), pictures, settings.cutout)
    return pictures


def flip_pictures(key: Array, pictures: Array) -> Array:
    """Pictures [n, h, w, c], each mirrored left to right with probability 1/2."""
    flipped = jax.random.bernoulli(key, 0.5, (len(pictures), 1, 1, 1))
    return jnp.where(flipped, pictures[:, :, ::-1], pictures)


def shift_pictures(key: Array, pictures: Array, largest: int) -> Array:
    """Pictures [n, h, w, c] moved by up to `largest` pixels each way, zeros moving in.

    With 4 pixels it is the crop of padded pictures that is common for CIFAR (He et al., 2016).
    """
    count, height, width, channels = pictures.shape
    padded = jnp.pad(pictures, ((0, 0), (largest, largest), (largest, largest), (0, 0)))
    offsets = jax.random.randint(key, (count, 2), 0, 2 * largest + 1)

    def crop(picture: Array, offset: Array) -> Array:
        size = (height, width, channels)
        return jax.lax.dynamic_slice(picture, (offset[0], offset[1], 0), size)

    return jax.vmap(crop)(padded, offsets)


def cut_out(key: Array, pictures: Array, side: int) -> Array:
    """Pictures [n, h, w, c] with a square of `side` pixels set to zero (DeVries & Taylor, 2017).

    Its centre is any pixel, so that the square may reach over the border.
    """
    count, height, width, _ = pictures.shape
    places = jax.random.uniform(key, (count, 2)) * jnp.array([[height, width]])
    first = places.astype(jnp.int32) - side // 2

    def hit(axis: int, size: int) -> Array:
        place = jnp.arange(size)[None, :] - first[:, axis : axis + 1]
        return (place >= 0) & (place < side)

    inside = hit(0, height)[:, :, None, None] & hit(1, width)[:, None, :, None]
    return jnp.where(inside, 0.0, pictures)
