"""A slim network as ONNX, operation by operation, the way ZigZag, Stream and onnxruntime all read.

NCHW tensors; convolutions carry kernel_shape, pads, strides, dilations and group; every node and
tensor is named after the operation of the network; the shape of every tensor is in the file. The
quantiser of a crossing becomes Div, Clip, Round, Mul: exactly the network's arithmetic at any word
length, which QuantizeLinear is not (its range is asymmetric).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.architecture import Architecture, Node
from models.norm import EPSILON

Arrays = Mapping[str, Any]  # flat name -> array

OPSET = 17
IR_VERSION = 8  # of the same release, so that older runtimes read the file too
INPUT, OUTPUT = "input", "logits"


def without_quantisers(architecture: Architecture) -> Architecture:
    """The same operations with what crosses between cores left unquantised."""
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    for node in architecture.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if node.op == "quantise":
            renamed[node.name] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    return replace(architecture, nodes=tuple(nodes), quantise=False)


def to_onnx(
    architecture: Architecture,
    params: Arrays,
    stats: Arrays,
    *,
    name: str,
    batch: int | None = None,
) -> onnx.ModelProto:
    """The ONNX model of a slim network.

    Args:
        architecture: Operations without gates and bottlenecks, norms folded or not.
        params: Its weights by flat name; kernels are [rows, columns, inputs, outputs].
        stats: Its statistics by flat name.
        name: Name of the graph.
        batch: Size of the first axis; None leaves it open as ``batch``.

    Returns:
        A model that has passed the full checker and strict shape inference; its input is
        f32[batch, channels, height, width], its output f32[batch, classes].
    """
    graph = _Graph({**params, **stats}, architecture.shapes)
    for node in architecture.nodes:
        graph.add(node)
    height, width, channels = architecture.input_shape
    first = "batch" if batch is None else batch
    last = architecture.nodes[-1]
    made = helper.make_graph(
        graph.nodes,
        name,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [first, channels, height, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [first, last.shape[2]])],
        [numpy_helper.from_array(array, key) for key, array in graph.constants.items()],
    )
    _rename_output(made, graph.value_of[last.name])
    model = helper.make_model(
        made,
        producer_name="narrows",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    model = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The file's content, the same bytes for the same model."""
    return model.SerializeToString(deterministic=True)


