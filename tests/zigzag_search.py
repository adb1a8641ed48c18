"""Our search for mappings that cost little by ZigZag's model, of the layers of its runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from costs.conventions import ZIGZAG
from costs.core import Core
from costs.layer import Layer
from costs.mapper import solve
from costs.mapping import Mapping
from costs.polish import make_price, polish
from tests.zigzag_model import ZigZagModel, to_zigzag_terms
from tests.zigzag_run import make_core

LIMIT_S = 0.1
"""Time of the search for each place of the pins: what it begins with is enough to polish."""


@dataclass(frozen=True)
class Energies:
    """Least energies by ZigZag's model of the mappings found [pJ].

    Attributes:
        same: K and C unrolled exactly as ZigZag does, 128 channels 12.8 times on 14 PEs.
        free: any dimensions and factors unrolled.
    """

    same: float
    free: float


def as_sampled(layer: Layer) -> Layer:
    """A 1x1 layer of stride 2 as ZigZag counts it: pixels between are not there."""
    if (layer.R, layer.S) != (1, 1) or layer.stride == (1, 1):
        return layer
    return replace(layer, stride=(1, 1), input_size=(layer.P, layer.Q), padding=((0, 0), (0, 0)))


def tighten(layer: Layer, mapping: Mapping) -> Mapping:
    """The mapping with the smallest factors that still cover the layer, shrunk from inside."""
    loops = list(mapping.loops)
    for dim, bound in layer.bounds.items():
        unrolled = math.prod(
            factor for part in mapping.spatial.values() for name, factor in part if name == dim
        )
        places = [place for place, (name, _) in enumerate(loops) if name == dim]
        for place in reversed(places):
            others = math.prod(loops[other][1] for other in places if other != place)
            loops[place] = (dim, max(1, math.ceil(math.ceil(bound / unrolled) / others)))
    return replace(mapping, loops=tuple(loops))


def split(bound: int, parts: int) -> list[tuple[int, ...]]:
    """All ways to write a bound as a product of so many factors."""
    if parts == 1:
        return [(bound,)]
    return [
        (factor, *rest)
        for factor in range(1, bound + 1)
        if bound % factor == 0
        for rest in split(bound // factor, parts - 1)
    ]


def count_steps(layer: Layer, core: Core) -> dict[str, int]:
    """Iterations of each unrolled dimension where axes are as full as they can be."""
    return {axis.dims[0]: math.ceil(layer.bounds[axis.dims[0]] / axis.size) for axis in core.axes}


def unroll_fully(layer: Layer, core: Core, mapping: Mapping) -> Mapping:
    """The mapping with its axes as full as they can be and loops near those it had."""
    loops, stored, spatial = list(mapping.loops), mapping.stored, {}
    steps = count_steps(layer, core)
    for axis in core.axes:
        dim = axis.dims[0]
        spatial[axis.name] = ((dim, math.ceil(layer.bounds[dim] / steps[dim])),)
        places = [place for place, (name, _) in enumerate(loops) if name == dim]
        if not places:
            loops.insert(0, (dim, steps[dim]))
            stored = {
                operand: {level: place + (place > 0) for level, place in part.items()}
                for operand, part in stored.items()
            }
            continue

        def distance(factors, places=places):
            pairs = zip(factors, places, strict=True)
            return sum(abs(math.log(factor / loops[place][1])) for factor, place in pairs)

        for factor, place in zip(
            min(split(steps[dim], len(places)), key=distance), places, strict=True
        ):
            loops[place] = (dim, factor)
    return replace(mapping, loops=tuple(loops), stored=stored, spatial=spatial)


def find_energies(model: ZigZagModel, run, layer: Layer) -> Energies:
    """Least energies by ZigZag's model of the mappings that our search leaves.

    A register is not read again while innermost loops repeat its word, which a level at the pins
    says. With two such levels a core has too many orders for the search, which sees one at a time.
    """
    counted = as_sampled(layer)
    core, free = make_core(run), make_core(run, any_spatial=True)
    known = []
    for pins in "IW":
        for mapping in solve(
            counted, [make_core(run, pins=pins)], "energy", ZIGZAG, LIMIT_S
        ).mappings:
            stored = {operand: dict(places) for operand, places in mapping.stored.items()}
            for operand in "IW":
                stored[operand].setdefault(f"pins_{operand}", len(mapping.loops))
            known.append(replace(mapping, stored=stored))
    any_price = make_price(counted, core, "energy", ZIGZAG)
    steps = count_steps(counted, core)

    def price(mappings: Sequence[Mapping]) -> np.ndarray:
        full = [
            all(
                math.prod(factor for name, factor in mapping.loops if name == dim) == wanted
                for dim, wanted in steps.items()
            )
            for mapping in mappings
        ]
        return np.where(full, any_price(mappings), math.inf)

    def score(mappings: Sequence[Mapping]) -> float:
        return min(
            model.score(layer, *to_zigzag_terms(layer, core, one))
            for mapping in mappings
            for one in (mapping, tighten(layer, mapping))
        )

    same = polish(counted, core, price, [unroll_fully(counted, core, mapping) for mapping in known])
    least = score(same)
    others = polish(counted, free, make_price(counted, free, "energy", ZIGZAG), [*known, *same])
    return Energies(least, min(least, score(others)))
