"""The best mapping of every layer of a network on one core, as rows of a table.

What `dse evaluate NETWORK CORE` prints. Each layer stands alone: its tensors come from and return
to the core's outermost level. What a network costs on a chip is `costs.chip_cost`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from costs.conventions import TIMELOOP, Conventions
from costs.core import Core
from costs.insitu import Factors, best_generated_mapping
from costs.layer import Layer
from costs.mapper import BestMapping, Objective, best_mapping


@dataclass(frozen=True)
class LayerRow:
    """One layer with its best mapping.

    Attributes:
        layer: the layer.
        best: mapping, cost and certificate.
    """

    layer: Layer
    best: BestMapping

    @property
    def compulsory_bytes(self) -> float:
        """Every weight, touched input and output moved once [bytes]."""
        return math.fsum(self.best.compulsory_bytes.values())

    @property
    def energy_by_level_pj(self) -> dict[str, float]:
        """Energy of each memory level, outermost first, then of the MACs [pJ]."""
        cost = self.best.cost
        levels = {
            level: math.fsum(operands.values())
            for level, operands in cost.energy_by_level_pj.items()
        }
        return {**levels, "mac": cost.mac_energy_pj}

    @property
    def outer_bytes(self) -> float:
        """Traffic between the core and the homes of the operands, here DRAM [bytes]."""
        return math.fsum(self.best.cost.io_bytes.values())

    @property
    def distance_to_bound(self) -> float:
        """Traffic over compulsory traffic [1]; 1 is the bound."""
        return self.outer_bytes / self.compulsory_bytes

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for tables and JSON."""
        cost = self.best.cost
        mapping = self.best.mapping
        return {
            "layer": self.layer.name,
            "kind": self.layer.kind,
            "macs": self.layer.macs,
            "energy_pj": cost.energy_pj,
            "energy_by_level_pj": self.energy_by_level_pj,
            "cycles": cost.cycles,
            "latency_s": cost.latency_s,
            "utilization": cost.utilization,
            "dram_bytes": self.outer_bytes,
            "compulsory_bytes": self.compulsory_bytes,
            "distance_to_bound": self.distance_to_bound,
            "enumerated": self.best.enumerated,
            "pruned": dict(self.best.pruned),
            "compared": self.best.compared,
            "proved": self.best.proved,
            "least_by_1": self.best.least_by_1,
            "bound": self.best.bound,
            "gap": self.best.gap,
            "mapping": {
                "loops": [list(factor) for factor in mapping.loops],
                "stored": {operand: dict(at) for operand, at in mapping.stored.items()},
                "spatial": {
                    axis: [list(factor) for factor in factors]
                    for axis, factors in mapping.spatial.items()
                },
            },
        }


def evaluate_network(
    layers: Iterable[Layer],
    core: Core,
    objective: Objective = "energy",
    conventions: Conventions = TIMELOOP,
    *,
    generated: Mapping[str, Factors] | None = None,
    limit_s: float | None = None,
) -> list[LayerRow]:
    """The best mapping of each layer on the core; equal shapes are searched once.

    Args:
        layers: layers in execution order.
        core: the core.
        objective: what the mapping minimises.
        conventions: how accesses are counted.
        generated: factors by name of the layers whose weights the core generates in situ.
        limit_s: how long to look for the proof of each layer [s]; see `best_mapping`.

    Raises:
        InputError: no mapping of a layer fits, saying which operand is too large at which level.
    """
    found: dict[tuple[Any, ...], BestMapping] = {}
    rows = []
    for layer in layers:
        factors = (generated or {}).get(layer.name)
        shape = (*_shape(layer), factors)
        if shape not in found:
            found[shape] = (
                best_mapping(layer, core, objective, conventions, limit_s)
                if factors is None
                else best_generated_mapping(layer, factors, core, objective, conventions)
            )
        rows.append(LayerRow(layer, found[shape]))
    return rows


def sum_rows(rows: Iterable[LayerRow]) -> dict[str, Any]:
    """Totals of a network whose layers run one after the other.

    Returns:
        Keys of `LayerRow.to_dict` that add up, and `utilization` and `distance_to_bound` of the
        whole.
    """
    rows = list(rows)
    levels: dict[str, float] = {}
    for row in rows:
        for level, energy_pj in row.energy_by_level_pj.items():
            levels[level] = levels.get(level, 0.0) + energy_pj
    cycles = math.fsum(row.best.cost.cycles for row in rows)
    outer_bytes = math.fsum(row.outer_bytes for row in rows)
    compulsory_bytes = math.fsum(row.compulsory_bytes for row in rows)
    busy = math.fsum(row.best.cost.utilization * row.best.cost.cycles for row in rows)
    return {
        "layer": "total",
        "macs": sum(row.layer.macs for row in rows),
        "energy_pj": math.fsum(row.best.cost.energy_pj for row in rows),
        "energy_by_level_pj": levels,
        "cycles": cycles,
        "latency_s": math.fsum(row.best.cost.latency_s for row in rows),
        "utilization": busy / cycles if cycles else 0.0,
        "dram_bytes": outer_bytes,
        "compulsory_bytes": compulsory_bytes,
        "distance_to_bound": outer_bytes / compulsory_bytes if compulsory_bytes else 0.0,
    }


def _shape(layer: Layer) -> tuple[Any, ...]:
    """All of a layer but its name."""
    return tuple(value for key, value in sorted(vars(layer).items()) if key != "name")
