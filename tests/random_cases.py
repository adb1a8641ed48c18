"""Random layers, cores, mappings and transfers, and the loop walker's counts of mappings."""

from dataclasses import replace
from typing import Any

import numpy as np
from oracle import Nest, walk

from costs.assignment_instance import CoreCosts
from costs.conventions import Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.encode import encode_mapping
from costs.errors import InputError
from costs.layer import DIMS, Layer
from costs.mapping import Mapping, axis_position

MAX_POINTS = 72


def random_layer(rng) -> Layer:
    """A layer of few points: any dimension may be larger than one, and prime."""
    while True:
        bounds = {dim: int(rng.choice([1, 1, 2, 3, 4, 5])) for dim in DIMS}
        if rng.random() < 0.7:
            bounds["G"] = 1
        if np.prod(list(bounds.values())) <= MAX_POINTS:
            break
    kind = "conv"
    if rng.random() < 0.1:
        kind, bounds["K"] = str(rng.choice(["pool", "elementwise"])), 1
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    dilation = tuple(int(s) for s in rng.integers(1, 3, 2))
    window = [
        (bounds[out] - 1) * stride[i] + (bounds[kernel] - 1) * dilation[i] + 1
        for i, (out, kernel) in enumerate((("P", "R"), ("Q", "S")))
    ]
    low = [int(rng.integers(0, min(3, w))) for w in window]
    high = [int(rng.integers(0, min(3, w - n))) for w, n in zip(window, low, strict=True)]
    options: dict[str, Any] = {"stride": stride, "dilation": dilation, "kind": kind}
    return Layer(
        "random",
        N=bounds["N"],
        K=bounds["K"] * bounds["G"],
        C=bounds["C"] * bounds["G"],
        P=bounds["P"],
        Q=bounds["Q"],
        R=bounds["R"],
        S=bounds["S"],
        groups=bounds["G"],
        padding=((low[0], high[0]), (low[1], high[1])),
        **options,
    )


def random_core(rng):
    """A core of one to four levels and up to two axes, with bypass."""
    axes = tuple(
        Axis(
            name,
            4,
            multicast=tuple(t for t in "WIO" if rng.random() < 0.8),
            reduction=bool(rng.random() < 0.8),
        )
        for name in "xy"[: rng.integers(0, 3)]
    )
    levels = []
    for number in range(rng.integers(1, 5)):
        operands = tuple(t for t in "WIO" if number == 0 or rng.random() < 0.6)
        along = tuple(a.name for a in axes if rng.random() < 0.25 * number)
        levels.append(MemoryLevel(f"l{number}", operands, replicated=along))
    return Core("random", tuple(levels), axes)


def random_mapping(rng, layer, core):
    """Loops in any order, perfect and imperfect, stored unevenly."""
    loops, spatial = [], {axis.name: [] for axis in core.axes}
    for dim, bound in layer.bounds.items():
        left = bound
        if core.axes and rng.random() < 0.4:
            axis = core.axes[rng.integers(len(core.axes))].name
            factor = int(rng.integers(1, 4))
            if np.prod([f for _, f in spatial[axis]], initial=1) * factor <= 4:
                spatial[axis].append((dim, factor))
                left = -(-left // factor)
        while left > 1 and rng.random() < 0.4:
            factor = int(rng.integers(1, left + 1))
            loops.append((dim, factor))
            left = -(-left // factor)
        loops.append((dim, left))
    loops = [loops[i] for i in rng.permutation(len(loops)) if loops[i][1] > 1 or rng.random() < 0.1]
    stored = {}
    for operand in layer.operands:
        chain = core.chain(operand)[1:]
        positions = sorted(int(p) for p in rng.integers(0, len(loops) + 1, len(chain)))
        stored[operand] = dict(zip(chain, positions, strict=True))
    return Mapping(tuple(loops), stored, {name: tuple(part) for name, part in spatial.items()})


def random_case(rng):
    """A (layer, core, mapping) that is allowed."""
    while True:
        try:
            layer, core = random_layer(rng), random_core(rng)
            mapping = random_mapping(rng, layer, core)
            encode_mapping(layer, core, mapping)
        except InputError:
            continue
        return layer, core, mapping


def random_conventions(rng, halo):
    """Any conventions with this halo."""
    options: dict[str, Any] = {
        "padding": str(rng.choice(["counted", "skipped"])),
        "first_read": str(rng.choice(["elided", "at_mac", "counted"])),
    }
    return Conventions(halo=halo, drain_reads=bool(rng.integers(2)), **options)


def walk_case(layer, core, mapping, conventions):
    """The oracle's counts and steps."""
    return walk(make_nest(layer, core, mapping, conventions))


def make_nest(layer, core, mapping, conventions) -> Nest:
    """A case as the oracle sees it."""
    return Nest(
        bounds=layer.bounds,
        loops=mapping.loops,
        axes={
            axis.name: (
                axis_position(layer, core, mapping, axis.name),
                mapping.spatial.get(axis.name, ()),
                "".join(axis.multicast),
                axis.reduction,
            )
            for axis in core.axes
        },
        levels=tuple((v.name, "".join(v.operands), v.replicated) for v in core.levels),
        stored=mapping.stored,
        operands="".join(layer.operands),
        stride=layer.stride,
        dilation=layer.dilation,
        pad=(layer.padding[0][0], layer.padding[1][0]),
        size=(layer.input_height, layer.input_width),
        whole=conventions.halo == "whole",
        skip_padding=conventions.padding == "skipped",
        first_read=conventions.first_read,
        drain_reads=conventions.drain_reads,
    )


def differences(case, conventions, cost):
    """What differs from the oracle, by level, operand and direction."""
    layer, core, mapping = case
    counts, steps = walk_case(layer, core, mapping, conventions)
    found: dict[tuple[str, ...], tuple[float, float]] = {
        ("steps",): (cost.cycles_by_cause["compute"], steps)
    }
    for level, operands in cost.counts.items():
        for operand, words in operands.items():
            for direction, number in words.items():
                found[level, operand, direction] = (number, counts[level, operand, direction])
    return {key: pair for key, pair in found.items() if pair[0] != pair[1]}


def with_transfers(instance, seed):
    """Sending and receiving take time, layers use DRAM: every term of the interval."""
    rng = np.random.default_rng(seed)
    shape = (len(instance.producer), instance.shape[1])
    unit = np.median(instance.layers.time_s)
    layers = replace(instance.layers, dram_bytes=rng.uniform(0, 1e5, instance.shape))
    return replace(
        instance,
        layers=layers,
        send=CoreCosts.of(rng.uniform(0, 0.2 * unit, shape)),
        receive=CoreCosts.of(rng.uniform(0, 0.2 * unit, shape), dram_bytes=1e3),
        dram_bandwidth_bytes_per_s=layers.dram_bytes.sum() / instance.layers.time_s.sum() * 1.5,
    )
