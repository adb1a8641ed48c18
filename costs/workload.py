"""A workload: the layers of a network in execution order and the tensors that pass between them.

A tensor is what one layer hands on, counted once however many layers read it. Elementwise work
(norms, activations, additions, quantisers) is fused into layers and moves nothing of its own: the
layer that produces the later operand of an addition also reads the earlier one, so a residual
connection is one more consumer of the tensor it carries. Whoever reads a concatenation reads each
of its parts, so a dense connection is one more consumer of each part.

Out of scope: how a network becomes a workload (`models.trace`, `models.onnx_workload`) and what
it costs on a chip (`costs.chip`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from costs.errors import InputError
from costs.layer import Layer

NETWORK_INPUT = -1
"""The producer of the tensors that enter the network from outside."""


@dataclass(frozen=True)
class Tensor:
    """One feature map between layers.

    Attributes:
        name: Unique in the workload; the producing layer's name, with a suffix where that layer
            hands on several tensors.
        producer: Index of the layer that writes it, `NETWORK_INPUT` for the network's input.
        consumers: Indices of the layers that read it, ascending; each is after the producer.
        elements: Words per inference [1], `H * W * C`.
        bits: Width of one word [bit].
        shape: Height, width and channels per inference.
        boundary: The bottleneck boundary it crosses, None where there is none.
        output: Whether it leaves the network.
        fused: The consumers that read it as the other operand of a fused elementwise operation (the
            skip of a residual addition), not as the input of their loop nest.
    """

    name: str
    producer: int
    consumers: tuple[int, ...]
    elements: int
    bits: int
    shape: tuple[int, int, int]
    boundary: str | None = None
    output: bool = False
    fused: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check what can be checked without the layers."""
        if self.elements < 1 or self.elements != math.prod(self.shape):
            raise InputError(
                "elements are not height * width * channels",
                key=f"tensor {self.name}",
                value=self.elements,
                allowed=f"{math.prod(self.shape)} for {self.shape}",
            )
        if self.bits < 1:
            raise InputError(key=f"tensor {self.name}.bits", value=self.bits, allowed="1 or more")
        if list(self.consumers) != sorted(set(self.consumers)):
            raise InputError(
                key=f"tensor {self.name}.consumers", value=self.consumers, allowed="ascending"
            )
        if not set(self.fused) <= set(self.consumers):
            raise InputError(
                key=f"tensor {self.name}.fused", value=self.fused, allowed=self.consumers
            )
        if self.consumers and self.consumers[0] <= self.producer:
            raise InputError(
                "a tensor is read before it is written",
                key=f"tensor {self.name}",
                value=self.consumers,
                allowed=f"layers after {self.producer}",
            )

    @property
    def bytes(self) -> float:
        """Size per inference [byte], fractional where the words do not fill the last one."""
        return self.elements * self.bits / 8


@dataclass(frozen=True)
class Workload:
    """The layers of a network in execution order and the tensors between them.

    Attributes:
        name: Of the network.
        layers: In an order in which they can be executed.
        tensors: What each layer reads and writes; a tensor nobody reads leaves the network.
        batch: Inferences that one execution of the layers computes; it is every layer's N, apart
            from products of two activations, where it is part of the groups.
        dynamic_weights: Indices of the layers whose W operand is itself an activation (attention):
            nothing of them is stored between inferences.
    """

    name: str
    layers: tuple[Layer, ...]
    tensors: tuple[Tensor, ...]
    batch: int = 1
    dynamic_weights: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Check that layers and tensors form one graph in execution order."""
        if not self.layers:
            raise InputError("a workload needs at least one layer", key=self.name)
        _check_unique(self.name, "layers", [layer.name for layer in self.layers])
        _check_unique(self.name, "tensors", [tensor.name for tensor in self.tensors])
        known = range(NETWORK_INPUT, len(self.layers))
        for tensor in self.tensors:
            for index in (tensor.producer, *tensor.consumers):
                if index not in known:
                    raise InputError(
                        "no such layer",
                        key=f"{self.name}: tensor {tensor.name}",
                        value=index,
                        allowed=f"{NETWORK_INPUT} to {len(self.layers) - 1}",
                    )
        for index, layer in enumerate(self.layers):
            if not self.inputs_of(index):
                raise InputError("reads no tensor", key=f"{self.name}: layer {layer.name}")
            if not self.outputs_of(index):
                raise InputError("writes no tensor", key=f"{self.name}: layer {layer.name}")

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one execution, all inferences of the batch together [1]."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_bytes(self) -> tuple[float, ...]:
        """Stored weights of each layer [byte]; zero where a layer has none."""
        return tuple(
            0.0 if index in self.dynamic_weights else layer.bytes("W")
            for index, layer in enumerate(self.layers)
        )

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that leave the network."""
        return tuple(tensor for tensor in self.tensors if tensor.output or not tensor.consumers)

    def inputs_of(self, layer: int) -> tuple[int, ...]:
        """Indices of the tensors that a layer reads."""
        return tuple(i for i, tensor in enumerate(self.tensors) if layer in tensor.consumers)

    def outputs_of(self, layer: int) -> tuple[int, ...]:
        """Indices of the tensors that a layer writes."""
        return tuple(i for i, tensor in enumerate(self.tensors) if layer == tensor.producer)

    def index(self, layer_name: str) -> int:
        """The index of a layer by its name; a clear error where there is none."""
        for index, layer in enumerate(self.layers):
            if layer.name == layer_name:
                return index
        raise InputError(
            "no such layer",
            key=self.name,
            value=layer_name,
            allowed=[layer.name for layer in self.layers],
        )

    def edges(self) -> Iterator[tuple[int, int, Tensor]]:
        """Each (producer, consumer, tensor) once, in the order of the tensors."""
        for tensor in self.tensors:
            for consumer in tensor.consumers:
                yield tensor.producer, consumer, tensor

    def with_boundaries(self, boundaries: Mapping[str, str]) -> Workload:
        """The same workload with boundaries put on tensors.

        Args:
            boundaries: The boundary's name by the tensor's name.
        """
        unknown = sorted(set(boundaries) - {tensor.name for tensor in self.tensors})
        if unknown:
            raise InputError(
                "no such tensor",
                key=self.name,
                value=unknown[0],
                allowed=[tensor.name for tensor in self.tensors],
            )
        tensors = tuple(
            replace(tensor, boundary=boundaries.get(tensor.name, tensor.boundary))
            for tensor in self.tensors
        )
        return replace(self, tensors=tensors)

    def drawn(self) -> str:
        """The graph in Graphviz' dot language, layers as boxes and tensors as labelled edges."""
        lines = [
            f'digraph "{self.name}" {{',
            "  node [shape=box];",
            '  input [shape=plain, label="input"];',
        ]
        for index, layer in enumerate(self.layers):
            lines.append(f'  layer{index} [label="{layer.name}\\n{layer.macs:,} MACs"];')
        for producer, consumer, tensor in self.edges():
            source = "input" if producer == NETWORK_INPUT else f"layer{producer}"
            height, width, channels = tensor.shape
            label = f"{height}x{width}x{channels}"
            if tensor.boundary is not None:
                label += f"\\n{tensor.boundary}"
            lines.append(f'  {source} -> layer{consumer} [label="{label}"];')
        return "\n".join([*lines, "}"])


def _check_unique(workload: str, what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError("two have the same name", key=f"{workload}: {what}", value=repeated[0])
