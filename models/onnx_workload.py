"""An ONNX file's workload: layers and tensors of a graph with fixed shapes.

    workload = workload_of_onnx("resnet18.onnx")

Weights are never used, external ones never opened. Norms, activations and quantisers are fused as
in `models.trace`. What is known before inference (constants, shapes) costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from costs.errors import InputError
from costs.layer import Layer
from costs.workload import Workload
from models.jaxpr_layers import Found, UnsupportedError
from models.onnx_file import (
    MAX_FILE_BYTES,
    array_shapes,
    fix_batch,
    graph_inputs,
    infer_shapes,
    load_model,
)
from models.onnx_layers import (
    calc_activation_product,
    calc_convolution,
    calc_global_pool,
    calc_pool,
    calc_product,
    calc_shape,
)
from models.onnx_operators import (
    CONVOLUTIONS,
    ELEMENTWISE,
    GLOBAL_POOLS,
    MOVEMENT,
    POOLS,
    PRODUCTS,
    REDUCTIONS,
)
from models.workload_builder import GraphBuilder, Value, unique

_MAX_CONSTANT_WORDS = 4096


@dataclass(frozen=True)
class _Activation:
    """An array computed at inference; `pads` is what a Pad node just before has added."""

    value: Value
    pads: tuple[int, ...] = ()


def workload_of_onnx(
    path: str | Path,
    *,
    batch: int | None = None,
    name: str | None = None,
    weight_bits: int = 8,
    activation_bits: int = 8,
    psum_bits: int = 32,
    pooling: str = "layers",
    max_bytes: int = MAX_FILE_BYTES,
) -> Workload:
    """The layers and tensors of an ONNX graph.

    Args:
        path: The file.
        batch: Takes the place of a batch axis that the file leaves open.
        name: Of the workload; by default the file's stem.
        weight_bits: Width of every weight [bit].
        activation_bits: Width of every tensor between layers [bit].
        psum_bits: Width of partial sums [bit].
        pooling: "layers" makes each pooling a layer of its own, "fused" lets the layer before it
            hand on the pooled tensor.
        max_bytes: Larger files are refused [byte].

    Raises:
        InputError: The file is no ONNX model, leaves shapes open or has an operator that is not
            understood.
    """
    if pooling not in ("layers", "fused"):
        raise InputError(key="pooling", value=pooling, allowed=("layers", "fused"))
    file = str(path)
    model = load_model(Path(path), max_bytes)
    images = fix_batch(model.graph, file, batch)
    model = infer_shapes(model, file)
    shapes = array_shapes(model.graph)
    builder = GraphBuilder(bits=activation_bits, batch=images)
    reader = _Reader(file, model.graph, shapes, builder, weight_bits, psum_bits, pooling)
    return reader.read(name or Path(path).stem)


@dataclass
class _Reader:
    """Follows a graph's nodes and announces its layers to a builder."""

    file: str
    graph: onnx.GraphProto
    shapes: dict[str, tuple[int, ...] | None]
    builder: GraphBuilder
    weight_bits: int
    psum_bits: int
    pooling: str
    activations: dict[str, _Activation] = field(default_factory=dict)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def read(self, name: str) -> Workload:
        """The workload of all nodes."""
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        for entry in graph_inputs(self.graph):
            shape = calc_shape(self._shape(entry.name), self.builder.batch)
            self.activations[entry.name] = _Activation(self.builder.input(shape))
        for node in self.graph.node:
            try:
                results = self._node(node)
            except UnsupportedError as error:
                raise self._refused(node, f"{error} is not understood") from error
            except InputError:
                raise
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise self._refused(node, f"is malformed: {error!r}") from error
            self.activations.update(zip(node.output, results, strict=False))
        for entry in self.graph.output:
            if entry.name in self.activations:
                self.builder.output(self.activations[entry.name].value)
        return self.builder.finish(name, self.names)

    def _node(self, node: onnx.NodeProto) -> list[_Activation]:
        """What a node's outputs are; nothing where they are known before inference."""
        operator = (
            node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        )
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if operator == "Constant" and "value" in attributes:
            self.constants[node.output[0]] = attributes["value"]
        read = [name for name in node.input if name in self.activations]
        if not read or operator in ("Shape", "Size"):
            return []
        if operator in ELEMENTWISE:
            return [self._join(node, read)]
        first = self.activations.get(node.input[0])
        if first is None and operator == "MatMul":
            return [self._transposed_product(node)]
        if operator == "Concat":
            return [
                _Activation(self.builder.concatenate([self.activations[n].value for n in read]))
            ]
        if first is None or (len(read) > 1 and operator not in PRODUCTS | CONVOLUTIONS.keys()):
            raise self._refused(node, f"operator '{operator}' of these operands is not understood")
        if operator in CONVOLUTIONS:
            return [self._convolution(node, attributes, first, CONVOLUTIONS[operator])]
        if operator in PRODUCTS:
            return [self._product(node, attributes, first, PRODUCTS[operator])]
        if operator in POOLS or operator in GLOBAL_POOLS or operator in REDUCTIONS:
            return [self._pool(node, operator, attributes, first)]
        if operator == "Pad":
            return [_Activation(first.value, self._pads(node, attributes))]
        if operator == "Split":
            return self._split(node, attributes, first)
        if operator == "Slice":
            return [self._slice(node, attributes, first)]
        if operator in MOVEMENT:
            return [_Activation(first.value)] * len(node.output)
        raise self._refused(node, f"operator '{operator}' is not understood")

    def _join(self, node: onnx.NodeProto, read: Sequence[str]) -> _Activation:
        values = [self.activations[name].value for name in read]
        if len(values) == 1:
            return _Activation(values[0])
        sizes = [math.prod(calc_shape(self._shape(n), self.builder.batch)) for n in read]
        shape = calc_shape(self._shape(node.output[0]), self.builder.batch)
        return _Activation(self.builder.join(values, sizes, shape))

    def _convolution(
        self, node: onnx.NodeProto, attributes: dict[str, Any], data: _Activation, weights: int
    ) -> _Activation:
        kernel = node.input[weights]
        found = calc_convolution(
            attributes,
            self._shape(node.input[0]),
            self._shape(kernel),
            self._shape(node.output[0]),
            data.pads,
        )
        reads = [data.value]
        if kernel in self.activations:
            reads.append(self.activations[kernel].value)
        return self._layer(node, found, reads)

    def _product(
        self, node: onnx.NodeProto, attributes: dict[str, Any], data: _Activation, weights: int
    ) -> _Activation:
        left, right = list(self._shape(node.input[0])), list(self._shape(node.input[weights]))
        if attributes.get("transA"):
            left.reverse()
        if attributes.get("transB"):
            right.reverse()
        if len(right) < 2:
            right = [*right, 1]
        operand = self.activations.get(node.input[weights])
        if operand is None:
            found = calc_product(left, right, self.builder.batch)
            return self._layer(node, found, [data.value])
        result = self._shape(node.output[0])
        found = calc_activation_product(left, right, result, self.builder.batch)
        return self._layer(node, found, [data.value, operand.value])

    def _transposed_product(self, node: onnx.NodeProto) -> _Activation:
        """Known weights times data, read as the data's transpose times theirs."""
        weights, data = (list(self._shape(name)) for name in node.input)
        for shape in (weights, data):
            shape[-2:] = reversed(shape[-2:])
        found = calc_product(data, weights, self.builder.batch)
        return self._layer(node, found, [self.activations[node.input[1]].value])

    def _pool(
        self, node: onnx.NodeProto, operator: str, attributes: dict[str, Any], data: _Activation
    ) -> _Activation:
        shape = self._shape(node.input[0])
        if operator in POOLS:
            found = calc_pool(attributes, shape, self._shape(node.output[0]), data.pads)
        elif operator in REDUCTIONS and not self._reduces_positions(node, attributes, shape):
            return _Activation(data.value)
        else:
            found = calc_global_pool(shape)
        if self.pooling == "fused":
            return _Activation(self.builder.resized(data.value, *found.shape[:2]))
        return self._layer(node, found, [data.value])

    def _reduces_positions(
        self, node: onnx.NodeProto, attributes: dict[str, Any], shape: Sequence[int]
    ) -> bool:
        """Whether a reduction is global pooling; others are elementwise work."""
        axes = attributes.get("axes") or self._constant(node, 1)
        return axes is not None and sorted(a % len(shape) for a in axes) == list(
            range(2, len(shape))
        )

    def _split(
        self, node: onnx.NodeProto, attributes: dict[str, Any], data: _Activation
    ) -> list[_Activation]:
        shape = self._shape(node.input[0])
        axis = attributes.get("axis", 0) % len(shape)
        results, start = [], 0
        for output in node.output:
            stop = start + self._shape(output)[axis]
            results.append(self._channels(data, shape, axis, start, stop))
            start = stop
        return results

    def _slice(
        self, node: onnx.NodeProto, attributes: dict[str, Any], data: _Activation
    ) -> _Activation:
        shape = self._shape(node.input[0])
        starts, ends = (
            attributes.get(key) or self._constant(node, index)
            for index, key in enumerate(("starts", "ends"), start=1)
        )
        axes = attributes.get("axes") or self._constant(node, 3)
        steps = self._constant(node, 4)
        if (
            starts is None
            or ends is None
            or len(starts) != 1
            or axes is None
            or steps not in (None, [1])
        ):
            return _Activation(data.value)
        axis = axes[0] % len(shape)
        start, stop, _ = slice(starts[0], ends[0]).indices(shape[axis])
        return self._channels(data, shape, axis, start, stop)

    def _channels(
        self, data: _Activation, shape: Sequence[int], axis: int, start: int, stop: int
    ) -> _Activation:
        """A range of channels; ranges of other axes are the whole tensor."""
        if axis != (1 if len(shape) == 4 else len(shape) - 1):
            return _Activation(data.value)
        return _Activation(self.builder.channels(data.value, start, stop, shape[axis]))

    def _pads(self, node: onnx.NodeProto, attributes: dict[str, Any]) -> tuple[int, ...]:
        pads = attributes.get("pads") or self._constant(node, 1)
        rank = len(self._shape(node.input[0]))
        simple = pads is not None and len(pads) == 2 * rank and min(pads) >= 0
        return tuple(pads) if pads is not None and simple else ()

    def _layer(self, node: onnx.NodeProto, found: Found, reads: list[Value]) -> _Activation:
        dynamic = len(reads) > 1
        layer = Layer(
            name=f"layer {len(self.names)}",
            bits_w=self.builder.bits if dynamic else self.weight_bits,
            bits_i=self.builder.bits,
            bits_o=self.builder.bits,
            bits_psum=self.psum_bits,
            **found.fields,
        )
        self.names.append(unique(node.name or f"{node.op_type}_{node.output[0]}", self.taken))
        return _Activation(self.builder.layer(layer, reads, found.shape, dynamic_weights=dynamic))

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self.constants:
            return tuple(self.constants[name].dims)
        shape = self.shapes.get(name)
        if shape is None:
            raise InputError(
                "its shape is not known, and shape inference does not find it",
                file=self.file,
                key=f"tensor {name}",
                allowed="fixed shapes: run onnx.shape_inference.infer_shapes on the model, with"
                " every input's shape fixed, and save the result",
            )
        return shape

    def _constant(self, node: onnx.NodeProto, index: int) -> list[int] | None:
        """A small integer operand that stands in the file, None where it does not."""
        if index >= len(node.input) or node.input[index] not in self.constants:
            return None
        tensor = self.constants[node.input[index]]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        if math.prod(tensor.dims) > _MAX_CONSTANT_WORDS:
            return None
        return [int(n) for n in np.atleast_1d(onnx.numpy_helper.to_array(tensor)).ravel()]

    def _refused(self, node: onnx.NodeProto, reason: str) -> InputError:
        return InputError(
            reason,
            file=self.file,
            key=f"node {node.name or list(node.output)}",
            value=node.op_type,
            allowed="convolutions, products, pooling, elementwise operators, reshapes, slices and"
            " concatenations",
        )
