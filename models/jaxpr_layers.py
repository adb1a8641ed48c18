"""The layer that one jaxpr equation computes, from its parameters and the shapes of its arrays.

Pure functions of equations; each returns the fields of a `costs.layer.Layer` other than its bits,
and the height, width and channels of the result per inference. `pads` is what a separate padding
just before has added to each axis of the input (before, after): it belongs to the layer, not to
the tensor that is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.workload_builder import Shape

Pads = Sequence[tuple[int, int]]


class UnsupportedError(Exception):
    """An equation that is no layer this cost model knows; the text says why."""


@dataclass(frozen=True)
class Found:
    """A layer's fields and the shape (height, width, channels) it hands on per inference."""

    fields: dict[str, Any]
    shape: Shape


def calc_shape(shape: Sequence[int], batch: int) -> Shape:
    """Height, width and channels per inference of an array, batch first and channels last.

    Arrays without two axes between batch and channels have their positions along the height.
    """
    if len(shape) == 4 and shape[0] == batch:
        return (shape[1], shape[2], shape[3])
    positions = math.prod(shape[:-1])
    channels = shape[-1] if shape else 1
    if positions % batch == 0:
        return (positions // batch, 1, channels)
    return (1, 1, max(1, positions * channels // batch))


def calc_convolution(equation: Any, pads: Pads) -> Found:
    """A `conv_general_dilated`, transposed ones as the sub-pixel convolution they equal."""
    params = equation.params
    numbers = params["dimension_numbers"]
    spatial = numbers.lhs_spec[2:]
    if len(spatial) > 2:
        raise UnsupportedError(f"a convolution over {len(spatial)} axes")
    if params["batch_group_count"] != 1:
        raise UnsupportedError("a convolution with grouped batches")
    data, kernel, result = (
        equation.invars[0].aval.shape,
        equation.invars[1].aval.shape,
        equation.outvars[0].aval.shape,
    )
    if pads and any(pads[axis] != (0, 0) for axis in numbers.lhs_spec[:2]):
        raise UnsupportedError("a convolution of an input padded along batch or channels")
    before = [pads[axis] if pads else (0, 0) for axis in spatial]
    size = [data[axis] - sum(pad) for axis, pad in zip(spatial, before, strict=True)]
    padding = [
        (int(low) + pad[0], int(high) + pad[1])
        for (low, high), pad in zip(params["padding"], before, strict=True)
    ]
    window = [kernel[axis] for axis in numbers.rhs_spec[2:]]
    output = [result[axis] for axis in numbers.out_spec[2:]]
    channels = kernel[numbers.rhs_spec[0]]
    shape = (*_pair(output, 1), channels)
    if any(factor != 1 for factor in params["lhs_dilation"]):
        window, output, padding = _sub_pixel(params, size, window, output)
        channels *= math.prod(params["lhs_dilation"])
    rows, columns = _pair(window, 1)
    height, width = _pair(output, 1)
    fields = {
        "N": data[numbers.lhs_spec[0]],
        "K": channels,
        "C": data[numbers.lhs_spec[1]],
        "P": height,
        "Q": width,
        "R": rows,
        "S": columns,
        "stride": _pair(params["window_strides"], 1),
        "dilation": _pair(params["rhs_dilation"], 1),
        "groups": params["feature_group_count"],
        "padding": _pair(padding, (0, 0)),
        "input_size": _pair(size, 1),
    }
    return Found(fields, shape)


def calc_product(equation: Any, batch: int, data: int) -> Found:
    """A `dot_general` of an activation (operand number `data`) and known weights.

    Batch axes of the product are groups; free axes of the activation are batch and positions.
    """
    contracted, grouped = equation.params["dimension_numbers"]
    shapes = [atom.aval.shape for atom in equation.invars]
    free = [_free(shapes[i], contracted[i], grouped[i]) for i in (0, 1)]
    groups = _size(shapes[data], grouped[data])
    rows = math.prod(free[data])
    images = batch if rows % batch == 0 else 1
    two = len(free[data]) == 3 and free[data][0] == batch
    height, width = free[data][1:] if two else (rows // images, 1)
    channels = groups * math.prod(free[1 - data])
    fields = {
        "N": images,
        "K": channels,
        "C": groups * _size(shapes[data], contracted[data]),
        "P": height,
        "Q": width,
        "groups": groups,
    }
    return Found(fields, (height, width, channels))


def calc_activation_product(equation: Any, batch: int) -> Found:
    """A `dot_general` of two activations; the batch is part of the groups, the right operand W."""
    contracted, grouped = equation.params["dimension_numbers"]
    left, right = (atom.aval.shape for atom in equation.invars)
    groups = _size(left, grouped[0])
    fields = {
        "P": math.prod(_free(left, contracted[0], grouped[0])),
        "K": groups * math.prod(_free(right, contracted[1], grouped[1])),
        "C": groups * _size(left, contracted[0]),
        "groups": groups,
    }
    return Found(fields, calc_shape(equation.outvars[0].aval.shape, batch))


def calc_window(equation: Any, pads: Pads) -> Found | None:
    """A pooling window (`reduce_window_*`); None where it leaves every position alone."""
    params = equation.params
    shape, result = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    window = params["window_dimensions"]
    if any(factor != 1 for factor in params["base_dilation"]):
        raise UnsupportedError("pooling of a dilated input")
    if math.prod(window) == 1 and tuple(shape) == tuple(result):
        return None
    first = 2 if len(shape) == 4 and window[1] == 1 and window[3] != 1 else 1
    spatial = range(first, first + len(shape) - 2)
    if len(shape) not in (3, 4) or any(
        window[axis] != 1 or params["padding"][axis] != (0, 0)
        for axis in range(len(shape))
        if axis not in spatial
    ):
        raise UnsupportedError(f"pooling with a window of {tuple(window)}")
    added = [pads[axis] if pads else (0, 0) for axis in spatial]
    size = [shape[axis] - sum(pad) for axis, pad in zip(spatial, added, strict=True)]
    padding = [
        (int(params["padding"][axis][0]) + pad[0], int(params["padding"][axis][1]) + pad[1])
        for axis, pad in zip(spatial, added, strict=True)
    ]
    channels = shape[1] if first == 2 else shape[-1]
    rows, columns = _pair([window[axis] for axis in spatial], 1)
    height, width = _pair([result[axis] for axis in spatial], 1)
    fields = _pool_fields(shape[0], channels) | {
        "P": height,
        "Q": width,
        "R": rows,
        "S": columns,
        "stride": _pair([params["window_strides"][axis] for axis in spatial], 1),
        "dilation": _pair([params["window_dilation"][axis] for axis in spatial], 1),
        "padding": _pair(padding, (0, 0)),
        "input_size": _pair(size, 1),
    }
    return Found(fields, (height, width, channels))


def calc_reduction(equation: Any, batch: int) -> Found | None:
    """A reduction over positions as a pooling layer; None where it is elementwise work.

    Reductions that include the channels (layer norm, softmax) are elementwise work.
    """
    shape, axes = equation.invars[0].aval.shape, set(equation.params["axes"])
    channels_first = len(shape) == 4 and axes == {2, 3}
    spatial = (2, 3) if channels_first else tuple(range(1, len(shape) - 1))
    if len(shape) not in (3, 4) or shape[0] != batch or not axes or not axes <= set(spatial):
        return None
    size = [shape[axis] for axis in spatial]
    rows, columns = _pair([shape[axis] if axis in axes else 1 for axis in spatial], 1)
    if rows * columns == 1:
        return None
    height, width = _pair([1 if axis in axes else shape[axis] for axis in spatial], 1)
    channels = shape[1] if channels_first else shape[-1]
    fields = _pool_fields(shape[0], channels) | {
        "P": height,
        "Q": width,
        "R": rows,
        "S": columns,
        "input_size": _pair(size, 1),
    }
    return Found(fields, (height, width, channels))


def _pool_fields(batch: int, channels: int) -> dict[str, Any]:
    return {"N": batch, "K": channels, "C": channels, "groups": channels, "kind": "pool"}


def _sub_pixel(
    params: Any, size: Sequence[int], window: Sequence[int], output: Sequence[int]
) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """A transposed convolution without its zeros: one output channel for each phase of a pixel."""
    factors = params["lhs_dilation"]
    plain = all(n == 1 for n in (*params["window_strides"], *params["rhs_dilation"]))
    fits = all(
        n % factor == 0
        for sizes in (window, output)
        for n, factor in zip(sizes, factors, strict=True)
    )
    if not plain or not fits:
        raise UnsupportedError(
            f"a transposed convolution by {tuple(factors)} with a kernel {tuple(window)} and an"
            f" output {tuple(output)} that are not multiples of it"
        )
    window = [n // factor for n, factor in zip(window, factors, strict=True)]
    output = [n // factor for n, factor in zip(output, factors, strict=True)]
    spare = [max(0, p - 1 + r - n) for p, r, n in zip(output, window, size, strict=True)]
    return window, output, [(total // 2, total - total // 2) for total in spare]


def _pair(values: Sequence[Any], filler: Any) -> tuple[Any, Any]:
    """Height and width; one-dimensional layers lie along the height."""
    pair = (values[0], values[1]) if len(values) > 1 else (values[0], filler)
    first, second = (part if isinstance(part, tuple) else int(part) for part in pair)
    return (first, second)


def _free(shape: Sequence[int], *used: Sequence[int]) -> list[int]:
    taken = {axis for axes in used for axis in axes}
    return [size for axis, size in enumerate(shape) if axis not in taken]


def _size(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)
