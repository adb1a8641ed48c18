"""Reads ONNX files: the model, its batch, the shape of every array; refuses what is not whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx.reference import ReferenceEvaluator

from costs.errors import InputError

SHAPE_ARITHMETIC = frozenset(
    (
        *("Add", "Cast", "Concat", "Div", "Floor", "Gather", "Identity", "Mul", "ReduceProd"),
        *("Slice", "Squeeze", "Sub", "Unsqueeze"),
    )
)
"""What exporters compute shapes with."""
MAX_SHAPE_WORDS = 64
"""Larger arrays are no shapes."""
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
    """The model with the shapes that follow from those of its inputs.

    Inference by itself does not follow arithmetic on shapes in every version of the operators, such
    as `x.view(x.size(0), -1)` leaves; what of it is known is put in its place, until nothing is.
    """
    while True:
        try:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"its shapes cannot be inferred: {first}", file=file) from error
        if not _evaluate_shapes(model):
            return model


def _evaluate_shapes(model: onnx.ModelProto) -> bool:
    """Puts known arrays in the place of nodes that compute them; whether there were any."""
    graph, shapes = model.graph, array_shapes(model.graph)
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            known[node.output[0]] = node.attribute[0].t
    found: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or not node.input:
            continue
        inputs = [known.get(name) for name in node.input if name]
        shape = shapes.get(node.input[0])
        if node.op_type == "Shape" and not node.attribute and shape:
            value = np.array(shape, np.int64)
        elif node.op_type in SHAPE_ARITHMETIC and all(map(_is_small, inputs)):
            value = _evaluate(node, model.opset_import, [t for t in inputs if t is not None])
        else:
            continue
        if value is not None:
            name = node.output[0]
            found[name] = known[name] = onnx.numpy_helper.from_array(value, name)
    kept = [node for node in graph.node if not (node.output and node.output[0] in found)]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(found.values())
    return bool(found)


def _is_small(tensor: onnx.TensorProto | None) -> bool:
    return (
        tensor is not None
        and math.prod(tensor.dims) <= MAX_SHAPE_WORDS
        and tensor.data_location != onnx.TensorProto.EXTERNAL
    )


def _evaluate(
    node: onnx.NodeProto, opsets: Sequence[onnx.OperatorSetIdProto], inputs: Sequence[Any]
) -> np.ndarray | None:
    """What a node computes from known arrays; None where that fails."""
    names = [name for name in node.input if name]
    entries = [
        onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims)
        for name, tensor in dict(zip(names, inputs, strict=True)).items()
    ]
    result = onnx.helper.make_empty_tensor_value_info(node.output[0])
    graph = onnx.helper.make_graph([node], "shape", entries, [result])
    single = onnx.helper.make_model(graph, opset_imports=opsets)
    arrays = {n: onnx.numpy_helper.to_array(t) for n, t in zip(names, inputs, strict=True)}
    evaluator = ReferenceEvaluator(single)
    try:
        return np.asarray(next(iter(evaluator.run(None, arrays))))
    except Exception:  # a malformed node may raise anything; whoever needs its shape says so
        return None


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
                    allowed="a number: --batch 1, or batch=1 in Python",
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
