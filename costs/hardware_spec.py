"""What a core file and a chip file may contain: pydantic models, and their errors in one line.

`costs.library` turns a checked description into a `Core` or a `Chip`. The format is documented in
docs/hardware.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from costs.errors import InputError, nearest

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
# Wide enough for every unit in use here; what lies beyond would overflow in sums and in float32.
Positive = Annotated[float, Field(ge=1e-12, le=1e18, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Size = Annotated[int, Field(gt=0, le=2**40)]
Dim = Literal["G", "N", "K", "C", "P", "Q", "R", "S"]
Operand = Literal["W", "I", "O"]
EnergyPerBit = NonNegative | str
Topology = Literal["bus", "ring", "mesh", "point_to_point", "chiplet_package"]

SpecT = TypeVar("SpecT", bound="Spec")


class Spec(BaseModel):
    """Base of all descriptions: unknown keys are errors, no value is coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AxisSpec(Spec):
    """One direction of the PE array; see `costs.core.Axis`."""

    size: Size
    dims: list[Dim] = Field(min_length=1)
    multicast: list[Operand] = ["W", "I", "O"]
    reduction: bool = True


class MacSpec(Spec):
    """One multiply-accumulate unit; what is left out follows from the technology.

    Attributes:
        energy_pj: energy at any width [pJ].
        bits: width of both factors, for the area [bits].
        bits_psum: width of the sum, for energy and area [bits].
        area_mm2: area of a PE without its memories [mm^2].
        leakage_w: static power of a PE without its memories [W].
    """

    energy_pj: NonNegative | None = None
    bits: Annotated[int, Field(ge=1, le=64)] = 8
    bits_psum: Annotated[int, Field(ge=1, le=64)] = 32
    area_mm2: NonNegative | None = None
    leakage_w: NonNegative | None = None


class LevelSpec(Spec):
    """One memory level; see `costs.core.MemoryLevel`.

    Attributes:
        kind: `dram` (no capacity), `sram` or `register` (energy, area and leakage follow from the
            technology), or `given` (they stand in the file).
        energy_pj_per_bit: of a bit read or written [pJ/bit]; a number, or for DRAM a name of
            `costs.technology_tables.DRAM_PJ_PER_BIT`.
    """

    name: Name
    kind: Literal["dram", "sram", "register", "given"]
    operands: list[Operand] = Field(min_length=1)
    capacity_bytes: Positive | dict[Operand, Positive] | None = None
    width_bits: Annotated[int, Field(ge=1, le=2**20)] = 64
    least_bits: Annotated[int, Field(ge=1, le=2**20)] | None = None
    read_bandwidth_bytes_per_cycle: Positive | None = None
    write_bandwidth_bytes_per_cycle: Positive | None = None
    bandwidth_bytes_per_cycle: Positive | None = None
    energy_pj_per_bit: EnergyPerBit | None = None
    read_energy_pj: NonNegative | None = None
    write_energy_pj: NonNegative | None = None
    area_mm2: NonNegative | None = None
    leakage_w: NonNegative | None = None
    replicated: list[Name] = []


class CoreSpec(Spec):
    """A core file."""

    name: Name
    source: str | None = None
    technology: Name | None = None
    clock_hz: Positive
    array: dict[Name, AxisSpec]
    mac: MacSpec = MacSpec()
    levels: list[LevelSpec] = Field(min_length=1)
    leakage_w: NonNegative = 0.0


class KnobSpec(Spec):
    """Values that a hardware size may take, in rising order, and where it starts."""

    values: list[Size] = Field(min_length=1)
    default: Size


class CoreTypeSpec(Spec):
    """One kind of core of a chip; `core` is a shipped name, a path, or a core file's content."""

    core: str | dict[str, Any]
    knobs: dict[
        Literal["array", "rows", "columns", "global_buffer", "weight_buffer", "link_width"],
        KnobSpec,
    ] = {}


