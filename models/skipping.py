"""Dynamic skipping: which channels and which columns of a feature map a convolution computes.

A column is a spatial position with all its channels. Attention decides per input: of a channel, the
mean over its positions; of a column, the mean over its channels. The k with the largest
attention are kept (Xu et al., AntiDote, DATE 2020). A kept share w / C of the channels and v / (H
W) of the columns leaves w v / (C H W) of the convolution's MACs.

    make_skipping(network, ["stage2", "stage3.block0"])

puts a `SkippingConv` in the place of each convolution below these paths. How much is kept is not
a parameter of the network: `Keep` says it, per block, and training may relax it as any width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from costs.errors import InputError
from models.convolutions import replace_convolutions, settings_of
from models.relax import straight_through

Masks = tuple[jax.Array, jax.Array]
"""f32[batch, channels] and f32[batch, height, width] of ones and zeros."""


@dataclass
class Keep:
    """What one block keeps in one call of the network.

    Attributes:
        channels: Share of the channels that is kept, f32[]; 1 for all.
        columns: Share of the columns, f32[].
        key: Random key; None for no targeted dropout and no random rounding.
        held: Whether shares are rounded to the nearest number even where there is a key.
        dropped: Probability with which what attention leaves out is really left out [1].
        record: Receives what attention keeps in each convolution by path, in the order of the
            calls; what dropout spares beside it is not among it.
    """

    channels: jax.Array | float
    columns: jax.Array | float
    key: jax.Array | None = None
    dropped: jax.Array | float = 1.0
    held: jax.Array | bool = False
    record: dict[str, Masks] = field(default_factory=dict)


class SkippingConv(nnx.Conv):
    """A convolution that reads only the channels and columns of its input that attention keeps.

    Attributes:
        path: Of the module, the name of its layer.
        block: The block whose shares it follows.
    """

    def __init__(self, conv: nnx.Conv, path: str, block: str) -> None:  # pyright: ignore[reportMissingSuperCall]
        """Take a convolution's place with its weights."""
        for name, value in settings_of(conv).items():
            setattr(self, name, value)
        self.kernel = conv.kernel
        self.path = path
        self.block = block

    def __call__(self, inputs: jax.Array, out_sharding: object = None) -> jax.Array:
        """The convolution of what is kept; of everything where nothing was said by `skip`."""
        keep: Keep | None = getattr(self, "_keep", None)
        if keep is not None:
            keep.record[self.path], masks = calc_masks(inputs, keep, self.path)
            inputs = inputs * masks[0][:, None, None, :] * masks[1][..., None]
        return super().__call__(inputs, out_sharding=out_sharding)  # pyright: ignore[reportArgumentType]


def calc_masks(x: jax.Array, keep: Keep, path: str = "") -> tuple[Masks, Masks]:
    """The masks of a feature map by its own attention: what is kept, and that with what is spared.

    Exactly k = round(share n) of the n channels are kept, at least one (with a key, k is share n
    rounded at random, its mean share n); so are columns. The gradient reaches the shares as in
    `models.relax`: what stands at rank r changes at the rate of clip(share n - r, 0, 1).

    Args:
        x: f32[batch, height, width, channels].
        keep: Shares, key and dropout.
        path: Tells the random numbers of one convolution from those of another.
    """
    batch, height, width, _ = x.shape
    by_channel = jnp.mean(x, (1, 2))
    by_column = jnp.mean(x, 3).reshape(batch, height * width)
    key = None if keep.key is None else jax.random.fold_in(keep.key, _number(path))
    masks = []
    for axis, (attention, share) in enumerate(
        ((by_channel, keep.channels), (by_column, keep.columns))
    ):
        own = None if key is None else jax.random.fold_in(key, axis)
        masks.append(_top(attention, share, own, keep))
    size = (batch, height, width)
    kept, applied = (
        (by_channel, by_column.reshape(size)) for by_channel, by_column in zip(*masks, strict=True)
    )
    return kept, applied


def round_share(share: float, count: int) -> int:
    """How many of so many entries a share keeps where nothing is drawn: half up, at least one."""
    width = np.clip(np.float32(share) * np.float32(count), 1, count)
    return int(width) + int(width - np.floor(width) >= 0.5)


def make_skipping(network: nnx.Module, blocks: Sequence[str]) -> None:
    """Exchange the convolutions below some paths.

    Args:
        network: Is changed; keeps its weights.
        blocks: Paths of modules, such as `stage2.block0`; of several that fit the longest counts.

    Raises:
        InputError: no convolution stands below a path.
    """
    seen: list[str] = []
    used: set[str] = set()

    def make(path: str, conv: nnx.Conv) -> nnx.Module | None:
        seen.append(path)
        fitting = [b for b in blocks if path == b or path.startswith(f"{b}.")]
        if not fitting:
            return None
        block = max(fitting, key=len)
        used.add(block)
        return SkippingConv(conv, path, block)

    replace_convolutions(network, make)
    for block in blocks:
        if block not in used:
            raise InputError("no convolution below it", key="blocks", value=block, allowed=seen)


def list_skipping(network: nnx.Module) -> Iterator[SkippingConv]:
    """The convolutions that skip."""
    for _, module in nnx.iter_modules(network):
        if isinstance(module, SkippingConv):
            yield module


def skip(network: nnx.Module, keeps: Mapping[str, Keep]) -> None:
    """Say what each block keeps in the calls that follow.

    For a network that lives for one trace: what is said is not part of its state.
    """
    for module in list_skipping(network):
        object.__setattr__(module, "_keep", keeps[module.block])


def _top(
    attention: jax.Array,
    share: jax.Array | float,
    key: jax.Array | None,
    keep: Keep,
) -> tuple[jax.Array, jax.Array]:
    """The masks [batch, n] of the share of entries with the largest attention; with spared ones."""
    count = attention.shape[1]
    width = jnp.clip(jnp.asarray(share, jnp.float32) * count, 1.0, count)
    low = jnp.floor(width)
    up = width - low >= 0.5
    rounding, dropout = (None, None) if key is None else jax.random.split(key)
    if rounding is not None:
        up = jnp.where(keep.held, up, jax.random.uniform(rounding) < width - low)
    rank = jnp.argsort(jnp.argsort(-attention, axis=1), axis=1).astype(jnp.float32)
    soft = jnp.clip(width - rank, 0.0, 1.0)
    kept = (rank < low + up).astype(jnp.float32)
    applied = kept
    if dropout is not None:
        spared = jax.random.uniform(dropout, attention.shape) >= keep.dropped
        applied = jnp.maximum(kept, spared.astype(jnp.float32))
    return straight_through(kept, soft), straight_through(applied, soft)


def _number(path: str) -> int:
    """A number for a path, the same in every process."""
    return sum(byte * 257**place for place, byte in enumerate(path.encode())) % (2**31 - 1)
