"""Cost tables of a workload on a chip: each layer at each width, hardware point and set of homes.

The tables are made block by block, a block being one family of layers (a layer, or the reduce or
expand convolutions of a boundary at all widths) on one core type; `assemble` joins them into a
`Problem`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from costs.chip import LINK_WIDTH, SIDES, Chip
from costs.chip_cost import STREAMING_SHARE
from costs.core import Core
from costs.encode import MappingArrays, encode_core, encode_layer, encode_mapping
from costs.errors import InputError
from costs.hardware_points import Same
from costs.layer import Layer
from costs.mapping import Mapping
from costs.problem import FIXED_METRICS, VARIANTS, Boundary, Problem, layout
from costs.tables import LayerTable, layer_table
from costs.tiles import calc_tiles
from costs.workload import Workload


@dataclass(frozen=True)
class Block:
    """A family of layers on one core type. Static argument.

    Attributes:
        layer: any of the layers.
        dim: the dimension in which they differ, K or C; None for a single layer.
        rows: number of layers, of widths 1 to `rows` where there is a `dim`.
        wanted: the widths that are needed; the other rows stay infinite.
        kind: index of the core type.
        points: grid indices of each knob that are needed; their product is.
    """

    layer: Layer
    dim: str | None
    rows: int
    wanted: tuple[int, ...]
    kind: int
    points: tuple[tuple[int, ...], ...]

    @property
    def content(self) -> Block:
        """The block whatever its layer is called: blocks of equal content have equal tables."""
        return replace(self, layer=replace(self.layer, name=""))


def list_blocks(
    boundaries: tuple[Boundary, ...],
    workload: Workload,
    chip: Chip,
    only: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Block]:
    """The blocks of a table, in the order of its rows and types.

    Args:
        boundaries: bottlenecks.
        workload: layers and tensors.
        chip: core types.
        only: widths [boundaries] and knobs [types, knobs] of one design, the only one wanted.
    """
    families: list[tuple[Layer, str | None, int, tuple[int, ...]]]
    families = [(layer, None, 1, (1,)) for layer in workload.layers]
    for number, boundary in enumerate(boundaries):
        rows = len(boundary.reduce)
        wanted = tuple(w for w in range(1, rows + 1) if boundary.width in (None, w))
        if only is not None:
            wanted = tuple(w for w in wanted if w == only[0][number])
        if rows:
            families.append((boundary.reduce[0], "K", rows, wanted))
            families.append((boundary.expand[0], "C", rows, wanted))
    blocks = []
    for kind, core_type in enumerate(chip.types):
        points = tuple(tuple(range(n)) for n in core_type.shape)
        if only is not None:
            points = tuple((int(i),) for i in only[1][kind])
        blocks += [Block(*family, kind, points) for family in families]
    return blocks


def build_problem(
    workload: Workload,
    boundaries: tuple[Boundary, ...],
    chip: Chip,
    objective: str,
    only: tuple[np.ndarray, np.ndarray] | None = None,
    cache_dir: Path | None = None,
    follow: Callable[[Sequence[Block]], Iterable[Block]] = iter,
) -> Problem:
    """A workload on a chip with all its cost tables, or with those of one design alone.

    Args:
        workload, boundaries, chip, objective: as in `assemble` and `calc_block`.
        only: widths and knobs of the one design.
        cache_dir: where tables are kept; None computes anew.
        follow: goes through the blocks, say with a bar; each may take seconds.
    """
    blocks = list_blocks(boundaries, workload, chip, only)
    tables: dict[Block, np.ndarray] = {}
    for block in follow(blocks):
        if block.content not in tables:
            tables[block.content] = calc_block(block, chip, objective, cache_dir)
    return assemble(workload, boundaries, chip, blocks, [tables[block.content] for block in blocks])


def level_names(chip: Chip) -> tuple[str, ...]:
    """Names of the memory levels of all core types, outermost first."""
    return tuple(dict.fromkeys(level.name for t in chip.types for level in t.core.levels))


def with_dram(core: Core, chip: Chip) -> Core:
    """A core whose DRAM has the energy and the bandwidth that the chip says."""
    return _with_dram(Same(core), chip.dram_energy_pj_per_bit, chip.dram_bandwidth_bytes_per_s)


@functools.lru_cache(maxsize=32)
def _with_dram(item: Same, energy_pj_per_bit: float, bandwidth_bytes_per_s: float) -> Core:
    core, dram = item.core, item.core.level("dram")
    energy_pj = dram.width_bits * energy_pj_per_bit
    dram = replace(
        dram,
        read_energy_pj=energy_pj,
        write_energy_pj=energy_pj,
        bandwidth=bandwidth_bytes_per_s / core.clock_hz,
        read_bandwidth=math.inf,
        write_bandwidth=math.inf,
    )
    return replace(core, levels=tuple(dram if k.name == "dram" else k for k in core.levels))


def calc_block(
    block: Block, chip: Chip, objective: str, cache_dir: Path | None = None
) -> np.ndarray:
    """The table of one block.

    Args:
        block: layers, core type, hardware points.
        chip: the chip.
        objective: what a mapping is best in: `energy`, `latency` or `edp`.
        cache_dir: where tables are kept; None computes anew.

    Returns:
        [rows, points, variants, metrics] float64, see `costs.problem.Problem.table`; infinite
        where no mapping fits or none is wanted.
    """
    core_type, names = chip.types[block.kind], level_names(chip)
    core = with_dram(core_type.core, chip)
    # ports do not change what a mapping costs: the entries of one width serve all
    ported = core_type.knobs[-1][0] == LINK_WIDTH
    widths = len(block.points[-1]) if ported else 1
    count = math.prod(len(indices) for indices in block.points)
    table = np.full((block.rows, count, len(VARIANTS), FIXED_METRICS + len(names)), np.inf)
    if not block.wanted:
        return table
    rows = [width - 1 for width in block.wanted]
    hardware = {
        name: tuple(values[i] for i in indices)
        for (name, values, _), indices in zip(core_type.knobs, block.points, strict=True)
        if name != LINK_WIDTH and (name not in SIDES or name in [a.name for a in core.axes])
    }
    if len({axis.size for axis in core_type.core.axes}) > 1:
        hardware.pop("array", None)  # an array that is not square stays as it is
    for number, variant in enumerate(VARIANTS):
        homes = {} if "spilled" in variant else {"I": "global_buffer", "O": "global_buffer"}
        shares = {}
        if "resident" in variant:
            homes["W"] = "weight_buffer"
        else:
            shares["weight_buffer"] = STREAMING_SHARE
        found = layer_table(
            block.layer,
            core,
            widths={} if block.dim is None else {block.dim: block.wanted},
            hardware=hardware,
            homes=homes,
            shares=shares,
            objective=objective,
            cache_dir=cache_dir,
        )
        flat = (len(rows), count // widths)
        dram = found.levels.index("dram")
        moved = found.read_bytes[..., dram, :] + found.write_bytes[..., dram, :]
        metrics = [
            found.mac_energy_pj,
            *(
                found.level_energy_pj[..., found.levels.index(name)]
                if name in found.levels
                else 0.0 * found.cycles
                for name in names
            ),
            *calc_cycle_parts(block, core.with_homes(**homes), found),
            found.cycles,
            moved[..., 0] + moved[..., 1] + moved[..., 2],
        ]
        for i, values in enumerate(metrics):
            entries = np.where(found.feasible, values, np.inf).reshape(flat)
            table[rows, :, number, i] = np.repeat(entries, widths, axis=1)
    return table


def calc_cycle_parts(block: Block, core: Core, found: LayerTable) -> tuple[np.ndarray, np.ndarray]:
    """Cycles of computation and of the core's own memories at every entry of a block's table.

    Together with those of DRAM, the largest is the entry's cycles (eq. 12 of the theory).

    Args:
        block: the family of layers.
        core: its core, operands at their homes.
        found: the table, `[*widths, *hardware]`.

    Returns:
        compute and memory cycles, in the shape of `found.cycles`.
    """
    own = [level for level in range(len(core.levels)) if core.levels[level].name != "dram"]
    best = found.best.reshape(len(block.wanted), -1)
    steps, used = np.ones(best.shape), np.ones((*best.shape, len(core.levels)))
    if found.mappings:
        longest = max(len(mapping.loops) for mapping in found.mappings)
        reach = {a.name: max(_extent(m, a.name) for m in found.mappings) for a in core.axes}
        widest = core.scaled(axes=reach)
        for row, width in enumerate(block.wanted):
            layer = block.layer if block.dim is None else replace(block.layer, **{block.dim: width})
            chosen, which = np.unique(best[row], return_inverse=True)
            arrays = [
                encode_mapping(
                    layer, widest, found.mappings[i], loops=longest, digits=longest + len(core.axes)
                )
                for i in chosen
            ]
            tiles = calc_tiles(
                encode_layer(layer),
                encode_core(widest, layer),
                MappingArrays(*map(np.stack, zip(*arrays, strict=True))),
                np,
            )
            steps[row], used[row] = tiles.steps[which], tiles.used[which, :-1]
    busy = used.reshape(*found.best.shape, -1)
    read, written = found.read_bytes.sum(-1) / busy, found.write_bytes.sum(-1) / busy
    memory = np.zeros(found.best.shape)
    for level in own:
        kind = core.levels[level]
        for moved, rate in (
            (read, kind.read_bandwidth),
            (written, kind.write_bandwidth),
            (read + written, kind.bandwidth),
        ):
            memory = np.maximum(memory, moved[..., level] / rate)
    return steps.reshape(found.best.shape), memory


def _extent(mapping: Mapping, axis: str) -> int:
    """PEs along an axis that a mapping unrolls over."""
    return math.prod(factor for _, factor in mapping.spatial.get(axis, ()))


def _refuse_misfits(problem: Problem) -> None:
    """Raises InputError for the first layer that runs on no core.

    Weights that stay must fit the weight buffer, activations that stay the global buffer; others
    must have a mapping that streams them.
    """
    table = problem.table.reshape(len(problem.rows), -1, len(VARIANTS), problem.table.shape[-1])
    for number, layer in enumerate(problem.workload.layers):
        stays = layer.bytes("W") <= problem.weight_buffer_bytes
        held = layer.bytes("I") + layer.bytes("O") <= problem.global_buffer_bytes
        allowed = np.stack([stays & held, stays, held, np.ones_like(held)], axis=1)  # as VARIANTS
        if not (allowed & np.isfinite(table[number, ..., 0])).any():
            raise InputError(
                f"layer {layer.name} fits no core of chip {problem.chip.name}, even streamed",
                key="core_types",
                value=", ".join(f"{dim}={layer.bounds[dim]}" for dim in "KCPQRS"),
                allowed="a core with a larger weight_buffer or global_buffer, or larger memories "
                "below them",
            )


def assemble(
    workload: Workload,
    boundaries: tuple[Boundary, ...],
    chip: Chip,
    blocks: Sequence[Block],
    tables: Sequence[np.ndarray],
    joined: np.ndarray | None = None,
) -> Problem:
    """A problem from the tables of its blocks, or from the table of a problem assembled before.

    Raises:
        InputError: if a core type has no source for its area, or a layer fits no core.
    """
    rows, slots, edges = layout(workload, boundaries)
    points = [t.points() for t in chip.types]
    offset = np.cumsum([0, *(len(p) for p in points)])
    names = level_names(chip)
    if joined is None:
        whole = np.full((len(rows), offset[-1], len(VARIANTS), FIXED_METRICS + len(names)), np.inf)
        row = 0
        for block, table in zip(blocks, tables, strict=True):
            row = row if row < len(rows) else 0
            every = {point: i for i, point in enumerate(points[block.kind])}
            columns = [offset[block.kind] + every[p] for p in itertools.product(*block.points)]
            whole[row : row + block.rows, columns] = table
            row += block.rows
        joined = whole.reshape(-1, whole.shape[-1])
    cores = [t.at(point) for t, ps in zip(chip.types, points, strict=True) for point in ps]
    areas = [t.area_mm2(point) for t, ps in zip(chip.types, points, strict=True) for point in ps]
    for kind, first in zip(chip.types, offset, strict=False):
        if areas[first] is None:
            raise InputError("no source gives its area", key=f"core_types.{kind.name}")
    buffers = [core.level("global_buffer") for core in cores]
    ports = np.array(
        [t.port_bytes_per_s(p) for t, ps in zip(chip.types, points, strict=True) for p in ps]
    )
    problem = Problem(
        workload=workload,
        boundaries=boundaries,
        chip=chip,
        rows=rows,
        slots=slots,
        edges=edges,
        levels=names,
        table=joined,
        hardware_offset=offset[:-1],
        global_buffer_bytes=np.array([b.total_capacity_bytes for b in buffers]),
        weight_buffer_bytes=np.array(
            [core.level("weight_buffer").total_capacity_bytes for core in cores]
        ),
        area_mm2=np.array(areas, float),
        leakage_w=np.array([core.total_leakage_w for core in cores]),
        buffer_read_pj=np.array([8.0 * b.read_energy_pj / b.width_bits for b in buffers]),
        buffer_write_pj=np.array([8.0 * b.write_energy_pj / b.width_bits for b in buffers]),
        port_bytes_per_s=None if np.isinf(ports).all() else ports,
    )
    _refuse_misfits(problem)
    return problem
