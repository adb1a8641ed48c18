"""ZigZag's accelerator files read as cores, and cores written as ZigZag's accelerator files.

ZigZag (https://github.com/KULeuven-MICAS/zigzag, versions 3.8 and 3.9) lists memories innermost
first, sizes and bandwidths in bits, costs in pJ per word of a port's width. A memory serves the
dimensions it names and is repeated along the others. Its areas carry no unit and it knows no clock
frequency, so an imported core has no area.
"""

from __future__ import annotations

import math
import os
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from costs import strict_yaml
from costs.core import Axis, Core, MemoryLevel
from costs.errors import InputError
from costs.hardware_spec import NonNegative, Spec, validate
from costs.layer import DIMS

OPERAND_OF = {"I1": "I", "I2": "W", "O": "O"}
"""Operands of ZigZag's memories under its usual memory_operand_links."""

DIM_OF = {
    "B": "N",
    "K": "K",
    "C": "C",
    "G": "G",
    "OY": "P",
    "OX": "Q",
    "FY": "R",
    "FX": "S",
}
"""Loop dimensions by ZigZag's names."""

_DRAM_BITS = 10**10
_MemoryOperand = Literal["I1", "I2", "O"]
_Direction = Literal["fh", "tl", "fl", "th"]
_Bits = Annotated[int, Field(ge=1)]


class _Foreign(Spec):
    """A description of another tool's: keys this project has no use for are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class _Port(_Foreign):
    """A port and what it moves: to (t) or from (f) the lower (l) or higher (h) level.

    A cost is that of `bandwidth_max` bits; multiples of `bandwidth_min` cost their part of it.
    """

    type: Literal["read", "write", "read_write"]
    bandwidth_max: _Bits
    bandwidth_min: _Bits | None = None
    allocation: list[str]


class _Memory(_Foreign):
    """A memory; size in bits, costs in pJ per word of a port."""

    size: _Bits
    r_cost: NonNegative | None = None
    w_cost: NonNegative | None = None
    operands: list[_MemoryOperand] = Field(min_length=1)
    ports: list[_Port] = Field(min_length=1)
    served_dimensions: list[str] = Field(default_factory=list)


class _Array(_Foreign):
    """The array of multipliers; energy in pJ per MAC."""

    dimensions: list[str]
    sizes: list[_Bits]
    unit_energy: NonNegative | None = None
    is_imc: bool = False


class _Accelerator(_Foreign):
    """An accelerator file."""

    name: str
    memories: dict[str, _Memory] = Field(min_length=1)
    operational_array: _Array


def load_zigzag_core(
    path: str | os.PathLike[str],
    mapping_path: str | os.PathLike[str] | None = None,
    clock_hz: float = 1e9,
) -> Core:
    """The core a ZigZag accelerator file describes.

    Args:
        path: accelerator YAML.
        mapping_path: mapping YAML, whose first entry says which dimensions each axis unrolls;
            without it every axis may unroll any dimension.
        clock_hz: clock [Hz], which ZigZag does not know.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    # ZigZag's own tpu_like.yaml repeats a key, and ZigZag takes the last
    hardware = strict_yaml.load(path, last_key_wins=True)
    mapping = None
    if mapping_path is not None:
        mapping = strict_yaml.load(mapping_path, last_key_wins=True)
    return from_zigzag(hardware, mapping, path, clock_hz)


