"""Our search for mappings that cost little by ZigZag's model, of the layers of its runs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from costs.conventions import ZIGZAG
from costs.core import Core
from costs.layer import Layer
from costs.mapper import solve
from costs.mapping import Mapping
from costs.polish import Price, make_price, polish
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


def count_loops(mapping: Mapping, dim: str) -> int:
    """Iterations of all temporal loops of a dimension."""
    return math.prod(factor for name, factor in mapping.loops if name == dim)


def is_expressible(layer: Layer, mapping: Mapping) -> bool:
    """Whether it can be said to ZigZag as it is: loops divide, or an unrolling makes up for it."""
    unrolled = {name for part in mapping.spatial.values() for name, _ in part}
    return all(
        count_loops(mapping, dim) <= bound
        if dim in unrolled
        else count_loops(mapping, dim) == bound
        for dim, bound in layer.bounds.items()
    )


def unroll_fully(layer: Layer, core: Core, mapping: Mapping) -> list[Mapping]:
    """The mapping with its axes as full as they can be and loops near those it had that divide.

    And the same with the smallest tiles, which fit in any case.
    """
    loops, stored = list(mapping.loops), mapping.stored
    steps = count_steps(layer, core)
    for dim, bound in layer.bounds.items():
        wanted = steps.get(dim, bound)
        places = [place for place, (name, _) in enumerate(loops) if name == dim]
        if not places:
            loops.insert(0, (dim, wanted))
            stored = {
                operand: {level: place + (place > 0) for level, place in part.items()}
                for operand, part in stored.items()
            }
            continue

        def distance(factors, places=places):
            pairs = zip(factors, places, strict=True)
            return sum(abs(math.log(factor / loops[place][1])) for factor, place in pairs)

        nearest = min(split(wanted, len(places)), key=distance)
        for factor, place in zip(nearest, places, strict=True):
            loops[place] = (dim, factor)
    spatial = {
        axis.name: ((axis.dims[0], math.ceil(layer.bounds[axis.dims[0]] / steps[axis.dims[0]])),)
        for axis in core.axes
    }
    inside = {o: dict.fromkeys(part, len(loops)) for o, part in stored.items()}
    return [Mapping(tuple(loops), positions, spatial) for positions in (stored, inside)]


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
    steps = count_steps(counted, core)

    def price_on(core: Core, able: Callable[[Mapping], bool]) -> Price:
        price = make_price(counted, core, "energy", ZIGZAG)

        def price_able(mappings: Sequence[Mapping]) -> np.ndarray:
            costs = np.full(len(mappings), math.inf)
            said = [is_expressible(counted, one) and able(one) for one in mappings]
            costs[said] = price([one for one, ok in zip(mappings, said, strict=True) if ok])
            return costs

        return price_able

    def is_full(mapping: Mapping) -> bool:
        return all(count_loops(mapping, dim) == wanted for dim, wanted in steps.items())

    def score(mappings: Sequence[Mapping]) -> float:
        return min(model.score(layer, *to_zigzag_terms(layer, core, one)) for one in mappings)

    start = [one for mapping in known for one in unroll_fully(counted, core, mapping)]
    same = polish(counted, core, price_on(core, is_full), start)
    least = score(same)
    others = polish(counted, free, price_on(free, lambda _: True), [*known, *same])
    return Energies(least, min(least, score(others)))
