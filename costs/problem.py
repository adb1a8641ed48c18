"""A workload on a chip as fixed arrays: execution slots, crossing edges and cost tables.

`Problem` is the static half of the chip model; `costs.chip_cost` evaluates designs on it. A design
is three integer arrays: widths [boundaries], assignment [layers], knobs [core types, knobs].

Execution slots stand in program order: for every layer first the expand convolutions that bring
its inputs in, then the layer, then the reduce convolution that sends its output out. A slot runs
on the core of its owner: a reduce on the producer's core, an expand on the consumer's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costs.chip import Chip
from costs.layer import Layer
from costs.workload import Workload

# homes of a slot's operands: weights resident or streamed, activations on chip or in DRAM
VARIANTS = ("resident", "resident+spilled", "streamed", "streamed+spilled")
FIXED_METRICS = 5  # of a table: MAC energy, three kinds of cycles and DRAM bytes; levels beside


@dataclass(frozen=True)
class Boundary:
    """A tensor that may cross cores through a learned bottleneck. Static argument.

    Attributes:
        name: name of the boundary.
        tensor: index of the tensor in the workload.
        channels: C, the uncompressed width; width C means that no pair is present.
        positions: H*W, spatial positions of the tensor.
        bits: bits of a crossing activation.
        reduce: layer for each width 1, 2, .. of a pair, C -> w; at most C - 1 of them.
        expand: layer for each width, w -> C.
        width: the only width it may have; None: any of those, or C.
    """

    name: str
    tensor: int
    channels: int
    positions: int
    bits: int
    reduce: tuple[Layer, ...]
    expand: tuple[Layer, ...]
    width: int | None = None


@dataclass(frozen=True)
class Slot:
    """One unit of execution. `kind` is layer, reduce or expand; indices are -1 where unused."""

    kind: str
    owner: int
    row: int
    boundary: int = -1
    edge: int = -1


@dataclass(frozen=True)
class Edge:
    """Tensor `tensor` read by layer `consumer`; `fused` marks the operand of a fused addition."""

    tensor: int
    consumer: int
    fused: bool


@dataclass(frozen=True)
class Problem:
    """A workload with bottlenecks on a chip, ready to be evaluated. Static argument.

    Attributes:
        workload: layers and tensors.
        boundaries: where bottlenecks stand.
        chip: the chip.
        rows: the layers that the cost table has a row for, in order.
        slots: execution slots in order.
        edges: one per (tensor, consumer).
        levels: names of the memory levels, as in the table's metrics.
        table: [entries, metrics] float64; entry (row, hardware, variant), metric MAC energy [pJ],
            energy of each level [pJ], cycles of computation, cycles of the core's own memories,
            cycles (the largest of those two and of DRAM), DRAM bytes.
        hardware_offset: [types] first hardware point of each core type.
        global_buffer_bytes, weight_buffer_bytes, area_mm2, leakage_w: [hardware] of one core.
        buffer_read_pj, buffer_write_pj: [hardware] energy of one byte at the global buffer.
        port_bytes_per_s: [hardware] what a port of the core carries; None where all are as wide as
            the links.
    """

    workload: Workload
    boundaries: tuple[Boundary, ...]
    chip: Chip
    rows: tuple[Layer, ...]
    slots: tuple[Slot, ...]
    edges: tuple[Edge, ...]
    levels: tuple[str, ...]
    table: np.ndarray
    hardware_offset: np.ndarray
    global_buffer_bytes: np.ndarray
    weight_buffer_bytes: np.ndarray
    area_mm2: np.ndarray
    leakage_w: np.ndarray
    buffer_read_pj: np.ndarray
    buffer_write_pj: np.ndarray
    port_bytes_per_s: np.ndarray | None = None

    @property
    def largest_pairs(self) -> tuple[int, ...]:
        """Largest width of each boundary's pair."""
        return tuple(len(b.reduce) for b in self.boundaries)

    @property
    def max_widths(self) -> tuple[int, ...]:
        """Channel count of each boundary; as a width it means uncompressed."""
        return tuple(b.channels for b in self.boundaries)

    @property
    def core_types(self) -> np.ndarray:
        """[cores] index of each core's type."""
        return np.array([kind for _, kind in self.chip.cores])

    @property
    def knob_shape(self) -> np.ndarray:
        """[types, knobs] number of grid values."""
        return np.array([t.shape for t in self.chip.types])

    def slot_of_layer(self, layer: int) -> int:
        """Index of the slot that runs a layer."""
        return self.find_slots()[0][layer]

    def find_slots(self) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
        """Index of the slot of each layer, of each tensor's reduce, and of each edge's expand."""
        layer, reduce, expand = {}, {}, {}
        for i, slot in enumerate(self.slots):
            if slot.kind == "layer":
                layer[slot.owner] = i
            elif slot.kind == "reduce":
                reduce[self.boundaries[slot.boundary].tensor] = i
            else:
                expand[slot.edge] = i
        return layer, reduce, expand


def layout(
    workload: Workload, boundaries: tuple[Boundary, ...]
) -> tuple[tuple[Layer, ...], tuple[Slot, ...], tuple[Edge, ...]]:
    """Rows of the cost table, execution slots and edges of a workload with bottlenecks."""
    edges = tuple(
        Edge(number, consumer, consumer in tensor.fused)
        for number, tensor in enumerate(workload.tensors)
        for consumer in tensor.consumers
    )
    boundary_of = {b.tensor: i for i, b in enumerate(boundaries) if b.reduce}
    rows = list(workload.layers)
    first_row = {}
    for number, boundary in enumerate(boundaries):
        for kind, layers in (("reduce", boundary.reduce), ("expand", boundary.expand)):
            first_row[kind, number] = len(rows)
            rows.extend(layers)
    slots = []
    for index in range(len(workload.layers)):
        for number, edge in enumerate(edges):
            boundary = boundary_of.get(edge.tensor, -1)
            if edge.consumer == index and boundary >= 0:
                row = first_row["expand", boundary]
                slots.append(Slot("expand", index, row, boundary, number))
        slots.append(Slot("layer", index, index))
        for number, tensor in enumerate(workload.tensors):
            boundary = boundary_of.get(number, -1)
            if tensor.producer == index and boundary >= 0:
                slots.append(Slot("reduce", index, first_row["reduce", boundary], boundary))
    return tuple(rows), tuple(slots), edges
