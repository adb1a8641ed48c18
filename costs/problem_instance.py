"""The assignment problem that is left of a workload on a chip when widths and hardware are fixed.

`instance_of` gives every layer the operands' homes that it has where memories are not crowded:
weights resident if the buffer holds them, activations on chip if the layer's own do fit. Its costs
then equal those of `costs.chip_cost` for every assignment that crowds no memory. `list_homes` gives
every choice of homes that some assignment can lead to, from which follow lower bounds for all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.chip_cost import calc_hardware
from costs.problem import VARIANTS, Problem, Slot

SPILLED = tuple("spilled" in variant for variant in VARIANTS)
RESIDENT = tuple("resident" in variant for variant in VARIANTS)


def instance_of(problem: Problem, widths: np.ndarray, knobs: np.ndarray) -> AssignmentInstance:
    """The instance of a problem at integer widths [boundaries] and knobs [types, knobs].

    Raises:
        InputError: if a layer fits no core.
    """
    return _instance(problem, widths, knobs, _first)


def list_homes(
    problem: Problem, widths: np.ndarray, knobs: np.ndarray
) -> tuple[AssignmentInstance, tuple[CoreCosts, ...]]:
    """An instance whose transfers cost the least they can, and the layers' costs by their homes.

    Homes that no assignment leads to are infinite. The cheapest choice of homes costs at most what
    `costs.chip_cost` finds for the same assignment: it need not follow the order in which weights
    claim a buffer, and what a spilled tensor moves beside its layers' mappings is left out.
    """
    return _instance(problem, widths, knobs, _least), _Costs(problem, widths, knobs).homes()


def _instance(
    problem: Problem, widths: np.ndarray, knobs: np.ndarray, choose
) -> AssignmentInstance:
    costs = _Costs(problem, widths, knobs)
    chip, tensors = problem.chip, problem.workload.tensors
    numbers = [n for n, t in enumerate(tensors) if t.producer >= 0 and t.consumers]
    route, _ = chip.routes()
    leakage_w = float(problem.leakage_w[costs.hardware].sum())
    layers = _stack([_first(row) for row in costs.layer_rows()])
    return AssignmentInstance(
        name=f"{problem.workload.name} on {chip.name}",
        layers=layers,
        producer=np.array([tensors[n].producer for n in numbers], int),
        consumers=tuple(tensors[n].consumers for n in numbers),
        tensor_bytes=np.array([costs.crossing(n) for n in numbers], float),
        send=_stack([costs.transfer(n, "reduce", choose) for n in numbers], len(chip.cores)),
        receive=_stack([costs.transfer(n, "expand", choose) for n in numbers], len(chip.cores)),
        route=route.astype(bool),
        bandwidth_bytes_per_s=np.array([k.bandwidth_bytes_per_s for k in chip.links], float),
        link_pj_per_byte=np.array([8.0 * k.energy_pj_per_bit for k in chip.links], float),
        capacity_bytes=problem.weight_buffer_bytes[costs.hardware].astype(float),
        dram_bandwidth_bytes_per_s=chip.dram_bandwidth_bytes_per_s,
        idle_power_w=chip.idle_power_w + leakage_w,
    )


@dataclass(frozen=True)
class _Costs:
    """Looks up what slots cost at fixed widths and hardware."""

    problem: Problem
    widths: np.ndarray
    knobs: np.ndarray

    @property
    def hardware(self) -> np.ndarray:
        """[cores] hardware point."""
        return calc_hardware(self.problem, np.asarray(self.knobs)[..., None], np)[:, 0]

    def crossing(self, tensor: int) -> float:
        """Bytes of a tensor that crosses [bytes]."""
        for number, boundary in enumerate(self.problem.boundaries):
            if boundary.tensor == tensor:
                return boundary.positions * float(self.widths[number]) * boundary.bits / 8.0
        return self.problem.workload.tensors[tensor].bytes

    def homes(self) -> tuple[CoreCosts, ...]:
        """Costs of the layers by variant."""
        rows = self.layer_rows()
        return tuple(_stack([row[v] for row in rows]) for v in range(len(VARIANTS)))

    def layer_rows(self) -> list[list[CoreCosts]]:
        """For each layer and variant its costs [1, cores]; infinite where it cannot come about."""
        return [
            [self._layer(layer, v) for v in range(len(VARIANTS))]
            for layer in range(len(self.problem.workload.layers))
        ]

    def _layer(self, layer: int, variant: int) -> CoreCosts:
        problem, tensors = self.problem, self.problem.workload.tensors
        slot = problem.slots[problem.slot_of_layer(layer)]
        found = self._slot(slot, slot.row, problem.rows[slot.row].bytes("W"), variant)
        own = sum(t.bytes for t in tensors if t.producer == layer or layer in t.consumers)
        most = sum(
            t.bytes
            for t in tensors
            if t.producer == layer
            or (t.producer <= layer and max(t.consumers, default=-1) >= layer)
        )
        room = problem.global_buffer_bytes[self.hardware]
        possible = most > room if SPILLED[variant] else own <= room
        if not RESIDENT[variant]:
            weights = slot_weights(problem, self.widths)
            buffer = problem.weight_buffer_bytes[self.hardware]
            possible = possible & (weights.sum() > buffer)
        dram, pj = 0.0, np.zeros(len(self.hardware))
        for tensor in tensors:
            outside, reads = tensor.producer < 0, layer in tensor.consumers
            fused = layer in tensor.fused
            if SPILLED[variant]:
                dram += tensor.bytes if reads and fused else 0.0
            else:
                dram += tensor.bytes if reads and outside else 0.0
                dram += tensor.bytes if tensor.producer == layer and not tensor.consumers else 0.0
                if reads and outside:
                    pj = pj + tensor.bytes * problem.buffer_write_pj[self.hardware]
                elif reads and fused:
                    pj = pj + tensor.bytes * problem.buffer_read_pj[self.hardware]
        pj = pj + dram * 8.0 * problem.chip.dram_energy_pj_per_bit
        return replace(
            found,
            time_s=np.where(possible, found.time_s, np.inf),
            energy_pj=found.energy_pj + pj,
            dram_bytes=found.dram_bytes + dram,
        )

    def transfer(self, tensor: int, kind: str, choose) -> CoreCosts:
        """[1, cores] of sending (`reduce`) or receiving (`expand`) a tensor."""
        problem, hardware = self.problem, self.hardware
        byte_pj = problem.buffer_read_pj if kind == "reduce" else problem.buffer_write_pj
        moved = CoreCosts.of(
            np.zeros((1, len(hardware))), self.crossing(tensor) * byte_pj[hardware][None]
        )
        for number, boundary in enumerate(problem.boundaries):
            if boundary.tensor != tensor or self.widths[number] >= boundary.channels:
                continue
            width = int(self.widths[number])
            slot = next(s for s in problem.slots if s.kind == kind and s.boundary == number)
            weights = problem.rows[slot.row].bytes("W") * width
            pair = choose([self._slot(slot, slot.row + width - 1, weights, v) for v in range(4)])
            moved = replace(pair, energy_pj=pair.energy_pj + moved.energy_pj)
        return moved

    def _slot(self, slot: Slot, row: int, weights: float, variant: int) -> CoreCosts:
        """[1, cores] table entries of one variant."""
        problem, hardware = self.problem, self.hardware
        values = problem.table[(row * len(problem.area_mm2) + hardware) * len(VARIANTS) + variant]
        clock_hz = np.array([t.core.clock_hz for t in problem.chip.types])[problem.core_types]
        energy = values[:, : 1 + len(problem.levels)].sum(axis=1)
        finite = np.isfinite(values).all(axis=1)
        kept = weights if RESIDENT[variant] else 0.0
        finite = finite & (kept <= problem.weight_buffer_bytes[hardware])
        return CoreCosts(
            np.where(finite, values[:, -2] / clock_hz, np.inf)[None],
            np.where(finite, energy, 0.0)[None],
            np.where(finite, values[:, -1], 0.0)[None],
            np.full((1, len(hardware)), kept),
        )


def slot_weights(problem: Problem, widths: np.ndarray) -> np.ndarray:
    """[slots] weights of every slot, were it present [bytes]."""
    found = []
    for slot in problem.slots:
        width = 1
        if slot.boundary >= 0:
            boundary = problem.boundaries[slot.boundary]
            width = int(widths[slot.boundary]) * (widths[slot.boundary] < boundary.channels)
        found.append(problem.rows[slot.row].bytes("W") * width)
    return np.array(found)


def _first(variants: list[CoreCosts]) -> CoreCosts:
    """[1, cores] the first variant that is possible on each core."""
    order = (0, 2, 1, 3)  # on chip before spilled
    finite = np.stack([np.isfinite(variants[v].time_s[0]) for v in order])
    pick = np.array(order)[finite.argmax(axis=0)]
    core = np.arange(finite.shape[1])
    return CoreCosts(
        *(
            np.stack([getattr(v, name)[0] for v in variants])[pick, core][None]
            for name in CoreCosts.__dataclass_fields__
        )
    )


def _least(variants: list[CoreCosts]) -> CoreCosts:
    """[1, cores] the least of every cost over the variants; no weights, which may stream."""
    finite = [np.isfinite(v.time_s) for v in variants]
    least = {
        name: np.min(
            [np.where(f, getattr(v, name), np.inf) for v, f in zip(variants, finite, strict=True)],
            axis=0,
        )
        for name in CoreCosts.__dataclass_fields__
    }
    possible = np.isfinite(least["time_s"])
    rest = ("energy_pj", "dram_bytes", "weight_bytes")
    return CoreCosts(least["time_s"], *(np.where(possible, least[name], 0.0) for name in rest))


def _stack(rows: list[CoreCosts], cores: int = 0) -> CoreCosts:
    if not rows:
        return CoreCosts.free(0, cores)
    return CoreCosts(
        *(
            np.concatenate([getattr(row, name) for row in rows])
            for name in CoreCosts.__dataclass_fields__
        )
    )
