"""The layer that one ONNX node computes, from its attributes and the shapes of its arrays.

Pure functions; each returns the fields of a `costs.layer.Layer` other than its bits, and the
height, width and channels of the result per inference. Arrays are batch first, channels second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from models.jaxpr_layers import Found, UnsupportedError
from models.workload_builder import Shape

Attributes = Mapping[str, Any]


def calc_shape(shape: Sequence[int], batch: int) -> Shape:
    """Height, width and channels per inference; arrays of other ranks than 4 end in channels."""
    if len(shape) == 4 and shape[0] == batch:
        return (shape[2], shape[3], shape[1])
    positions = math.prod(shape[:-1])
    channels = shape[-1] if shape else 1
    if positions % batch == 0:
        return (positions // batch, 1, channels)
    return (1, 1, max(1, positions * channels // batch))


def calc_convolution(
    attributes: Attributes,
    data: Sequence[int],
    kernel: Sequence[int],
    result: Sequence[int],
    pads: Sequence[int],
) -> Found:
    """A convolution of data [N, C, ...] with a kernel [K, C / group, ...].

    Args:
        attributes: Of the node.
        data: Shape of the input, with what a Pad node before it has added.
        kernel: Shape of the weights.
        result: Shape of the output.
        pads: What that Pad node has added: before each axis, then after each axis.
    """
    fields = _window(attributes, data, kernel[2:], result, pads) | {
        "N": data[0],
        "K": kernel[0],
        "C": data[1],
        "groups": attributes.get("group", 1),
    }
    return Found(fields, (fields["P"], fields["Q"], kernel[0]))


def calc_pool(
    attributes: Attributes, data: Sequence[int], result: Sequence[int], pads: Sequence[int]
) -> Found:
    """Pooling with a sliding window of data [N, C, ...]; arguments as for a convolution."""
    fields = _window(attributes, data, attributes["kernel_shape"], result, pads)
    fields |= _pool_fields(data)
    return Found(fields, (fields["P"], fields["Q"], data[1]))


def calc_global_pool(data: Sequence[int]) -> Found:
    """Pooling of all positions of data [N, C, ...] into one."""
    height, width = _pair(data[2:], 1)
    fields = _pool_fields(data) | {"R": height, "S": width, "input_size": (height, width)}
    return Found(fields, (1, 1, data[1]))


def calc_product(left: Sequence[int], right: Sequence[int], batch: int) -> Found:
    """Data [..., M, C] times known weights [C, K], or [groups, C, K] for as many groups."""
    groups = math.prod(right[:-2])
    rows = math.prod(left[:-1])
    if rows % groups:
        raise UnsupportedError(f"a product of {tuple(left)} and {tuple(right)}")
    rows //= groups
    images = batch if rows % batch == 0 else 1
    fields = {
        "N": images,
        "P": rows // images,
        "K": groups * right[-1],
        "C": groups * left[-1],
        "groups": groups,
    }
    return Found(fields, (rows // images, 1, groups * right[-1]))


def calc_activation_product(
    left: Sequence[int], right: Sequence[int], result: Sequence[int], batch: int
) -> Found:
    """[..., M, C] times [..., C, K], both computed at inference; the batch is among the groups."""
    groups = math.prod(result[:-2])
    fields = {"P": left[-2], "K": groups * right[-1], "C": groups * left[-1], "groups": groups}
    return Found(fields, calc_shape(result, batch))


def _window(
    attributes: Attributes,
    data: Sequence[int],
    kernel: Sequence[int],
    result: Sequence[int],
    pads: Sequence[int],
) -> dict[str, Any]:
    rank = len(data) - 2
    if rank not in (1, 2):
        raise UnsupportedError(f"a window over {rank} axes")
    strides = attributes.get("strides", [1] * rank)
    dilations = attributes.get("dilations", [1] * rank)
    added = [(pads[axis], pads[len(data) + axis]) if pads else (0, 0) for axis in range(len(data))]
    if added[:2] != [(0, 0), (0, 0)]:
        raise UnsupportedError("a window over an input padded along batch or channels")
    inner = _padding(attributes, data[2:], kernel, strides, dilations)
    padding = [(a + c, b + d) for (a, b), (c, d) in zip(added[2:], inner, strict=True)]
    size = [n - sum(pad) for n, pad in zip(data[2:], added[2:], strict=True)]
    height, width = _pair(result[2:], 1)
    rows, columns = _pair(kernel, 1)
    return {
        "P": height,
        "Q": width,
        "R": rows,
        "S": columns,
        "stride": _pair(strides, 1),
        "dilation": _pair(dilations, 1),
        "padding": _pair(padding, (0, 0)),
        "input_size": _pair(size, 1),
    }


def _padding(
    attributes: Attributes,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """What the node itself adds before and after each position axis."""
    automatic = attributes.get("auto_pad", b"NOTSET").decode()
    rank = len(size)
    if automatic == "NOTSET":
        pads = attributes.get("pads", [0] * 2 * rank)
        return [(pads[axis], pads[rank + axis]) for axis in range(rank)]
    if automatic == "VALID":
        return [(0, 0)] * rank
    padding = []
    for n, r, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        total = max(0, (-(-n // stride) - 1) * stride + (r - 1) * dilation + 1 - n)
        small, large = total // 2, total - total // 2
        padding.append((small, large) if automatic == "SAME_UPPER" else (large, small))
    return padding


def _pool_fields(data: Sequence[int]) -> dict[str, Any]:
    return {"N": data[0], "K": data[1], "C": data[1], "groups": data[1], "kind": "pool"}


def _pair(values: Sequence[Any], filler: Any) -> tuple[Any, Any]:
    """Height and width; one-dimensional layers lie along the height."""
    return (values[0], values[1]) if len(values) > 1 else (values[0], filler)
