"""One discrete design as a file, and its cost from that file alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costs import strict_yaml
from costs.chip import Chip
from costs.chip_cost import calc_chip_cost
from costs.chip_report import as_rows, calc_core_load, calc_inputs, calc_link_load
from costs.chip_tables import build_problem
from costs.errors import InputError
from costs.pipeline import FOLLOWED, list_operations, run_inputs
from costs.problem import Boundary, Problem
from costs.tables import default_cache_dir
from dse.config import Experiment, parse_config
from dse.context import Context, make_context
from dse.data import DataSet, load_data, outline_data
from dse.rundir import write_atomically

SCHEMA = "narrows-design-1"


@dataclass(frozen=True)
class Design:
    """A discrete design: everything that its cost and its accuracy follow from.

    Attributes:
        id: name within its run.
        experiment: resolved configuration (network, chip, objective of the mappings).
        widths: boundary -> channels that cross; all channels means uncompressed.
        assignment: layer -> core.
        hardware: core type -> knob -> size (PEs of a side, bytes).
        preference: what it was optimized for: term -> weight.
    """

    id: str
    experiment: dict[str, Any]
    widths: dict[str, int]
    assignment: dict[str, str]
    hardware: dict[str, dict[str, int]]
    preference: dict[str, float]

    def save(self, path: Path) -> None:
        """Write the design as YAML."""
        write_atomically(path, strict_yaml.dumps({"schema": SCHEMA, **asdict(self)}).encode())


def load_design(path: str | Path) -> Design:
    """Read a design.

    Raises:
        InputError: naming file and key, if it is not one.
    """
    document = strict_yaml.load(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else document
        raise InputError(file=path, key="schema", value=found, allowed=SCHEMA)
    fields = set(Design.__dataclass_fields__)
    for key in sorted(fields ^ (set(document) - {"schema"})):
        problem = "is required" if key in fields else "unknown key"
        raise InputError(problem, file=path, key=key, allowed=", ".join(sorted(fields)))
    for key in sorted(fields - {"id"}):
        if not isinstance(document[key], dict):
            raise InputError(file=path, key=key, value=document[key], allowed="a mapping")
    if not isinstance(document["id"], str):
        raise InputError(file=path, key="id", value=document["id"], allowed="a name")
    return Design(**{key: document[key] for key in fields})


def describe(
    context: Context,
    name: str,
    widths: np.ndarray,
    knobs: np.ndarray,
    assignment: np.ndarray,
    preference: dict[str, float],
) -> Design:
    """The design of arrays: widths [boundaries], knobs [types, knobs], assignment [layers]."""
    boundaries, chip = context.boundaries, context.chip
    return Design(
        id=name,
        experiment=context.config.model_dump(mode="json"),
        widths={b.name: int(w) for b, w in zip(boundaries, widths, strict=True)},
        assignment={
            layer.name: chip.core_names[core]
            for layer, core in zip(context.workload.layers, assignment, strict=True)
        },
        hardware={
            kind.name: {
                knob: values[index]
                for (knob, values, _), index in zip(kind.knobs, knobs[t], strict=True)
            }
            for t, kind in enumerate(chip.types)
        },
        preference=preference,
    )


@dataclass(frozen=True)
class PlacedDesign:
    """A design bound to its network and chip, ready to be evaluated.

    Attributes:
        design: the design.
        context: its experiment.
        problem: tables that hold the entries it needs.
        widths: [boundaries] integers.
        knobs: [types, knobs] grid indices.
        assignment: [layers] core indices.
    """

    design: Design
    context: Context
    problem: Problem
    widths: np.ndarray
    knobs: np.ndarray
    assignment: np.ndarray

    def costs(self) -> dict[str, Any]:
        """All costs, arrays with one design."""
        return calc_chip_cost(
            self.problem, self.widths[:, None], self.assignment[:, None], self.knobs[:, :, None]
        )


def place(
    design: Design, file: object = None, load: Callable[[str], DataSet] = load_data
) -> PlacedDesign:
    """Bind a design to its network and chip; only the table entries it needs are computed.

    Args:
        design: the design.
        file: where it comes from, for errors.
        load: gives the data set of a name; `outline_data` where no picture is looked at.

    Raises:
        InputError: naming the key, if a width, core or size is not one of its experiment's.
    """
    config: Experiment = parse_config(design.experiment, file=file)
    context = make_context(config, load)
    boundaries = [boundary.name for boundary in context.boundaries]
    _refuse_unknown(design.widths, boundaries, "widths", file)
    layers = [layer.name for layer in context.workload.layers]
    _refuse_unknown(design.assignment, layers, "assignment", file)
    kinds = [kind.name for kind in context.chip.types]
    _refuse_unknown(design.hardware, kinds, "hardware", file)
    widths = []
    for boundary in context.boundaries:
        width = design.widths.get(boundary.name)
        if type(width) is not int or not _is_width(width, boundary):
            raise InputError(
                file=file,
                key=f"widths.{boundary.name}",
                value=width,
                allowed=f"1 to {len(boundary.reduce)}, or {boundary.channels} for uncompressed",
            )
        widths.append(width)
    cores = {name: i for i, name in enumerate(context.chip.core_names)}
    assignment = []
    for layer in context.workload.layers:
        core = design.assignment.get(layer.name)
        if not isinstance(core, str) or core not in cores:
            raise InputError(
                file=file, key=f"assignment.{layer.name}", value=core, allowed=", ".join(cores)
            )
        assignment.append(cores[core])
    knobs = [_knob_indices(context.chip, t, design, file) for t in range(len(context.chip.types))]
    problem = build_problem(
        context.workload,
        context.boundaries,
        context.chip,
        objective=config.mapping_objective,
        only=(np.array(widths), np.array(knobs)),
        cache_dir=default_cache_dir(),
    )
    return PlacedDesign(
        design, context, problem, np.array(widths), np.array(knobs), np.array(assignment)
    )


def _refuse_unknown(given: dict, known: Iterable[str], section: str, file: object) -> None:
    """Raises InputError, naming the key, if a section of a design names what is not there."""
    for key in given:
        if key not in known:
            raise InputError("unknown key", file=file, key=f"{section}.{key}", allowed=list(known))


def _is_width(width: int, boundary: Boundary) -> bool:
    return 1 <= width <= len(boundary.reduce) or width == boundary.channels


def _knob_indices(chip: Chip, kind: int, design: Design, file: object) -> list[int]:
    core_type = chip.types[kind]
    given = design.hardware.get(core_type.name)
    if not isinstance(given, dict):
        key = f"hardware.{core_type.name}"
        raise InputError(file=file, key=key, value=given, allowed="a mapping of knobs to sizes")
    known = [knob for knob, _, _ in core_type.knobs]
    _refuse_unknown(given, known, f"hardware.{core_type.name}", file)
    indices = []
    for knob, values, _ in core_type.knobs:
        if type(given.get(knob)) is not int or given[knob] not in values:
            raise InputError(
                file=file,
                key=f"hardware.{core_type.name}.{knob}",
                value=given.get(knob),
                allowed=", ".join(map(str, values)),
            )
        indices.append(values.index(given[knob]))
    return indices


COST_COLUMNS = (
    "io_bytes",
    "link_bytes",
    "dram_bytes",
    "energy_pj",
    "latency_s",
    "interval_s",
    "throughput_per_s",
    "area_mm2",
    "cores_used",
)


def cost_columns(costs: dict[str, Any], design: int) -> dict[str, float]:
    """The costs of one design as they stand in front.csv: totals, then energy by part."""
    throughput = {**costs, "throughput_per_s": 1.0 / costs["interval_s"]}
    row = {name: float(throughput[name][design]) for name in COST_COLUMNS}
    parts = [n for n in costs if n.startswith("energy_") and n != "energy_pj"]
    return row | {name: float(costs[name][design]) for name in parts}


def evaluate_design(path: str | Path, inputs: int = 1) -> dict[str, Any]:
    """Cost of the design in a file, from that file alone.

    Args:
        path: the file.
        inputs: how many inputs are there at once.

    Returns:
        `costs` (the columns of front.csv), `slots` (one row for each layer, reduce and expand:
        core, start for each input and duration [s], energy by part [pJ], whether its weights
        stay and its activations spill), `links` (bytes on each link), `cores` (type of each core),
        `channels` (of each boundary), `per_core` and `per_link` (rows of `costs.chip_report`; the
        DRAM is the last of the links), `inputs` (latency and energy of so many).
    """
    placed = place(load_design(path), path, outline_data)
    costs = placed.costs()
    problem = placed.problem
    arrays = placed.assignment[:, None], placed.knobs[:, :, None]
    operations = list_operations(problem, costs, arrays[0], 0)
    followed = run_inputs(operations, min(inputs, FOLLOWED))
    starts_s = {o.slot: [mine[j] for mine in followed] for j, o in enumerate(operations)}
    slots = []
    for i, slot in enumerate(problem.slots):
        if not bool(costs["slot_active"][i, 0]):
            continue
        row = problem.rows[slot.row]
        slots.append(
            {
                "layer": row.name,
                "kind": slot.kind,
                "core": problem.chip.core_names[int(costs["slot_core"][i, 0])],
                "starts_s": starts_s[i],
                "time_s": float(costs["slot_time_s"][i, 0]),
                "energy_pj": float(costs["slot_energy_pj"][i, 0]),
                "energy_parts_pj": {
                    part: float(costs["slot_parts_pj"][j][i, 0])
                    for j, part in enumerate(("mac", *problem.levels))
                },
                "dram_bytes": float(costs["slot_dram_bytes"][i, 0]),
                "weights_resident": bool(costs["slot_resident"][i, 0]),
                "activations_spilled": bool(costs["slot_spilled"][i, 0]),
            }
        )
    links = {
        link.name: float(costs["each_link_bytes"][n, 0])
        for n, link in enumerate(problem.chip.links)
    }
    load, ways = (
        calc_core_load(problem, costs, *arrays),
        calc_link_load(problem, costs, arrays[0]),
    )
    several = calc_inputs(problem, costs, arrays[0], inputs)
    return {
        "id": placed.design.id,
        "costs": cost_columns(costs, 0),
        "slots": slots,
        "links": links,
        "cores": {n: problem.chip.types[t].name for n, t in problem.chip.cores},
        "channels": {boundary.name: boundary.channels for boundary in problem.boundaries},
        "per_core": as_rows(load, problem.chip.core_names, 0),
        "per_link": as_rows(ways, (*links, "dram"), 0),
        "inputs": {"count": inputs} | {name: float(value[0]) for name, value in several.items()},
    }