class WireSpec(Spec):
    """What one physical link carries and costs.

    Give the bandwidth in bytes per second or in bits per cycle of the chip's clock.
    """

    bandwidth_bytes_per_s: Positive | None = None
    bandwidth_bits_per_cycle: Positive | None = None
    energy_pj_per_bit: EnergyPerBit
    hop_latency_s: NonNegative = 0.0


class LinkSpec(WireSpec):
    """Links of one topology and one kind; see `costs.topology`.

    Attributes:
        topology: left out: point to point for two cores, a bus for more.
        cores: the cores it joins, in the order of the ring or row by row of the mesh.
        dies: the cores of each die of a package, dies row by row; in place of `cores`.
        columns: cores or dies in a row of a mesh or package.
        on_die: bus of the cores of one die, where dies have several.
    """

    name: Name
    topology: Topology | None = None
    cores: list[Name] | None = Field(default=None, min_length=2)
    dies: list[Annotated[list[Name], Field(min_length=1)]] | None = Field(
        default=None, min_length=2
    )
    columns: Annotated[int, Field(ge=1, le=1024)] | None = None
    on_die: WireSpec | None = None


class DramSpec(Spec):
    """The DRAM that all cores of a chip share."""

    bandwidth_bytes_per_s: Positive
    energy_pj_per_bit: EnergyPerBit


class ChipSpec(Spec):
    """A chip file."""

    name: Name
    source: str | None = None
    clock_hz: Positive | None = None
    core_types: dict[Name, CoreTypeSpec] = Field(min_length=1)
    cores: dict[Name, Name] = Field(min_length=1)
    links: list[LinkSpec] = []
    dram: DramSpec
    idle_power_w: NonNegative = 0.0


def validate(model: type[SpecT], data: Any, file: object) -> SpecT:
    """Data of a file as a checked description.

    Args:
        model: kind of description expected.
        data: what the file holds.
        file: named in errors.

    Raises:
        InputError: the first problem, naming file, dotted key, value and what is allowed.
    """
    if not isinstance(data, dict):
        raise InputError(
            "expected a mapping of keys", file=file, value=data, allowed=sorted(model.model_fields)
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _as_input_error(model, data, error, file) from error


def _as_input_error(
    model: type[Spec], data: Any, error: ValidationError, file: object
) -> InputError:
    problems = error.errors(include_url=False, include_context=False)
    # an unknown key is most often the mistyped one whose absence is reported elsewhere
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    path, spec = _locate(model, data, problem["loc"])
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = sorted(spec.model_fields)
        guess = nearest(path[-1], known)
        hint = f", did you mean {guess}?" if guess else ""
        return InputError(f"unknown key{hint}", file=file, key=key, allowed=known)
    if problem["type"] == "missing":
        return InputError("missing", file=file, key=key)
    wanted = problem["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    if problem["type"] == "string_pattern_mismatch":
        wanted = "a name: a letter, then letters, digits or underscores, at most 64"
    return InputError(file=file, key=key, value=problem["input"], allowed=wanted)


def _locate(
    model: type[Spec], data: Any, loc: tuple[int | str, ...]
) -> tuple[list[str], type[Spec]]:
    """The dotted path of a problem and the description that holds it.

    Pydantic appends the branches of a union and ``[key]`` to the place; what is neither in the data
    nor a field is left out.
    """
    path: list[str] = []
    spec, item, here = model, None, data
    for part in loc:
        if isinstance(here, dict) and part in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif part not in spec.model_fields:
            continue
        path.append(str(part))
        if item is not None:
            spec, item = item, None
        elif part in spec.model_fields:
            found, contained = _find_spec(spec.model_fields[str(part)].annotation)
            if found is not None and contained:
                item = found
            elif found is not None:
                spec = found
    return path, spec


def _find_spec(annotation: Any) -> tuple[type[Spec] | None, bool]:
    """The description inside a field's type, and whether a list or dict of them."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return annotation, False
    for inner in get_args(annotation):
        found, contained = _find_spec(inner)
        if found is not None:
            return found, contained or get_origin(annotation) in (list, dict)
    return None, False
