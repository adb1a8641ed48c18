"""Cases: a layer, a core and a mapping found anywhere, one JSON object a line, to be checked here.

This is how a mapping of ZigZag's, Timeloop's or one's own is evaluated without being searched for:

    {"layer": {"K": 64, "C": 64, "P": 56, "Q": 56, "R": 3, "S": 3}, "core": "nvdla_like",
     "mapping": {"loops": [["K", 8], ["C", 8], ...],
                 "stored": {"W": {"convolution_buffer": 1, "weight_register": 4}, ...},
                 "spatial": {"rows": [["C", 8]], "columns": [["K", 8]]}},
     "conventions": "timeloop"}

`case_schema` is the whole format. What a case costs is in `costs.evaluate`.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from costs.conventions import ACCELFORGE, TIMELOOP, ZIGZAG, Conventions
from costs.core import Core
from costs.core_file import build_core, under
from costs.errors import InputError
from costs.evaluate import Cost, evaluate_many
from costs.hardware_spec import CoreSpec, Dim, Operand, Spec, validate
from costs.layer import Layer
from costs.library import load_core
from costs.mapping import Mapping, check_mapping

MAX_LINE_CHARS = 1_000_000
"""Longest accepted case [characters]."""

CONVENTIONS = {"timeloop": TIMELOOP, "accelforge": ACCELFORGE, "zigzag": ZIGZAG}
"""Conventions that a case may name."""

_Count = Annotated[int, Field(ge=1, le=2**31 - 1, strict=True)]
_Pair = Annotated[list[_Count], Field(min_length=2, max_length=2)]
_Pads = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]
_Bits = Annotated[int, Field(ge=1, le=128)]
_Position = Annotated[int, Field(ge=0, strict=True)]
_Factor = tuple[Dim, _Count]


class LayerSpec(Spec):
    """A layer; see `costs.layer.Layer`. K and C count the channels of all groups."""

    name: str = "layer"
    N: _Count = 1
    K: _Count = 1
    C: _Count = 1
    P: _Count = 1
    Q: _Count = 1
    R: _Count = 1
    S: _Count = 1
    stride: _Pair = Field(default=[1, 1], description="along P, along Q [pixels]")
    dilation: _Pair = Field(default=[1, 1], description="along R, along S [pixels]")
    groups: _Count = 1
    padding: Annotated[list[_Pads], Field(min_length=2, max_length=2)] = Field(
        default=[[0, 0], [0, 0]], description="[[top, bottom], [left, right]] [pixels]"
    )
    bits_w: _Bits = 8
    bits_i: _Bits = 8
    bits_o: _Bits = 8
    bits_psum: _Bits = 32
    kind: Literal["conv", "pool", "elementwise"] = "conv"
    input_size: _Pair | None = Field(default=None, description="[height, width] [pixels]")


class MappingSpec(Spec):
    """A mapping; see `costs.mapping.Mapping`."""

    # JSON has no tuples: a factor is a list of two
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    loops: list[_Factor] = Field(
        default_factory=list, description="temporal loops [dimension, factor], outermost first"
    )
    stored: dict[Operand, dict[str, _Position]] = Field(
        default_factory=dict,
        description="for each operand and level, how many of the loops lie outside its tile",
    )
    spatial: dict[str, list[_Factor]] = Field(
        default_factory=dict, description="unrolled factors of each axis"
    )


class ConventionsSpec(Spec):
    """Conventions; see `costs.conventions.Conventions`."""

    halo: Literal["timeloop", "exact", "whole"] = "timeloop"
    padding: Literal["counted", "skipped"] = "counted"
    drain_reads: bool = False
    first_read: Literal["elided", "at_mac", "counted"] = "elided"
    accesses: Literal["fractional", "whole"] = "fractional"
    buffering: Literal[1, 2] = 1
    overlap: bool = True
    fill: bool = False


class CaseSpec(Spec):
    """One line of a file of cases."""

    layer: LayerSpec
    core: str | dict[str, Any] = Field(
        description="a shipped core's name, a path ending in .yaml, or a core file's content"
    )
    mapping: MappingSpec
    conventions: str | dict[str, Any] = Field(
        default="timeloop", description="timeloop, accelforge, zigzag, or options by name"
    )


@dataclass(frozen=True)
class Case:
    """A layer to be run on a core by a mapping, and how to count.

    Attributes:
        layer: layer.
        core: core.
        mapping: mapping that fits both.
        conventions: how accesses are counted.
        line: number of the line it stood on [1-based], 0 if none.
    """

    layer: Layer
    core: Core
    mapping: Mapping
    conventions: Conventions = TIMELOOP
    line: int = 0


def case_schema() -> dict[str, Any]:
    """JSON Schema of one line of a file of cases."""
    schema = CaseSpec.model_json_schema()
    definitions = schema.pop("$defs", {})
    for key, model in (("core", CoreSpec), ("conventions", ConventionsSpec)):
        part = model.model_json_schema()
        definitions.update(part.pop("$defs", {}))
        definitions[model.__name__] = part
        reference = {"$ref": f"#/$defs/{model.__name__}"}
        names: dict[str, Any] = {"type": "string"}
        if key == "conventions":
            names["enum"] = list(CONVENTIONS)
        schema["properties"][key]["anyOf"] = [names, reference]
    return {**schema, "$defs": definitions}


def read_cases(path: str | os.PathLike[str]) -> Iterator[Case]:
    """The cases of a file of JSON lines, one after the other; blank lines are passed over.

    Args:
        path: file to read, UTF-8.

    Yields:
        Checked cases.

    Raises:
        InputError: naming file, line, key, value and what is allowed.
    """
    path = Path(path)
    load = functools.lru_cache(maxsize=64)(load_core)
    try:
        with path.open(encoding="utf-8") as stream:
            number, found = 0, False
            while line := stream.readline(MAX_LINE_CHARS + 1):
                number += 1
                if len(line) > MAX_LINE_CHARS:
                    raise InputError("line too long", file=path, line=number)
                if line.strip():
                    found = True
                    yield _parse(line, path, number, load)
            if not found:
                raise InputError("holds no case", file=path, allowed="one case a line, as JSON")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text at byte {error.start}", file=path) from error


def evaluate_cases(cases: Iterable[Case]) -> list[Cost]:
    """What each case costs, in order; many at once cost little more than one.

    Raises:
        InputError: a case does not fit together.
    """
    cases = list(cases)
    alike: dict[Conventions, list[int]] = {}
    for index, case in enumerate(cases):
        alike.setdefault(case.conventions, []).append(index)
    costs: dict[int, Cost] = {}
    for conventions, indices in alike.items():
        parts = [(cases[i].layer, cases[i].core, cases[i].mapping) for i in indices]
        costs.update(zip(indices, evaluate_many(parts, conventions), strict=True))
    return [costs[index] for index in range(len(cases))]


def build_case(data: Any, file: object = None, line: int = 0, load: Any = load_core) -> Case:
    """The case that one JSON object describes.

    Args:
        data: the object.
        file: named in errors; core paths are relative to the current folder.
        line: number of its line [1-based].
        load: how cores are loaded by name or path.

    Raises:
        InputError: naming file, line, key, value and what is allowed.
    """
    try:
        spec = validate(CaseSpec, data, None)
        layer = Layer(**spec.layer.model_dump())
        if isinstance(spec.core, str):
            try:
                core = load(spec.core)
            except InputError as error:
                raise under(error, error.file, "core") from error
        else:
            core = build_core(spec.core, None, "core")
        mapping = Mapping(
            loops=tuple(spec.mapping.loops),
            stored={str(operand): at for operand, at in spec.mapping.stored.items()},
            spatial={axis: tuple(factors) for axis, factors in spec.mapping.spatial.items()},
        )
        check_mapping(layer, core, mapping)
        conventions = build_conventions(spec.conventions)
    except InputError as error:
        raise InputError(
            error.message,
            file=error.file or file,
            key=error.key,
            value=error.value,
            allowed=error.allowed,
            line=line or None,
        ) from error
    return Case(layer, core, mapping, conventions, line)


def build_conventions(data: str | dict[str, Any]) -> Conventions:
    """Conventions by the name of a tool, or option by option.

    Raises:
        InputError: a name, option or value is unknown.
    """
    if isinstance(data, dict):
        try:
            return Conventions(**validate(ConventionsSpec, data, None).model_dump())
        except InputError as error:
            raise under(error, None, "conventions") from error
    if data not in CONVENTIONS:
        raise InputError(key="conventions", value=data, allowed=CONVENTIONS)
    return CONVENTIONS[data]


def _parse(text: str, file: Path, number: int, load: Any) -> Case:
    try:
        data = json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", file=file, line=number) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", file=file, line=number) from error
    return build_case(data, file, number, load)


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key {key!r}")
        result[key] = value
    return result


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number")
