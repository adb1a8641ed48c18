"""Latency of a layer on a GPU: waves of thread blocks, a staircase in the width.

A convolution is a matrix product of M = N P Q rows and K columns, cut into blocks of Tm x Tn
outputs. The blocks are issued in waves of as many as the multiprocessors hold at once; the last
wave is partly idle (the tail), and takes as long as a full one (Yu et al., arXiv 2011.03897):

    blocks = groups * ceil(K / groups / Tn) * ceil(M / Tm)                                 (1)
    waves  = ceil(blocks / (SMs * resident))                                               (2)
    latency = waves * resident * Tm * Tn * (C / groups) * R * S / (rate * clock) [s]       (3)

Energy has no sourced model here and is None.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, PositiveFloat, PositiveInt

from costs import strict_yaml
from costs.hardware_spec import Spec, validate
from costs.layer import Layer

_FOLDER = Path(str(resources.files("costs") / "hardware" / "gpus"))
ENERGY_NOTE = "energy: none, no sourced energy model of a GPU is at hand"


class GpuSpec(Spec):
    """The YAML file of a GPU."""

    model_config = ConfigDict(allow_inf_nan=False)

    kind: Literal["gpu"]
    name: str
    sms: PositiveInt
    tile_m: PositiveInt
    tile_n: PositiveInt
    resident_blocks: PositiveInt
    macs_per_cycle_per_sm: PositiveInt
    clock_hz: PositiveFloat


@dataclass(frozen=True)
class Gpu:
    """A GPU that issues waves of thread blocks. Static argument.

    Attributes:
        name: in reports.
        sms: streaming multiprocessors.
        tile_m: Tm, output pixels of a block.
        tile_n: Tn, output channels of a block.
        resident_blocks: blocks that a multiprocessor holds at once, sharing its rate.
        macs_per_cycle_per_sm: rate of one multiprocessor [MAC/cycle].
        clock_hz: [Hz].
    """

    name: str
    sms: int
    tile_m: int
    tile_n: int
    resident_blocks: int
    macs_per_cycle_per_sm: int
    clock_hz: float


@dataclass(frozen=True)
class WaveRow:
    """One layer on a GPU.

    Attributes:
        layer: the layer.
        blocks: thread blocks (eq. 1).
        waves: (eq. 2).
        tail_utilization: part of the last wave that has blocks.
        latency_s: (eq. 3) [s].
        energy_pj: None: no source.
    """

    layer: Layer
    blocks: int
    waves: int
    tail_utilization: float
    latency_s: float
    energy_pj: None = None


def list_gpus() -> list[str]:
    """Names of the shipped GPUs."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def find_gpu(name_or_path: str | os.PathLike[str]) -> Gpu | None:
    """The GPU of a shipped name or of a YAML file; None if that describes something else.

    Raises:
        InputError: a file of `kind: gpu` that is not sound, naming key, value and what is allowed.
    """
    name = os.fspath(name_or_path)
    path = _FOLDER / f"{name}.yaml"
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
    if not path.is_file():
        return None
    data = strict_yaml.load(path)
    if not isinstance(data, dict) or data.get("kind") != "gpu":
        return None
    spec = validate(GpuSpec, data, path).model_dump()
    del spec["kind"]
    return Gpu(**spec)


def calc_blocks(layer: Layer, gpu: Gpu, width: Any, xp: ModuleType = np) -> Any:
    """Thread blocks at output widths (eq. 1), elementwise over `width` [channels]."""
    rows = -(-layer.N * layer.P * layer.Q // gpu.tile_m)
    return layer.groups * xp.ceil(width / layer.groups / gpu.tile_n) * rows


def calc_waves(layer: Layer, gpu: Gpu, width: Any, xp: ModuleType = np) -> Any:
    """Waves at output widths (eq. 2), elementwise over `width` [channels]."""
    return xp.ceil(calc_blocks(layer, gpu, width, xp) / (gpu.sms * gpu.resident_blocks))


def calc_wave_latency_s(layer: Layer, gpu: Gpu, width: Any, xp: ModuleType = np) -> Any:
    """Latency at output widths (eq. 3) [s], elementwise over `width` [channels]."""
    macs = gpu.tile_m * gpu.tile_n * layer.C // layer.groups * layer.R * layer.S
    wave_s = gpu.resident_blocks * macs / (gpu.macs_per_cycle_per_sm * gpu.clock_hz)
    return calc_waves(layer, gpu, width, xp) * wave_s


def calc_width_table_s(layer: Layer, gpu: Gpu, largest: int) -> np.ndarray:
    """[largest] latency [s] at the integer widths 1, 2, ..."""
    return calc_wave_latency_s(layer, gpu, np.arange(1, largest + 1))


def extend_table(table: Any, width: Any, xp: ModuleType = np) -> Any:
    """The two-point extension V(w) = (1 - f) V(lower) + f V(upper) of a table over widths 1, 2, ...

    Exact at integers; its slope is the difference between the neighbours.

    Args:
        table: [widths].
        width: real, from 1 to the number of widths.
        xp: numpy or jax.numpy.
    """
    lower = xp.clip(xp.floor(width), 1, max(len(table) - 1, 1)).astype(int)
    part = width - lower
    upper = xp.minimum(lower, len(table) - 1)
    return (1 - part) * table[lower - 1] + part * table[upper]


def evaluate_waves(layers: Iterable[Layer], gpu: Gpu) -> list[WaveRow]:
    """Convolutions and matrix products of a network on a GPU, one after the other.

    Pooling and elementwise layers, which move data only, have no waves and are left out.
    """
    rows = []
    slots = gpu.sms * gpu.resident_blocks
    for layer in layers:
        if layer.kind != "conv":
            continue
        blocks = int(calc_blocks(layer, gpu, layer.K))
        waves = -(-blocks // slots)
        tail = (blocks - (waves - 1) * slots) / slots
        latency_s = float(calc_wave_latency_s(layer, gpu, layer.K))
        rows.append(WaveRow(layer, blocks, waves, tail, latency_s))
    return rows
