"""Cores and chips from YAML files: the shipped ones by name, a user's own by path.

The only module that knows where hardware files lie. The format is checked by
`costs.hardware_spec`; what only makes sense across keys is checked here.
"""

from __future__ import annotations

import itertools
import os
from importlib import resources
from pathlib import Path
from typing import Any

from costs import strict_yaml, technology_tables
from costs.chip import KNOBS, LINK_WIDTH, SIDES, Chip, CoreType, Link
from costs.core import Core
from costs.core_file import build_core, find_energy_per_bit, under
from costs.errors import InputError, nearest
from costs.hardware_spec import (
    ChipSpec,
    CoreTypeSpec,
    KnobSpec,
    validate,
)
from costs.memory_models import RegisterModel
from costs.topology import build_links


def list_cores() -> tuple[str, ...]:
    """Names of the shipped cores, sorted."""
    return _shipped("cores")


def list_chips() -> tuple[str, ...]:
    """Names of the shipped chips, sorted."""
    return _shipped("chips")


def load_core(name_or_path: str | os.PathLike[str]) -> Core:
    """The core of a shipped name, or of a YAML file.

    Args:
        name_or_path: a name of `list_cores`, or a path (with a slash or ending in .yaml).

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    path = _find("cores", name_or_path)
    return build_core(strict_yaml.load(path), path)


def load_chip(name_or_path: str | os.PathLike[str]) -> Chip:
    """The chip of a shipped name, or of a YAML file.

    Args:
        name_or_path: a name of `list_chips`, or a path (with a slash or ending in .yaml).

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    path = _find("chips", name_or_path)
    return build_chip(strict_yaml.load(path), path)


