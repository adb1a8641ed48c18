"""A core from the content of a core file.

The keys are checked by `costs.hardware_spec`; what only makes sense across keys is checked here.
"""

from __future__ import annotations

import math
from typing import Any

from costs import technology as tech
from costs import technology_tables
from costs.core import Axis, Core, MemoryLevel, MemoryModel
from costs.errors import InputError
from costs.hardware_spec import CoreSpec, LevelSpec, validate
from costs.memory_models import RegisterModel, SramModel
from costs.technology import Constant, Technology

_MAC_TABLE_BITS = (1, 2, 4, 8, 16, 32)


def build_core(data: Any, file: object, prefix: str = "") -> Core:
    """The core that the content of a core file describes.

    Args:
        data: content, as `strict_yaml.load` returns it.
        file: named in errors.
        prefix: key under which the content stands in that file, named in errors.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    try:
        spec = validate(CoreSpec, data, file)
        technology = None
        if spec.technology is not None:
            technology = _named_technology(spec.technology)
        levels = tuple(
            _build_level(level, index, technology) for index, level in enumerate(spec.levels)
        )
        axes = tuple(
            Axis(name, axis.size, tuple(axis.dims), tuple(axis.multicast), axis.reduction)
            for name, axis in spec.array.items()
        )
        return Core(
            name=spec.name,
            levels=levels,
            axes=axes,
            clock_hz=spec.clock_hz,
            leakage_w=spec.leakage_w,
            **_mac_fields(spec, technology),
        )
    except InputError as error:
        raise under(error, file, prefix) from error


def _build_level(spec: LevelSpec, index: int, technology: Technology | None) -> MemoryLevel:
    key = f"levels.{index}"
    capacity, energy = spec.capacity_bytes, spec.energy_pj_per_bit
    if (spec.kind == "dram") != (capacity is None):
        wanted = "no capacity for DRAM" if spec.kind == "dram" else "a capacity in bytes"
        raise InputError(key=f"{key}.capacity_bytes", value=capacity, allowed=wanted)
    if capacity is None:
        capacity = math.inf
    elif isinstance(capacity, dict):
        capacity = {str(operand): float(share) for operand, share in capacity.items()}
    model: MemoryModel | None = None
    if spec.kind in ("sram", "register"):
        if technology is None:
            raise InputError("missing", key="technology", allowed=f"needed by {spec.name}")
        model = SramModel(technology) if spec.kind == "sram" else RegisterModel(technology)
    given_pj = (spec.read_energy_pj, spec.write_energy_pj)
    if energy is not None:
        if given_pj != (None, None):
            raise InputError(
                key=f"{key}.energy_pj_per_bit",
                value=energy,
                allowed="either this or read_energy_pj and write_energy_pj",
            )
        table = technology_tables.DRAM_PJ_PER_BIT if spec.kind == "dram" else {}
        per_bit = find_energy_per_bit(energy, table, key, None)
        given_pj = (per_bit * spec.width_bits,) * 2
    if model is None and None in given_pj:
        raise InputError(
            "missing",
            key=f"{key}.energy_pj_per_bit",
            allowed="an energy, or a kind (sram, register) for which the technology gives it",
        )
    size = (
        math.fsum(capacity.values()) if isinstance(capacity, dict) else capacity,
        spec.width_bits,
    )
    area_mm2 = spec.area_mm2
    leakage_w = spec.leakage_w
    read_pj, write_pj = given_pj
    if model is not None:
        read_pj = model.read_energy_pj(*size) if read_pj is None else read_pj
        write_pj = model.write_energy_pj(*size) if write_pj is None else write_pj
        area_mm2 = model.area_mm2(*size) if area_mm2 is None else area_mm2
        leakage_w = model.leakage_w(*size) if leakage_w is None else leakage_w
        if given_pj != (None, None):
            # figures of one capacity say nothing of another
            model = None
    return MemoryLevel(
        name=spec.name,
        operands=tuple(spec.operands),
        capacity_bytes=capacity,
        read_bandwidth=_or_infinite(spec.read_bandwidth_bytes_per_cycle),
        write_bandwidth=_or_infinite(spec.write_bandwidth_bytes_per_cycle),
        bandwidth=_or_infinite(spec.bandwidth_bytes_per_cycle),
        width_bits=spec.width_bits,
        least_bits=spec.least_bits,
        read_energy_pj=read_pj or 0.0,
        write_energy_pj=write_pj or 0.0,
        replicated=tuple(spec.replicated),
        area_mm2=area_mm2,
        leakage_w=leakage_w or 0.0,
        model=model,
    )


def _mac_fields(spec: CoreSpec, technology: Technology | None) -> dict[str, Any]:
    """Energy, area and leakage of a PE, given or from the technology."""
    mac = spec.mac
    if technology is None:
        if mac.energy_pj is None:
            raise InputError("missing", key="mac.energy_pj", allowed="this, or a technology")
        return {
            "mac_energy_pj": mac.energy_pj,
            "pe_area_mm2": mac.area_mm2,
            "pe_leakage_w": mac.leakage_w or 0.0,
        }

    def energy_pj(bits: int) -> float:
        return float(tech.calc_mac_energy_pj(technology, bits, bits, mac.bits_psum))

    fields: dict[str, Any] = {"mac_energy_pj": mac.energy_pj}
    if mac.energy_pj is None:
        fields["mac_energy_pj"] = energy_pj(mac.bits)
        fields["mac_energy_by_bits"] = tuple((bits, energy_pj(bits)) for bits in _MAC_TABLE_BITS)
    size = (mac.bits, mac.bits, mac.bits_psum)
    area_mm2 = mac.area_mm2
    if area_mm2 is None and technology.has_area:
        area_mm2 = float(tech.calc_mac_area_mm2(technology, *size))
    leakage_w = mac.leakage_w
    if leakage_w is None and technology.multiply_leakage_8x8 is not None:
        leakage_w = float(tech.calc_mac_leakage_w(technology, *size))
    return {**fields, "pe_area_mm2": area_mm2, "pe_leakage_w": leakage_w or 0.0}


def find_energy_per_bit(
    value: float | str, table: dict[str, Constant], key: str, file: object
) -> float:
    """An energy given as a number or as a name of `table`, in [pJ/bit]; `key` owns it in errors."""
    if not isinstance(value, str):
        return value
    if value not in table:
        raise InputError(
            file=file,
            key=f"{key}.energy_pj_per_bit",
            value=value,
            allowed=f"a number, or one of {', '.join(sorted(table))}" if table else "a number",
        )
    return table[value].value


def _named_technology(name: str) -> Technology:
    try:
        return tech.get_technology(name)
    except InputError as error:
        raise under(error, None, "technology") from error


def under(error: InputError, file: object, prefix: str) -> InputError:
    """The same error with its file (where it names none) and its key under a prefix."""
    key = ".".join(part for part in (prefix, error.key or "") if part)
    return InputError(
        error.message,
        file=error.file or file,
        key=key or None,
        value=error.value,
        allowed=error.allowed,
        line=error.line,
    )


def _or_infinite(bandwidth: float | None) -> float:
    return math.inf if bandwidth is None else bandwidth
