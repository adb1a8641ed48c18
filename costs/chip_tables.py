"""Cost tables of a workload on a chip: each layer at each width, hardware point and set of homes.

The tables are made block by block, a block being one family of layers (a layer, or the reduce or
expand convolutions of a boundary at all widths) on one core type; `assemble` joins them into a
`Problem`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from costs.chip import Chip
from costs.chip_cost import STREAMING_SHARE
from costs.core import Core
from costs.errors import InputError
from costs.layer import Layer
from costs.problem import VARIANTS, Boundary, Problem, layout
from costs.tables import layer_table
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
        only: widths [boundaries] and knobs [types, 3] of one design, the only one wanted.
    """
    families: list[tuple[Layer, str | None, int, tuple[int, ...]]]
    families = [(layer, None, 1, (1,)) for layer in workload.layers]
    for number, boundary in enumerate(boundaries):
        rows = len(boundary.reduce)
        wanted = tuple(range(1, rows + 1))
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
) -> Problem:
    """A workload on a chip with all its cost tables, or with those of one design alone."""
    blocks = list_blocks(boundaries, workload, chip, only)
    return assemble(
        workload, boundaries, chip, blocks, [calc_block(block, chip, objective) for block in blocks]
    )


def level_names(chip: Chip) -> tuple[str, ...]:
    """Names of the memory levels of all core types, outermost first."""
    return tuple(dict.fromkeys(level.name for t in chip.types for level in t.core.levels))


def with_dram(core: Core, chip: Chip) -> Core:
    """A core whose DRAM has the energy and the bandwidth that the chip says."""
    dram = core.level("dram")
    energy_pj = dram.width_bits * chip.dram_energy_pj_per_bit
    dram = replace(
        dram,
        read_energy_pj=energy_pj,
        write_energy_pj=energy_pj,
        bandwidth=chip.dram_bandwidth_bytes_per_s / core.clock_hz,
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
        [rows, points, variants, metrics] float64: MAC energy [pJ], energy of each level [pJ],
        cycles, DRAM bytes; infinite where no mapping fits or none is wanted.
    """
    core_type, names = chip.types[block.kind], level_names(chip)
    count = math.prod(len(indices) for indices in block.points)
    table = np.full((block.rows, count, len(VARIANTS), 3 + len(names)), np.inf)
    if not block.wanted:
        return table
    rows = [width - 1 for width in block.wanted]
    hardware = {
        name: tuple(values[i] for i in indices)
        for (name, values, _), indices in zip(core_type.knobs, block.points, strict=True)
    }
    if len({axis.size for axis in core_type.core.axes}) > 1:
        del hardware["array"]  # an array that is not square stays as it is
    for number, variant in enumerate(VARIANTS):
        homes = {} if "spilled" in variant else {"I": "global_buffer", "O": "global_buffer"}
        shares = {}
        if "resident" in variant:
            homes["W"] = "weight_buffer"
        else:
            shares["weight_buffer"] = STREAMING_SHARE
        found = layer_table(
            block.layer,
            with_dram(core_type.core, chip),
            widths={} if block.dim is None else {block.dim: block.wanted},
            hardware=hardware,
            homes=homes,
            shares=shares,
            objective=objective,
            cache_dir=cache_dir,
        )
        flat = (len(rows), count)
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
            found.cycles,
            moved[..., 0] + moved[..., 1] + moved[..., 2],
        ]
        for i, values in enumerate(metrics):
            table[rows, :, number, i] = np.where(found.feasible, values, np.inf).reshape(flat)
    return table


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
        InputError: if a core type has no source for its area.
    """
    rows, slots, edges = layout(workload, boundaries)
    points = [t.points() for t in chip.types]
    offset = np.cumsum([0, *(len(p) for p in points)])
    names = level_names(chip)
    if joined is None:
        whole = np.full((len(rows), offset[-1], len(VARIANTS), 3 + len(names)), np.inf)
        row = 0
        for block, table in zip(blocks, tables, strict=True):
            row = row if row < len(rows) else 0
            every = {point: i for i, point in enumerate(points[block.kind])}
            columns = [offset[block.kind] + every[p] for p in itertools.product(*block.points)]
            whole[row : row + block.rows, columns] = table
            row += block.rows
        joined = whole.reshape(-1, whole.shape[-1])
    cores = [t.at(point) for t, ps in zip(chip.types, points, strict=True) for point in ps]
    areas = [core.area_mm2 for core in cores]
    for kind, first in zip(chip.types, offset, strict=False):
        if areas[first] is None:
            raise InputError("no source gives its area", key=f"core_types.{kind.name}")
    buffers = [core.level("global_buffer") for core in cores]
    return Problem(
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
    )
