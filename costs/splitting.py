"""One layer split over several cores, as a change of the workload: what is duplicated is moved.

By output *channels* every part reads all inputs (duplicated) and its own weights; by *rows* every
part reads its rows of the input with the halo that the kernel reaches beyond them, and all weights
(duplicated). The parts become layers of their own and the tensors between layers are cut into
pieces, each with the parts that make it and read it. So halos and duplicated inputs cross links
like any tensor (`costs.instance_cost`), and tails are what the mapper finds for the smaller layers.
No split is over input channels: its partial sums, wider than outputs, would all have to cross.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from costs.errors import InputError
from costs.layer import Layer
from costs.workload import Tensor, Workload

Axis = Literal["channels", "rows"]
Box = tuple[int, int, int, int]
"""First row, last row + 1, first channel, last channel + 1 of a feature map."""


@dataclass(frozen=True)
class SplitWorkload:
    """A workload some of whose layers are split.

    Attributes:
        workload: with a layer for each part.
        origin: [layers] (layer of the original workload, number of the part).
    """

    workload: Workload
    origin: tuple[tuple[int, int], ...]


def split_layer(layer: Layer, axis: Axis, parts: int) -> tuple[Layer, ...]:
    """The parts of a layer, as equal as they can be.

    Args:
        layer: the layer.
        axis: what of the output is shared out.
        parts: into how many.

    Raises:
        InputError: if there are fewer rows or channels than parts, or its groups do not divide.
    """
    size = layer.P if axis == "rows" else layer.K
    if not 1 <= parts <= size:
        raise InputError(
            "more parts than there are",
            key=f"{layer.name}.{axis}",
            value=parts,
            allowed=f"1 to {size}",
        )
    if axis == "channels" and layer.groups not in (1, layer.K):
        raise InputError(
            "grouped channels cannot be shared out",
            key=layer.name,
            allowed="rows; or groups of one",
        )
    if parts == 1:
        return (layer,)
    found = []
    for number, (first, last) in enumerate(_shares(size, parts)):
        name = f"{layer.name}.{axis}{number}"
        if axis == "rows":
            low, high = _rows_touched(layer, first, last)
            height = _input_height(layer)
            pads = (max(0, -low), max(0, high - height))
            width = None if layer.input_size is None else layer.input_size[1]
            rows = min(high, height) - max(low, 0)
            size_in = None if width is None else (rows, width)
            part = replace(
                layer,
                name=name,
                P=last - first,
                padding=(pads, layer.padding[1]),
                input_size=size_in,
            )
        elif layer.groups == 1:
            part = replace(layer, name=name, K=last - first)
        else:
            own = last - first
            part = replace(layer, name=name, K=own, C=layer.C // layer.K * own, groups=own)
        found.append(part)
    return tuple(found)


def split_workload(workload: Workload, plan: Mapping[int, tuple[Axis, int]]) -> SplitWorkload:
    """The workload with layers split as planned.

    Args:
        workload: the workload.
        plan: axis and number of parts by the layer's index.

    Raises:
        InputError: as `split_layer`; or if a layer's output is not cut along its rows.
    """
    layers: list[Layer] = []
    origin: list[tuple[int, int]] = []
    first: list[int] = []
    for index, layer in enumerate(workload.layers):
        axis, parts = plan.get(index, ("rows", 1))
        first.append(len(layers))
        for number, part in enumerate(split_layer(layer, axis, parts)):
            layers.append(part)
            origin.append((index, number))
    tensors: list[Tensor] = []
    for tensor in workload.tensors:
        makers = [(-1, _whole(tensor))]
        if tensor.producer >= 0:
            makers = [
                (first[tensor.producer] + n, box)
                for n, box in enumerate(_made(workload, tensor, plan))
            ]
        readers = [
            (first[consumer] + n, consumer in tensor.fused, box)
            for consumer in tensor.consumers
            for n, box in enumerate(_read(workload, tensor, consumer, plan))
        ]
        tensors += _pieces(tensor, makers, readers)
    split = replace(
        workload, layers=tuple(layers), tensors=tuple(tensors), dynamic_weights=frozenset(
            n for n, (index, _) in enumerate(origin) if index in workload.dynamic_weights
        )
    )  # fmt: skip
    return SplitWorkload(split, tuple(origin))


def _shares(size: int, parts: int) -> list[tuple[int, int]]:
    """First and last + 1 of each share."""
    edges = np.cumsum([0, *(len(share) for share in np.array_split(np.arange(size), parts))])
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def _rows_touched(layer: Layer, first: int, last: int) -> tuple[int, int]:
    """Input rows that a window over these output rows reaches, padding included."""
    low = first * layer.stride[0] - layer.padding[0][0]
    reach = (layer.R - 1) * layer.dilation[0] + 1
    return low, (last - 1) * layer.stride[0] - layer.padding[0][0] + reach


def _input_height(layer: Layer) -> int:
    if layer.input_size is not None:
        return layer.input_size[0]
    low, high = _rows_touched(layer, 0, layer.P)
    return high - layer.padding[0][1] - low - layer.padding[0][0]


def _whole(tensor: Tensor) -> Box:
    height, _, channels = tensor.shape
    return 0, height, 0, channels


def _made(workload: Workload, tensor: Tensor, plan: Mapping[int, tuple[Axis, int]]) -> list[Box]:
    """What of a tensor each part of its producer makes."""
    layer = workload.layers[tensor.producer]
    axis, parts = plan.get(tensor.producer, ("rows", 1))
    height, _, channels = tensor.shape
    if parts == 1:
        return [_whole(tensor)]
    if axis == "rows":
        if height != layer.P:
            raise InputError(
                "its output's rows are joined: split its channels", key=f"{layer.name}.rows"
            )
        return [(a, b, 0, channels) for a, b in _shares(height, parts)]
    if channels != layer.K:
        raise InputError(
            "its output's channels are joined: split its rows", key=f"{layer.name}.channels"
        )
    return [(0, height, a, b) for a, b in _shares(channels, parts)]


def _read(
    workload: Workload, tensor: Tensor, consumer: int, plan: Mapping[int, tuple[Axis, int]]
) -> list[Box]:
    """What of a tensor each part of a consumer reads."""
    layer = workload.layers[consumer]
    axis, parts = plan.get(consumer, ("rows", 1))
    height, _, channels = tensor.shape
    fused = consumer in tensor.fused
    found = []
    for a, b in _shares(layer.P if axis == "rows" else layer.K, parts):
        box = _whole(tensor)
        if parts > 1 and axis == "rows":
            if fused and height == layer.P:
                box = (a, b, 0, channels)
            elif not fused and height == _input_height(layer):
                low, high = _rows_touched(layer, a, b)
                box = (max(low, 0), min(high, height), 0, channels)
        elif parts > 1 and (fused or layer.groups > 1) and channels == layer.K:
            box = (0, height, a, b)
        found.append(box)
    return found


def _pieces(
    tensor: Tensor, makers: list[tuple[int, Box]], readers: list[tuple[int, bool, Box]]
) -> list[Tensor]:
    """The tensor cut where anyone's part of it begins or ends, equal fates joined."""
    boxes = [box for _, box in makers] + [box for _, _, box in readers]
    rows = sorted({edge for box in boxes for edge in box[:2]})
    columns = sorted({edge for box in boxes for edge in box[2:]})
    words: dict[tuple[int, tuple[int, ...]], int] = {}
    for cell in itertools.product(itertools.pairwise(rows), itertools.pairwise(columns)):
        (top, bottom), (left, right) = cell
        maker = next((m for m, box in makers if _inside(top, left, box)), None)
        if maker is None:
            continue
        users = tuple(sorted(n for n, _, box in readers if _inside(top, left, box)))
        if users or not readers:
            key = (maker, users)
            words[key] = words.get(key, 0) + (bottom - top) * (right - left)
    width = tensor.shape[1]
    fused = {n for n, is_fused, _ in readers if is_fused}
    single = len(words) == 1
    return [
        replace(
            tensor,
            name=tensor.name if single else f"{tensor.name}.piece{n}",
            producer=maker,
            consumers=users,
            fused=tuple(sorted(fused & set(users))),
            elements=count * width,
            shape=tensor.shape if count * width == tensor.elements else (1, width, count),
        )
        for n, ((maker, users), count) in enumerate(words.items())
    ]


def _inside(row: int, channel: int, box: Box) -> bool:
    return box[0] <= row < box[1] and box[2] <= channel < box[3]
