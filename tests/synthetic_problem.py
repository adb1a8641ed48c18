"""A small residual workload on a chip with made-up layer costs, for tests of what uses them."""

from dataclasses import replace

import numpy as np

from costs.chip import Chip, CoreType, Link
from costs.core import Axis, Core, MemoryLevel
from costs.layer import Layer
from costs.problem import Boundary, Problem, layout
from costs.workload import Tensor, Workload

LEVELS = ("dram", "weight_buffer", "global_buffer", "register")


def make_core(name: str) -> Core:
    """A core with the levels that a chip needs; its energies are not used."""
    levels = (
        MemoryLevel("dram"),
        MemoryLevel("weight_buffer", operands=("W",), capacity_bytes=1024),
        MemoryLevel("global_buffer", operands=("I", "O"), capacity_bytes=1024),
    )
    return Core(name, levels, axes=(Axis("rows", 4), Axis("columns", 4)), clock_hz=1e8)


def make_workload(blocks: int = 3, channels: int = 8, size: int = 4) -> Workload:
    """Stem, then residual blocks of two convolutions: 1 + 2 * blocks layers."""
    shape = (size, size, channels)
    layers = [Layer("stem", K=channels, C=1, P=size, Q=size, R=3, S=3, padding=((1, 1), (1, 1)))]
    elements = size * size * channels
    tensors = [Tensor("input", -1, (0,), size * size, 8, (size, size, 1))]
    for block in range(blocks):
        first = 1 + 2 * block
        for part in (1, 2):
            layers.append(replace(layers[0], name=f"block{block}.conv{part}", C=channels))
        consumers = (first, first + 1)
        tensors.append(
            Tensor(
                f"x{block}",
                first - 1,
                consumers,
                elements,
                8,
                shape,
                f"b{block}",
                fused=(first + 1,),
            )
        )
        tensors.append(Tensor(f"m{block}", first, (first + 1,), elements, 8, shape))
    tensors.append(Tensor("out", 2 * blocks, (), elements, 8, shape, output=True))
    tensors.sort(key=lambda tensor: tensor.producer)
    return Workload("residual", tuple(layers), tuple(tensors))


def make_boundaries(workload: Workload) -> tuple[Boundary, ...]:
    """A bottleneck on every tensor that is marked with a boundary."""
    found = []
    for number, tensor in enumerate(workload.tensors):
        if tensor.boundary is None:
            continue
        height, width, channels = tensor.shape
        widths = range(1, channels)
        near = Layer("pair", P=height, Q=width)
        found.append(
            Boundary(
                tensor.boundary,
                number,
                channels,
                height * width,
                8,
                tuple(
                    replace(near, name=f"{tensor.boundary}.reduce", K=w, C=channels) for w in widths
                ),
                tuple(
                    replace(near, name=f"{tensor.boundary}.expand", K=channels, C=w) for w in widths
                ),
            )
        )
    return tuple(found)


def make_chip(cores: int = 4, links: tuple[Link, ...] | None = None) -> Chip:
    """Cores of two types in turn, on one bus unless links are given."""
    types = tuple(
        CoreType(
            name,
            make_core(name),
            (("array", (4, 8), 0), ("global_buffer", (256, 512), 1), ("weight_buffer", weights, 0)),
        )
        for name, weights in (("little", (1024, 2048)), ("big", (2048, 4096)))
    )
    names = tuple(f"core{k}" for k in range(cores))
    bus = Link("bus", names, 1e8, 2.0, 1e-8)
    return Chip(
        "made_up",
        types,
        tuple((name, k % 2) for k, name in enumerate(names)),
        links if links is not None else (bus,),
        dram_bandwidth_bytes_per_s=1e9,
        dram_energy_pj_per_bit=8.0,
        idle_power_w=1e-3,
    )


def make_problem(
    seed: int = 0, blocks: int = 3, cores: int = 4, links: tuple[Link, ...] | None = None
) -> Problem:
    """Random layer costs, in proportion to the MACs."""
    workload, chip = make_workload(blocks), make_chip(cores, links)
    boundaries = make_boundaries(workload)
    rows, slots, edges = layout(workload, boundaries)
    points = [t.points() for t in chip.types]
    count = sum(map(len, points))
    rng = np.random.default_rng(seed)
    table = rng.uniform(1, 2, (len(rows), count, 4, 3 + len(LEVELS)))
    table *= np.array([row.macs for row in rows])[:, None, None, None]
    table[..., :2, -1] = 0.0  # resident weights and nothing spilled: see the next line
    table[..., 1:, -1] = rng.uniform(100, 200, (len(rows), count, 3))
    cycles = table[..., -2:-1]  # bound by computation; the core's own memories take half of it
    table = np.concatenate([table[..., :-2], cycles, 0.5 * cycles, table[..., -2:]], axis=-1)

    def sizes(knob: int) -> np.ndarray:
        return np.array(
            [
                t.knobs[knob][1][p[knob]]
                for t, ps in zip(chip.types, points, strict=True)
                for p in ps
            ],
            float,
        )

    return Problem(
        workload,
        boundaries,
        chip,
        rows,
        slots,
        edges,
        LEVELS,
        table.reshape(-1, table.shape[-1]),
        np.array([0, len(points[0])]),
        global_buffer_bytes=sizes(1),
        weight_buffer_bytes=sizes(2),
        area_mm2=rng.uniform(0.1, 1.0, count),
        leakage_w=rng.uniform(1e-4, 1e-3, count),
        buffer_read_pj=rng.uniform(0.1, 1.0, count),
        buffer_write_pj=rng.uniform(0.1, 1.0, count),
    )


def random_designs(problem: Problem, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Widths [boundaries, count], assignment [layers, count], knobs [types, 3, count]."""
    rng = np.random.default_rng(seed)
    widths = np.stack([rng.integers(1, c + 1, count) for c in problem.max_widths])
    layers, cores = len(problem.workload.layers), len(problem.chip.cores)
    assignment = rng.integers(0, cores, (layers, count))
    knobs = np.stack(
        [np.stack([rng.integers(0, n, count) for n in shape]) for shape in problem.knob_shape]
    )
    return widths, assignment, knobs
