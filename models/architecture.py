"""A network as a list of named operations: the one description that is trained, slimmed, exported.

A ``Builder`` is called the way a forward pass is written; it infers shapes, registers boundaries
and makes one edge, and one gate, for each layer that reads a boundary's tensor. Images are height
x width x channels. Out of scope: weights (``models.network``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from costs.errors import InputError
from models.bottleneck import Boundary, Edge

Op = Literal[
    "input",
    "conv",
    "norm",
    "relu",
    "add",
    "max_pool",
    "subsample",
    "mean",
    "linear",
    "bottleneck",
    "gate",
    "quantise",
]

Pair = tuple[int, int]
Where = Literal["blocks", "all", "none"] | tuple[str, ...]


@dataclass(frozen=True)
class Node:
    """One operation; its output tensor bears its name.

    Attributes:
        name: Module path, such as ``stage1.block0.conv1``.
        op: What it does. ``subsample`` strides and pads channels with zeros; ``bottleneck`` gives
            the boundary's tensor as it comes out of a crossing; ``gate`` chooses, for one edge,
            between its inputs (plain, crossed).
        inputs: Names of the nodes it reads.
        shape: Output (height, width, channels); height = width = 1 after ``mean``.
        kernel: Kernel (height, width) of conv and max_pool [pixels].
        stride: (along height, along width) [pixels].
        groups: Groups of a convolution.
        bias: Whether conv or linear adds a bias.
        index: Boundary of a bottleneck, edge of a gate.
        bits: Word length of a quantiser [bits].
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: tuple[int, int, int]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    groups: int = 1
    bias: bool = False
    index: int = 0
    bits: int = 0

    @property
    def padding(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right)) [pixels]: half the kernel, as published."""
        rows, cols = (self.kernel[0] - 1) // 2, (self.kernel[1] - 1) // 2
        return (rows, rows), (cols, cols)


@dataclass(frozen=True)
class Architecture:
    """A network without weights: nodes in order of execution, the last one giving the logits.

    Attributes:
        nodes: Its operations.
        boundaries: Tensors that may cross cores.
        edges: Their readers, one gate each.
        quantise: Whether what crosses is quantised.
        modulate: Whether norms are told of the design.
    """

    nodes: tuple[Node, ...]
    boundaries: tuple[Boundary, ...] = ()
    edges: tuple[Edge, ...] = ()
    quantise: bool = True
    modulate: bool = True

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the input."""
        return self.nodes[0].shape

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(height, width, channels) of every node's output."""
        return {node.name: node.shape for node in self.nodes}


@dataclass(frozen=True)
class Tensor:
    """A builder's handle on a node's output.

    Attributes:
        name: The node.
        shape: (height, width, channels).
        layer: Name of the convolution, pooling or linear layer that produced it.
        boundary: Index of the boundary it is, or None.
        crossed: Node that gives it after a crossing.
    """

    name: str
    shape: tuple[int, int, int]
    layer: str
    boundary: int | None = None
    crossed: str = ""