def read_chip(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a chip file with the core files it names written into it.

    Args:
        name_or_path: as for `load_chip`.

    Returns:
        Data that `build_chip` makes the same chip of, wherever it is saved.

    Raises:
        InputError: as for `load_chip`.
    """
    path = _find("chips", name_or_path)
    data = strict_yaml.load(path)
    build_chip(data, path)
    for part in data["core_types"].values():
        if isinstance(part["core"], str):
            inner = path.parent / part["core"] if _is_path(part["core"]) else part["core"]
            part["core"] = strict_yaml.load(_find("cores", inner))
    return data


def build_chip(data: Any, file: object) -> Chip:
    """The chip that the content of a chip file describes.

    Args:
        data: content, as `strict_yaml.load` returns it.
        file: named in errors; inline core paths are relative to its folder.

    Raises:
        InputError: naming file, key, value and what is allowed.
    """
    spec = validate(ChipSpec, data, file)
    knobs = _knob_names(spec, file)
    types = tuple(
        _build_core_type(name, part, knobs, file) for name, part in spec.core_types.items()
    )
    type_names = list(spec.core_types)
    for core, kind in spec.cores.items():
        if kind not in spec.core_types:
            raise InputError(
                "no such core type", file=file, key=f"cores.{core}", value=kind, allowed=type_names
            )
    links = tuple(
        part
        for index, link in enumerate(spec.links)
        for part in build_links(link, f"links.{index}", spec, file)
    )
    _check_links(links, spec, file)
    dram_pj = find_energy_per_bit(
        spec.dram.energy_pj_per_bit, technology_tables.DRAM_PJ_PER_BIT, "dram", file
    )
    chip = Chip(
        name=spec.name,
        types=types,
        cores=tuple((name, type_names.index(kind)) for name, kind in spec.cores.items()),
        links=links,
        dram_bandwidth_bytes_per_s=spec.dram.bandwidth_bytes_per_s,
        dram_energy_pj_per_bit=dram_pj,
        idle_power_w=spec.idle_power_w,
    )
    try:
        chip.routes()
    except InputError as error:
        raise under(error, file, "") from error
    return chip


def _knob_names(spec: ChipSpec, file: object) -> tuple[str, ...]:
    """The knobs that every core type of a chip has, in order.

    Raises:
        InputError: if one type has a square array and another sides, or not all have ports.
    """
    given = {kind: set(part.knobs) for kind, part in spec.core_types.items()}
    sided = any(set(SIDES) & knobs for knobs in given.values())
    wired = any(LINK_WIDTH in knobs for knobs in given.values())
    for kind, knobs in given.items():
        key = f"core_types.{kind}.knobs"
        if sided and "array" in knobs:
            raise InputError(
                "of no use where another knob is rows or columns", file=file, key=f"{key}.array"
            )
        if wired and LINK_WIDTH not in knobs:
            raise InputError(
                "missing: every core type has this knob or none has",
                file=file,
                key=f"{key}.{LINK_WIDTH}",
            )
    first = SIDES if sided else KNOBS[:1]
    return (*first, *KNOBS[1:], *((LINK_WIDTH,) if wired else ()))


def _build_core_type(
    name: str, spec: CoreTypeSpec, names: tuple[str, ...], file: object
) -> CoreType:
    key = f"core_types.{name}"
    if isinstance(spec.core, dict):
        core = build_core(spec.core, file, f"{key}.core")
    else:
        reference: str | Path = spec.core
        if _is_path(spec.core):
            reference = Path(str(file)).parent / spec.core
        try:
            core = load_core(reference)
        except InputError as error:
            if error.file is not None:
                raise
            raise under(error, file, f"{key}.core") from error
    given: dict[str, KnobSpec] = {**spec.knobs}
    knobs = tuple(
        _build_knob(knob, given.get(knob), core, f"{key}.knobs.{knob}", file) for knob in names
    )
    if LINK_WIDTH not in names:
        return CoreType(name, core, knobs)
    technology = getattr(core.level("global_buffer").model, "technology", None)
    bit_mm2 = None if technology is None else RegisterModel(technology).area_mm2(1 / 8, 1)
    if bit_mm2 is None:
        raise InputError(
            f"no source gives the area of the ports of core {core.name}",
            file=file,
            key=f"{key}.knobs.{LINK_WIDTH}",
            allowed="a core whose global_buffer is an sram of a technology with areas",
        )
    return CoreType(name, core, knobs, bit_mm2)


def _build_knob(
    knob: str, spec: KnobSpec | None, core: Core, key: str, file: object
) -> tuple[str, tuple[int, ...], int]:
    """(knob, values, default index); a knob left out keeps the core's own size."""
    if knob == LINK_WIDTH:
        own = spec.default if spec is not None else 0  # every type gives it
    elif knob in SIDES:
        sizes = {axis.name: axis.size for axis in core.axes}
        if spec is not None and knob not in sizes:
            raise InputError(
                f"core {core.name} has no such axis", file=file, key=key, allowed=list(sizes)
            )
        own = sizes.get(knob, 1)
    elif knob == "array":
        own = core.axes[0].size
        if spec is not None and {axis.size for axis in core.axes} != {own}:
            raise InputError(
                "a chip resizes its arrays as squares",
                file=file,
                key=key,
                value={axis.name: axis.size for axis in core.axes},
                allowed="no array knob, or a core whose axes have the same size",
            )
    else:
        if knob not in (level.name for level in core.levels):
            raise InputError(
                f"core {core.name} lacks level {knob}, where a chip keeps tensors between layers",
                file=file,
                key=key,
                allowed="cores with the levels global_buffer (I, O) and weight_buffer (W)",
            )
        level = core.level(knob)
        held = {"global_buffer": ("I", "O"), "weight_buffer": ("W",)}[knob]
        if not set(held) <= set(level.operands) or isinstance(level.capacity_bytes, dict):
            raise InputError(
                f"level {knob} of core {core.name} must hold {', '.join(held)} in one capacity",
                file=file,
                key=key,
                value=list(level.operands),
            )
        own = int(level.total_capacity_bytes)
    if spec is None:
        return knob, (own,), 0
    values = tuple(spec.values)
    if any(b <= a for a, b in itertools.pairwise(values)):
        raise InputError(file=file, key=f"{key}.values", value=values, allowed="rising values")
    if spec.default not in values:
        raise InputError(file=file, key=f"{key}.default", value=spec.default, allowed=values)
    return knob, values, values.index(spec.default)


def _check_links(links: tuple[Link, ...], spec: ChipSpec, file: object) -> None:
    names = [link.name for link in spec.links]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError("duplicate name", file=file, key=f"links.{index}.name", value=name)
    if len(spec.cores) > 1 and not links:
        raise InputError(
            f"{len(spec.cores)} cores need links to exchange tensors over",
            file=file,
            key="links",
            allowed="a list of links that join all cores, or one core",
        )
    reached = {core for link in links for core in link.cores}
    if len(spec.cores) > 1:
        for core in spec.cores:
            if core not in reached:
                raise InputError(
                    "no link reaches this core",
                    file=file,
                    key=f"cores.{core}",
                    value=core,
                    allowed="links that join all cores",
                )


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.endswith((".yaml", ".yml"))


def _shipped(kind: str) -> tuple[str, ...]:
    folder = resources.files("costs") / "hardware" / kind
    names = (entry.name for entry in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def _find(kind: str, name_or_path: str | os.PathLike[str]) -> Path:
    name = os.fspath(name_or_path)
    if isinstance(name_or_path, os.PathLike) or _is_path(name):
        return Path(name)
    known = _shipped(kind)
    if name not in known:
        guess = nearest(name, known)
        hint = f", did you mean {guess}?" if guess else ""
        raise InputError(
            f"no shipped {kind.removesuffix('s')} of that name{hint}",
            value=name,
            allowed=f"{', '.join(known)}, or a path ending in .yaml",
        )
    return Path(str(resources.files("costs") / "hardware" / kind / f"{name}.yaml"))
