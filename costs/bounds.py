"""Off-chip traffic that no schedule, or no schedule of one family, can undercut.

Three numbers stand side by side for a layer and an on-chip memory:

* compulsory traffic: every weight, every input that is touched and every output once. The only true
  lower bound here.
* the communication formula `2 MACs / sqrt(R S) + outputs` (Chen, Han, Wang, HPCA 2020,
  arXiv 1911.05662): a reference for output-stationary schedules, not a bound. Schedules that keep
  all weights of a layer on chip beat it.
* the dataflow that reaches the formula, with its block sizes found by exact integer search.

Everything is counted in words of one width for all operands, as in that paper. Padding is never
fetched. Energy and time are out of scope: see `costs.mapper`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costs.layer import Layer


@dataclass(frozen=True)
class OutputBlock:
    """A block of outputs that stays on chip until it is finished.

    Attributes:
        images: images in a block, b.
        height: output rows in a block, y.
        width: output columns in a block, x.
        channels: output channels in a block, z (per group).
        onchip_words: words the block needs: partial sums, one input channel, one weight per output
            channel.
        traffic_words: words moved between the chip and DRAM over the whole layer.
    """

    images: int
    height: int
    width: int
    channels: int
    onchip_words: int
    traffic_words: int


@dataclass(frozen=True)
class LayerBounds:
    """The bounds of one layer for several on-chip capacities, in bytes.

    Attributes:
        name: the layer.
        macs: multiply-accumulates.
        compulsory_bytes: every touched word once [bytes].
        formula_bytes: the communication formula, one per capacity [bytes].
        tiled_bytes: the dataflow that reaches it, one per capacity [bytes]; infinite where not even
            a block of one output fits.
        blocks: the block sizes behind `tiled_bytes`, `None` where nothing fits.
    """

    name: str
    macs: int
    compulsory_bytes: float
    formula_bytes: tuple[float, ...]
    tiled_bytes: tuple[float, ...]
    blocks: tuple[OutputBlock | None, ...]


def _calc_touched(
    first: int, last: int, kernel: int, stride: int, dilation: int, before: int, size: int
) -> int:
    """Rows of the input, padding excluded, that outputs `first..last` (inclusive) touch."""
    outputs = np.arange(first, last + 1)[:, None] * stride
    rows = np.unique(outputs + np.arange(kernel)[None, :] * dilation - before)
    return int(np.count_nonzero((rows >= 0) & (rows < size)))


def _axis(layer: Layer, axis: int) -> tuple[int, int, int, int, int, int]:
    """Outputs, kernel, stride, dilation, leading padding and input size along height or width."""
    outputs, kernel = ((layer.P, layer.R), (layer.Q, layer.S))[axis]
    stride, dilation = layer.stride[axis], layer.dilation[axis]
    before, _ = layer.padding[axis]
    size = (layer.input_height, layer.input_width)[axis]
    return outputs, kernel, stride, dilation, before, size


def _calc_input_extents(layer: Layer, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Input rows per tile of t = 1..outputs output rows, `(outputs,)` each: (sum, largest)."""
    outputs, kernel, stride, dilation, before, size = _axis(layer, axis)
    total = np.zeros(outputs, np.int64)
    largest = np.zeros(outputs, np.int64)
    for tile in range(1, outputs + 1):
        extents = [
            _calc_touched(
                start, min(start + tile, outputs) - 1, kernel, stride, dilation, before, size
            )
            for start in range(0, outputs, tile)
        ]
        total[tile - 1], largest[tile - 1] = sum(extents), max(extents)
    return total, largest


def calc_compulsory_words(layer: Layer) -> dict[str, int]:
    """Words of each operand that must cross once: weights, touched inputs, outputs."""
    touched = 1
    for axis in (0, 1):
        outputs, kernel, stride, dilation, before, size = _axis(layer, axis)
        touched *= _calc_touched(0, outputs - 1, kernel, stride, dilation, before, size)
    return {
        "W": layer.words("W"),
        "I": layer.N * layer.C * touched,
        "O": layer.words("O"),
    }


def calc_window_reuse(layer: Layer) -> float:
    """Uses of an input word by the sliding window, R: kernel area over stride area."""
    return layer.R * layer.S / (layer.stride[0] * layer.stride[1])


