"""What a convolution that skips computes and moves: counted from masks, and as a formula.

Both take numpy or jax arrays; from jax masks the counts carry the gradient of the kept shares.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from costs.layer import Layer

COUNTED = ("macs", "bytes")


def count_kept(layer: Layer, channels: Any, columns: Any) -> dict[str, Any]:
    """What one layer computes and moves for each picture.

    Args:
        layer: A convolution of one picture.
        channels: Kept channels, mask [pictures, C].
        columns: Kept positions, mask [pictures, height, width].

    Returns:
        [pictures] each. "macs": products with a kept input over all that have any, times the
        layer's MACs; "bytes": moved once.
    """
    kept_c = channels.sum(1) / layer.C
    kept_v = columns.sum((1, 2)) / columns[0].size
    return _cost(layer, kept_c, kept_v, (columns * reads_share(layer)[None]).sum((1, 2)))


def calc_kept(layer: Layer, channels: float, columns: float, attended: Any = None) -> dict:
    """The same by formula.

    Args:
        layer: A convolution of one picture.
        channels: Share of the channels that is kept [1].
        columns: Share of the positions that is kept [1].
        attended: Probability with which each position is kept, [height, width], its mean being
            `columns`; None where all positions are as likely, (1 - p_channel)(1 - p_column).
    """
    seen = columns if attended is None else float((attended * reads_share(layer)).sum())
    return _cost(layer, channels, columns, seen)


def calc_dense(layer: Layer) -> dict[str, float]:
    """MACs of a layer that skips nothing, and its operands moved once [byte]."""
    moved = sum(layer.bytes(operand) for operand in layer.operands)
    return {"macs": float(layer.macs), "bytes": moved}


@lru_cache(maxsize=1024)
def reads_share(layer: Layer) -> np.ndarray:
    """Share of a layer's reads that each position of its input has, [height, width]; sums to 1.

    A position at a border is read by fewer windows, and by more or fewer under a stride.
    """
    axes = []
    for axis, (size, outputs, kernel) in enumerate(
        ((layer.input_height, layer.P, layer.R), (layer.input_width, layer.Q, layer.S))
    ):
        first = np.arange(outputs) * layer.stride[axis] - layer.padding[axis][0]
        at = (first[:, None] + np.arange(kernel) * layer.dilation[axis]).ravel()
        axes.append(np.bincount(at[(at >= 0) & (at < size)], minlength=size))
    reads = np.multiply.outer(*axes)
    return reads / reads.sum()


def _cost(layer: Layer, kept_c: Any, kept_v: Any, seen: Any) -> dict[str, Any]:
    """Costs of kept shares of the channels, of the positions, and of the reads of the latter."""
    said = (layer.C + layer.input_height * layer.input_width) / 8  # a bit says what is kept
    return {
        "macs": layer.macs * kept_c * seen,
        "bytes": (
            layer.bytes("I") * kept_c * kept_v + layer.bytes("W") * kept_c + layer.bytes("O") + said
        ),
    }