def from_zigzag(
    hardware: Any,
    mapping: Any = None,
    file: object = None,
    clock_hz: float = 1e9,
    *,
    output_pins: bool = False,
) -> Core:
    """The core that the content of a ZigZag accelerator file describes; see `load_zigzag_core`.

    Args:
        hardware: content of the accelerator file.
        mapping: content of the mapping file, if any.
        file: named in errors.
        clock_hz: clock [Hz].
        output_pins: count as ZigZag does by default: a weight or input that the MACs use again
            at once stays at the output pins of its innermost memory and is not read again. Modelled
            as one word of free storage at each PE.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    spec = validate(_Accelerator, hardware, file)
    array = spec.operational_array
    if array.is_imc or array.unit_energy is None:
        raise InputError(
            "missing" if not array.is_imc else "in-memory computing is not modelled",
            file=file,
            key="operational_array.unit_energy" if not array.is_imc else "operational_array.is_imc",
        )
    if len(array.sizes) != len(array.dimensions):
        raise InputError(
            file=file,
            key="operational_array.sizes",
            value=array.sizes,
            allowed=f"one size for each of {', '.join(array.dimensions)}",
        )
    dims = _spatial_dims(mapping, array.dimensions, file)
    axes = tuple(
        Axis(name, size, dims[name])
        for name, size in zip(array.dimensions, array.sizes, strict=True)
    )
    levels = tuple(
        _level(name, memory, array.dimensions, file) for name, memory in spec.memories.items()
    )
    if output_pins:
        pins = (
            MemoryLevel(f"pins_{o}", (o,), 1.0, replicated=tuple(array.dimensions)) for o in "IW"
        )
        levels = (*pins, *levels)
    try:
        return Core(
            name=spec.name,
            levels=levels[::-1],
            axes=axes,
            mac_energy_pj=array.unit_energy,
            clock_hz=clock_hz,
        )
    except InputError as error:
        raise InputError(
            error.message, file=file, key=error.key, value=error.value, allowed=error.allowed
        ) from error


def to_zigzag(core: Core) -> dict[str, Any]:
    """The content of a ZigZag accelerator file for a core.

    Args:
        core: every level must hold its operands in one capacity.

    Returns:
        Data for `strict_yaml.dumps`. Levels are listed innermost first. A port is as wide as the
        bandwidth, and its cost is that of so many bits. Unlimited bandwidths become one access per
        cycle, unlimited capacities 10^10 bits.

    Raises:
        InputError: a capacity is split between operands, which ZigZag cannot say.
    """
    names = {operand: foreign for foreign, operand in OPERAND_OF.items()}
    renamed = {axis.name: f"D{index + 1}" for index, axis in enumerate(core.axes)}
    memories = {}
    for level in reversed(core.levels):
        if not isinstance(level.capacity_bytes, (int, float)):
            raise InputError(
                "ZigZag has one capacity for each memory",
                key=f"{core.name}.{level.name}.capacity_bytes",
                value=level.capacity_bytes,
            )
        capacity_bits = 8.0 * level.capacity_bytes
        ports = _ports(level, [names[operand] for operand in level.operands])
        memories[level.name] = {
            "size": int(capacity_bits) if math.isfinite(capacity_bits) else _DRAM_BITS,
            "r_cost": level.read_energy_pj * ports[0]["bandwidth_max"] / level.width_bits,
            "w_cost": level.write_energy_pj * ports[-1]["bandwidth_max"] / level.width_bits,
            "area": 0.0,
            "latency": 1,
            "operands": [names[operand] for operand in level.operands],
            "ports": ports,
            "served_dimensions": [
                renamed[axis.name] for axis in core.axes if axis.name not in level.replicated
            ],
        }
    return {
        "name": core.name,
        "memories": memories,
        "operational_array": {
            "unit_energy": core.mac_energy(8),
            "unit_area": 0.0,
            "dimensions": list(renamed.values()),
            "sizes": [axis.size for axis in core.axes],
        },
    }


def _level(name: str, memory: _Memory, dimensions: list[str], file: object) -> MemoryLevel:
    key = f"memories.{name}"
    if memory.r_cost is None or memory.w_cost is None:
        raise InputError(
            "missing; costs that ZigZag extracts with CACTI must be given as numbers",
            file=file,
            key=f"{key}.r_cost" if memory.r_cost is None else f"{key}.w_cost",
        )
    for dimension in memory.served_dimensions:
        if dimension not in dimensions:
            raise InputError(
                file=file, key=f"{key}.served_dimensions", value=dimension, allowed=dimensions
            )
    reads = [port.bandwidth_max for port in memory.ports if "read" in port.type]
    writes = [port.bandwidth_max for port in memory.ports if "write" in port.type]
    if not reads or not writes:
        raise InputError(file=file, key=f"{key}.ports", allowed="a port to read and one to write")
    shared = [port.bandwidth_max for port in memory.ports if port.type == "read_write"]
    all_shared = len(shared) == len(memory.ports)
    # a level has one access width: that of its reads, to which the cost of writes is converted
    width_bits = max(reads)
    least = min(port.bandwidth_min or width_bits for port in memory.ports if "read" in port.type)
    off_chip = memory.size >= _DRAM_BITS
    # a four-dimensional array whose DRAM is said to serve two dimensions still has but one DRAM
    served = dimensions if off_chip else memory.served_dimensions
    return MemoryLevel(
        name=name,
        operands=tuple(OPERAND_OF[operand] for operand in memory.operands),
        capacity_bytes=math.inf if off_chip else memory.size / 8.0,
        read_bandwidth=sum(reads) / 8.0,
        write_bandwidth=sum(writes) / 8.0,
        bandwidth=sum(shared) / 8.0 if all_shared else math.inf,
        width_bits=width_bits,
        least_bits=least if least < width_bits else None,
        read_energy_pj=memory.r_cost,
        write_energy_pj=memory.w_cost * width_bits / max(writes),
        replicated=tuple(name for name in dimensions if name not in served),
    )


def _spatial_dims(mapping: Any, dimensions: list[str], file: object) -> dict[str, tuple[str, ...]]:
    """Dimensions each axis may unroll, from the first entry of a mapping file."""
    if mapping is None:
        return dict.fromkeys(dimensions, DIMS)
    key = "spatial_mapping"
    try:
        entries = mapping[0][key]
        unrolled = {
            axis: [text.split(",")[0].strip() for text in entries[axis]] for axis in entries
        }
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            file=file, key=key, allowed="as in ZigZag: D1: ['K, 32'] for each dimension"
        ) from error
    result = {}
    for axis in dimensions:
        foreign = unrolled.get(axis, [])
        unknown = [dim for dim in foreign if dim not in DIM_OF]
        if unknown:
            raise InputError(file=file, key=f"{key}.{axis}", value=unknown[0], allowed=DIM_OF)
        result[axis] = tuple(dict.fromkeys(DIM_OF[dim] for dim in foreign))
    return result


def _ports(level: MemoryLevel, operands: list[str]) -> list[dict[str, Any]]:
    """Ports of a level, the one that reads first: one shared, or one to read and one to write."""

    def port(name: str, kind: str, width: float, moves: tuple[str, ...]) -> dict[str, Any]:
        bits = int(8 * width) if math.isfinite(width) else level.width_bits
        allocation = [
            f"{operand}, {move}"
            for operand in operands
            for move in moves
            if operand == "O" or move in ("fh", "tl")
        ]
        return {
            "name": name,
            "type": kind,
            "bandwidth_min": min(bits, level.access_bits),
            "bandwidth_max": bits,
            "allocation": allocation,
        }

    if math.isfinite(level.bandwidth):
        return [port("rw_port_1", "read_write", level.bandwidth, ("fh", "tl", "fl", "th"))]
    return [
        port("r_port_1", "read", level.read_bandwidth, ("tl", "th")),
        port("w_port_1", "write", level.write_bandwidth, ("fh", "fl")),
    ]
