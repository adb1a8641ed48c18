"""Reads ONNX files: the model, its batch, the shape of every array; refuses what is not whole."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from costs.errors import InputError

MAX_FILE_BYTES = 2**31 - 1
"""Larger files are refused: a protocol buffer cannot be larger [byte]."""


def load_model(path: Path, max_bytes: int) -> onnx.ModelProto:
    """The model in a file of at most `max_bytes` [byte], external weights left where they are."""
    if not path.is_file():
        raise InputError("no such file", file=path)
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError("the file is too large", file=path, value=size, allowed=max_bytes)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise InputError("is not an ONNX model", file=path) from error
    if not model.graph.node:
        raise InputError("holds no graph", file=path)
    return model


def infer_shapes(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """The model with the shapes that follow from those of its inputs."""
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"its shapes cannot be inferred: {first}", file=file) from error


def graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not weights (older files list those too)."""
    weights = {tensor.name for tensor in graph.initializer}
    return [entry for entry in graph.input if entry.name not in weights]


def fix_batch(graph: onnx.GraphProto, file: str, batch: int | None) -> int:
    """Puts `batch` on open batch axes; returns the number of inferences per execution."""
    found = batch or 1
    for entry in graph_inputs(graph):
        dims = entry.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            open_name = dim.dim_param or "?"
            if axis > 0:
                raise InputError(
                    "an axis of the input is left open",
                    file=file,
                    key=f"input {entry.name}, axis {axis}",
                    value=open_name,
                    allowed="a fixed size: save the model with this axis fixed",
                )
            if batch is None:
                raise InputError(
                    "the batch is left open",
                    file=file,
                    key="batch",
                    value=f"{open_name} in input {entry.name}",
                    allowed="a number, such as batch=1",
                )
            _fix(graph, dim.dim_param, batch)
            dim.dim_value = batch
        if dims:
            found = dims[0].dim_value
    if batch is not None and found != batch:
        raise InputError(
            "the file fixes the batch", file=file, key="batch", value=batch, allowed=found
        )
    return found


def array_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...] | None]:
    """Shape of every array with its name; None where it is open."""
    entries: Iterable[onnx.ValueInfoProto] = [*graph.input, *graph.value_info, *graph.output]
    shapes: dict[str, tuple[int, ...] | None] = {}
    for entry in entries:
        kind = entry.type.tensor_type
        sizes = [dim.dim_value for dim in kind.shape.dim]
        known = kind.HasField("shape") and all(size > 0 for size in sizes)
        shapes[entry.name] = tuple(sizes) if known else shapes.get(entry.name)
    return shapes


def _fix(graph: onnx.GraphProto, open_name: str, size: int) -> None:
    """Gives an axis that is open under a name its size wherever else the name stands."""
    for entry in (*graph.value_info, *graph.output):
        for dim in entry.type.tensor_type.shape.dim:
            if open_name and dim.dim_param == open_name:
                dim.dim_value = size