def calc_formula_words(layer: Layer, onchip_words: float) -> float:
    """Communication of an output-stationary schedule, 2 MACs / sqrt(R S) + outputs [words].

    Args:
        layer: the convolution.
        onchip_words: on-chip memory S [words].
    """
    root = math.sqrt(calc_window_reuse(layer) * onchip_words)
    return 2 * layer.macs / root + layer.words("O")


def best_output_block(layer: Layer, onchip_words: float) -> OutputBlock | None:
    """The output block with the least traffic, by exact search over all integer block sizes.

    Q = N_blocks (R S C z + b x' y' C) + outputs with clipped halos, under
    b x y z + b x' y' + z <= S. For given b, y, x the traffic falls with z, so the largest z that
    fits is the best one and only (b, y, x) need to be walked.

    Args:
        layer: the convolution.
        onchip_words: on-chip memory S [words].

    Returns:
        The block, or `None` when not even a block of one output fits.
    """
    channels_out = layer.K // layer.groups
    images = np.arange(1, layer.N + 1)[:, None, None]
    heights = np.arange(1, layer.P + 1)[None, :, None]
    widths = np.arange(1, layer.Q + 1)[None, None, :]
    rows_total, rows_largest = (v[None, :, None] for v in _calc_input_extents(layer, 0))
    cols_total, cols_largest = (v[None, None, :] for v in _calc_input_extents(layer, 1))

    positions = images * heights * widths
    patch = images * rows_largest * cols_largest
    channels = np.floor((onchip_words - patch) / (positions + 1)).astype(np.int64)
    channels = np.minimum(channels, channels_out)
    fits = channels >= 1
    if not fits.any():
        return None
    channels = np.maximum(channels, 1)
    passes = -(-channels_out // channels)
    # the smallest block with this number of passes: the same traffic in less memory
    channels = -(-channels_out // passes)
    blocks = -(-layer.N // images) * -(-layer.P // heights) * -(-layer.Q // widths)
    traffic = layer.words("W") * blocks + passes * layer.N * layer.C * rows_total * cols_total
    traffic = np.where(fits, traffic, np.iinfo(np.int64).max)
    b, y, x = np.unravel_index(int(np.argmin(traffic)), traffic.shape)
    z = int(channels[b, y, x])
    return OutputBlock(
        images=int(b) + 1,
        height=int(y) + 1,
        width=int(x) + 1,
        channels=z,
        onchip_words=int(positions[b, y, x] * z + patch[b, y, x] + z),
        traffic_words=int(traffic[b, y, x]) + layer.words("O"),
    )


def calc_layer_bounds(
    layer: Layer, onchip_bytes: Sequence[float], *, word_bits: int = 16
) -> LayerBounds:
    """Compulsory traffic, formula and best output block of one layer.

    Args:
        layer: the convolution.
        onchip_bytes: on-chip capacities [bytes].
        word_bits: width of every word, whatever the layer says [bits].
    """
    word_bytes = word_bits / 8
    blocks = tuple(best_output_block(layer, capacity / word_bytes) for capacity in onchip_bytes)
    return LayerBounds(
        name=layer.name,
        macs=layer.macs,
        compulsory_bytes=sum(calc_compulsory_words(layer).values()) * word_bytes,
        formula_bytes=tuple(
            calc_formula_words(layer, capacity / word_bytes) * word_bytes
            for capacity in onchip_bytes
        ),
        tiled_bytes=tuple(
            math.inf if block is None else block.traffic_words * word_bytes for block in blocks
        ),
        blocks=blocks,
    )


def calc_bounds_table(
    layers: Sequence[Layer], onchip_bytes: Sequence[float], *, word_bits: int = 16
) -> list[LayerBounds]:
    """Bounds of every convolution of a network, and their total as the last row.

    Args:
        layers: the layers, any kind; pooling and elementwise layers are left out.
        onchip_bytes: on-chip capacities [bytes].
        word_bits: width of every word [bits].
    """
    rows = [
        calc_layer_bounds(layer, onchip_bytes, word_bits=word_bits)
        for layer in layers
        if layer.kind == "conv"
    ]
    total = LayerBounds(
        name="total",
        macs=sum(row.macs for row in rows),
        compulsory_bytes=sum(row.compulsory_bytes for row in rows),
        formula_bytes=tuple(
            sum(r.formula_bytes[i] for r in rows) for i in range(len(onchip_bytes))
        ),
        tiled_bytes=tuple(sum(r.tiled_bytes[i] for r in rows) for i in range(len(onchip_bytes))),
        blocks=(None,) * len(onchip_bytes),
    )
    return [*rows, total]
