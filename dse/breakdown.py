"""One design's cost layer by layer, in the shape that figures and reports read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHOWN_INPUTS = 4
"""Inputs whose schedule is shown."""


@dataclass(frozen=True)
class LayerCost:
    """What one layer (or one half of a bottleneck) costs per inference.

    Attributes:
        name: The layer's name.
        core: The core that runs it.
        energy_pj: Energy by part, links and idle power apart [pJ].
        time_s: How long it keeps its core busy [s].
        starts_s: When it starts for each of several inputs that are there at once [s].
    """

    name: str
    core: str
    energy_pj: Mapping[str, float]
    time_s: float
    starts_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class LinkTraffic:
    """What crosses one link of the chip per inference [bytes]; more than two cores make a bus."""

    name: str
    cores: tuple[str, ...]
    traffic_bytes: float


@dataclass(frozen=True)
class Breakdown:
    """A design, evaluated alone.

    Attributes:
        id: The design's id.
        cores: Every core of the chip, used or not, in the chip's order.
        layers: Its layers in execution order.
        links: Every link of the chip.
        costs: The columns of ``front.csv`` that are costs.
        dram_bytes: What each core moves to and from DRAM, the network's input and output included
            [bytes].
        channels: Boundary -> its channels; a width of so many crosses uncompressed.
    """

    id: str
    cores: tuple[str, ...]
    layers: tuple[LayerCost, ...]
    links: tuple[LinkTraffic, ...]
    costs: Mapping[str, float]
    dram_bytes: Mapping[str, float]
    channels: Mapping[str, int] = field(default_factory=dict)

    def on_core(self, core: str) -> tuple[LayerCost, ...]:
        """The layers that a core runs, in execution order."""
        return tuple(layer for layer in self.layers if layer.core == core)


def break_down(design_file: Path) -> Breakdown:
    """Evaluate the design in a file and arrange what came out.

    Raises:
        InputError: It is not a design, or what it names does not exist.
    """
    from costs.library import load_chip  # the cost model takes a second to import
    from dse.design import evaluate_design, load_design

    found = evaluate_design(design_file, SHOWN_INPUTS)
    chip = load_chip(load_design(design_file).experiment["chip"])
    layers = tuple(
        LayerCost(
            slot["layer"],
            slot["core"],
            slot["energy_parts_pj"],
            slot["time_s"],
            tuple(slot["starts_s"]),
        )
        for slot in found["slots"]
    )
    links = tuple(LinkTraffic(k.name, k.cores, found["links"][k.name]) for k in chip.links)
    dram_bytes = {core["name"]: core["dram_bytes"] for core in found["per_core"]}
    return Breakdown(
        found["id"],
        chip.core_names,
        layers,
        links,
        found["costs"],
        dram_bytes,
        found["channels"],
    )