@dataclass
class Builder:
    """Collects nodes; each method adds one and returns its output.

    Attributes:
        input_shape: (height, width, channels) of the input.
        bottlenecks: Which boundaries get a bottleneck: "blocks" (the outputs of stem and blocks),
            "all" (those within blocks too), "none", or names.
        bits: Word length of crossings [bits], one for all or by boundary name (8 where absent).
    """

    input_shape: tuple[int, int, int]
    bottlenecks: Where = "blocks"
    bits: int | Mapping[str, int] = 8
    nodes: list[Node] = field(default_factory=list)
    boundaries: list[Boundary] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def input(self) -> Tensor:
        """The network's input."""
        return self._add(Node("input", "input", (), self.input_shape), layer="input")

    def conv(
        self,
        name: str,
        x: Tensor,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        """A square convolution padded by half its kernel."""
        node = Node(
            name,
            "conv",
            (self._read(x, name),),
            (*_strided(x.shape, kernel, stride), channels),
            (kernel, kernel),
            (stride, stride),
            groups,
            bias,
        )
        return self._add(node, layer=name)

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Batch normalisation."""
        return self._add(Node(name, "norm", (x.name,), x.shape), layer=x.layer)

    def relu(self, name: str, x: Tensor) -> Tensor:
        """max(x, 0)."""
        return self._add(Node(name, "relu", (x.name,), x.shape), layer=x.layer)

    def add(self, name: str, x: Tensor, skip: Tensor) -> Tensor:
        """x + skip, fused into the layer that produces x."""
        node = Node(name, "add", (x.name, self._read(skip, x.layer)), x.shape)
        return self._add(node, layer=x.layer)

    def max_pool(self, name: str, x: Tensor, kernel: int, stride: int) -> Tensor:
        """Maximum over a square window padded by half its size."""
        shape = (*_strided(x.shape, kernel, stride), x.shape[2])
        node = Node(
            name, "max_pool", (self._read(x, name),), shape, (kernel, kernel), (stride, stride)
        )
        return self._add(node, layer=name)

    def subsample(self, name: str, x: Tensor, channels: int, stride: int, consumer: str) -> Tensor:
        """Parameter-free shortcut into ``consumer``: every stride-th pixel, new channels zero."""
        shape = (*_strided(x.shape, 1, stride), channels)
        node = Node(name, "subsample", (self._read(x, consumer),), shape, stride=(stride, stride))
        return self._add(node, layer=x.layer)

    def mean(self, name: str, x: Tensor) -> Tensor:
        """Mean over all pixels."""
        node = Node(name, "mean", (self._read(x, name),), (1, 1, x.shape[2]))
        return self._add(node, layer=name)

    def linear(self, name: str, x: Tensor, outputs: int, *, bias: bool = True) -> Tensor:
        """A linear layer on a tensor of one pixel."""
        node = Node(name, "linear", (self._read(x, name),), (1, 1, outputs), bias=bias)
        return self._add(node, layer=name)

    def boundary(self, name: str, x: Tensor, *, inner: bool = False) -> Tensor:
        """Declare that x may cross cores; it gets a bottleneck where the user wants one."""
        self.seen.append(name)
        if isinstance(self.bottlenecks, str):
            wanted = self.bottlenecks == "all" or (self.bottlenecks == "blocks" and not inner)
        else:
            wanted = name in self.bottlenecks
        if not wanted:
            return x
        height, width, channels = x.shape
        bits = self.bits if isinstance(self.bits, int) else self.bits.get(name, 8)
        index = len(self.boundaries)
        self.boundaries.append(Boundary(name, channels, height, width, bits, x.layer))
        self._add(Node(name, "bottleneck", (x.name,), x.shape, index=index, bits=bits), x.layer)
        return Tensor(x.name, x.shape, x.layer, index, name)

    def build(self, *, quantise: bool = True, modulate: bool = True) -> Architecture:
        """The finished architecture; a name that is no boundary of it is an input error."""
        wanted = () if isinstance(self.bottlenecks, str) else self.bottlenecks
        by_name = () if isinstance(self.bits, int) else tuple(self.bits)
        for name in (*wanted, *by_name):
            if name not in self.seen:
                raise InputError("no such boundary", value=name, allowed=self.seen)
        return Architecture(
            tuple(self.nodes), tuple(self.boundaries), tuple(self.edges), quantise, modulate
        )

    def _read(self, x: Tensor, consumer: str) -> str:
        if x.boundary is None:
            return x.name
        index = len(self.edges)
        self.edges.append(Edge(x.boundary, consumer))
        gate = f"{x.crossed}.edge{index}"
        self._add(Node(gate, "gate", (x.name, x.crossed), x.shape, index=index), x.layer)
        return gate

    def _add(self, node: Node, layer: str) -> Tensor:
        self.nodes.append(node)
        return Tensor(node.name, node.shape, layer)


def _strided(shape: tuple[int, int, int], kernel: int, stride: int) -> Pair:
    padding = 2 * ((kernel - 1) // 2)
    return (
        (shape[0] + padding - kernel) // stride + 1,
        (shape[1] + padding - kernel) // stride + 1,
    )