@dataclass
class _Graph:
    """Nodes and constants collected in order of execution."""

    arrays: Arrays
    shapes: Mapping[str, tuple[int, int, int]]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    value_of: dict[str, str] = field(
        default_factory=dict
    )  # operation -> tensor that holds its result
    flat: set[str] = field(default_factory=set)  # operations whose result has two axes

    def add(self, node: Node) -> None:
        """Append one operation of the network."""
        getattr(self, f"_{node.op}", self._refuse)(node)
        if any(source in self.flat for source in node.inputs):
            self.flat.add(node.name)

    def _refuse(self, node: Node) -> None:
        raise ValueError(f"{node.name}: a slim network has no {node.op}")

    def _input(self, node: Node) -> None:
        self.value_of[node.name] = INPUT

    def _conv(self, node: Node) -> None:
        kernel = self._array(f"{node.name}.kernel").transpose(3, 2, 0, 1)
        inputs = [self._read(node), self._constant(f"{node.name}.kernel", kernel)]
        if node.bias:
            inputs.append(self._constant(f"{node.name}.bias", self._array(f"{node.name}.bias")))
        (top, bottom), (left, right) = node.padding
        self._emit(
            node,
            "Conv",
            inputs,
            kernel_shape=list(node.kernel),
            pads=[top, left, bottom, right],
            strides=list(node.stride),
            dilations=[1, 1],
            group=node.groups,
        )

    def _linear(self, node: Node) -> None:
        source = self._read(node)
        if node.inputs[0] not in self.flat:
            source = self._emit_as(f"{node.name}.flatten", "Flatten", [source], axis=1)
        kernel = self._array(f"{node.name}.kernel").T
        inputs = [source, self._constant(f"{node.name}.kernel", kernel)]
        if node.bias:
            inputs.append(self._constant(f"{node.name}.bias", self._array(f"{node.name}.bias")))
        self._emit(node, "Gemm", inputs, alpha=1.0, beta=1.0, transA=0, transB=1)
        self.flat.add(node.name)

    def _norm(self, node: Node) -> None:
        """A norm that no convolution stands before, so that it could not be folded."""
        parts = [f"{node.name}.{part}" for part in ("scale", "bias", "mean", "var")]
        inputs = [self._constant(part, self._array(part)) for part in parts]
        self._emit(node, "BatchNormalization", [self._read(node), *inputs], epsilon=EPSILON)

    def _relu(self, node: Node) -> None:
        self._emit(node, "Relu", [self._read(node)])

    def _add(self, node: Node) -> None:
        self._emit(node, "Add", [self._read(node), self._read(node, 1)])

    def _mean(self, node: Node) -> None:
        self._emit(node, "GlobalAveragePool", [self._read(node)])

    def _max_pool(self, node: Node) -> None:
        (top, bottom), (left, right) = node.padding
        self._emit(
            node,
            "MaxPool",
            [self._read(node)],
            kernel_shape=list(node.kernel),
            pads=[top, left, bottom, right],
            strides=list(node.stride),
            dilations=[1, 1],
            ceil_mode=0,
        )

    def _subsample(self, node: Node) -> None:
        """Every stride-th pixel, then channels of zeros."""
        height, width, channels = self.shapes[node.inputs[0]]
        ranges = {
            "starts": [0, 0],
            "ends": [height, width],
            "axes": [2, 3],
            "steps": list(node.stride),
        }
        inputs = [
            self._constant(f"{node.name}.{key}", np.array(value, np.int64))
            for key, value in ranges.items()
        ]
        kept = self._emit_as(f"{node.name}.slice", "Slice", [self._read(node), *inputs])
        pads = [0, 0, 0, 0, 0, node.shape[2] - channels, 0, 0]
        amounts = self._constant(f"{node.name}.pads", np.array(pads, np.int64))
        self._emit(node, "Pad", [kept, amounts], mode="constant")

    def _quantise(self, node: Node) -> None:
        levels = np.float32(2.0 ** (node.bits - 1) - 1)
        largest = np.maximum(self._array(f"{node.name}.range"), np.float32(1e-12))
        step = self._constant(f"{node.name}.step", np.float32(largest / levels))
        low, high = (
            self._constant(f"{node.name}.{end}", value)
            for end, value in (("low", -levels), ("high", levels))
        )
        scaled = self._emit_as(f"{node.name}.scaled", "Div", [self._read(node), step])
        clipped = self._emit_as(f"{node.name}.clipped", "Clip", [scaled, low, high])
        rounded = self._emit_as(f"{node.name}.rounded", "Round", [clipped])
        self._emit(node, "Mul", [rounded, step])

    def _read(self, node: Node, which: int = 0) -> str:
        return self.value_of[node.inputs[which]]

    def _array(self, key: str) -> np.ndarray:
        return np.asarray(self.arrays[key], np.float32)

    def _constant(self, key: str, value: np.ndarray | np.generic) -> str:
        self.constants[key] = np.ascontiguousarray(value).reshape(np.shape(value))
        return key

    def _emit(self, node: Node, op: str, inputs: Sequence[str], **attributes: Any) -> None:
        self.value_of[node.name] = self._emit_as(node.name, op, inputs, **attributes)

    def _emit_as(self, name: str, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"


def _rename_output(graph: onnx.GraphProto, tensor: str) -> None:
    """Let the last tensor bear the name of the graph's output wherever it stands."""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, found in enumerate(names):
                if found == tensor:
                    names[place] = OUTPUT
