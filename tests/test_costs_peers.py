"""Against peers: ZigZag's ResNet-18 runs, its mappings counted by us and ours counted by it.

What ZigZag's own model thinks of a mapping needs `zigzag-dse` and `six` (the extra `peers`); what
we think of its mappings needs only the reference data.
"""

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest

from costs.conventions import ZIGZAG
from costs.core import Core
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.mapper import solve
from costs.mapping import Mapping
from tests.zigzag_model import ZigZagModel, to_zigzag_terms
from tests.zigzag_run import RUNS, make_core, make_layer, make_mapping, parse, read_run, spatial_of

LIMIT_S = 120.0
"""Time for each layer on eyeriss_like, where a proof takes minutes."""


@pytest.mark.parametrize("name", RUNS)
def test_zigzags_mappings_cost_us_what_they_cost_it(reference, name):
    """Level by level, on the convolutions of stride 1 whose unrolling divides the layer.

    Where ZigZag rounds a tile up to a port's word, we do not: inputs may be cheaper by the last
    word of each tile, 18 % for tiles of 7 pixels. Finished outputs are read from the register as
    8 bits, there as a 16-bit word: 2 %.
    """
    run = read_run(reference, name)
    core = make_core(run)
    checked = 0
    for row in run["layers"]:
        layer = make_layer(row)
        whole = all(f == int(f) for part in spatial_of(row).values() for f in part.values())
        if row["type"] != "Conv" or layer.stride != (1, 1) or not whole:
            continue
        cost = evaluate(layer, core, make_mapping(core, row), ZIGZAG)
        assert cost.fits
        for operand, energies in row["mem_energy_breakdown_pJ"].items():
            chain = [lvl for lvl in core.chain(operand)[::-1] if not lvl.startswith("pins")]
            for depth, (level, theirs) in enumerate(zip(chain, energies, strict=True)):
                ours = cost.energy_by_level_pj[level][operand]
                low = {"W": 1.0, "I": 0.81, "O": 0.98 if depth == 0 else 1.0}[operand]
                assert low - 1e-6 <= ours / theirs <= 1 + 1e-6, (row["layer"], operand, level)
        assert cost.mac_energy_pj == pytest.approx(row["mac_energy_pJ"], rel=1e-12)
        checked += 1
    assert checked == {"tpu_like": 13, "eyeriss_like": 0}[name]


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


def vary_prices(core: Core) -> list[Core]:
    """The core, and the core with one level's energy halved or doubled.

    ZigZag rounds what a port moves up to whole words, which no price per bit says; mappings that
    are best at neighbouring prices are let to compete before ZigZag's own model.
    """
    cores = [core]
    for index, level in enumerate(core.levels):
        for factor in (0.5, 2.0):
            priced = replace(
                level,
                read_energy_pj=factor * level.read_energy_pj,
                write_energy_pj=factor * level.write_energy_pj,
            )
            cores.append(
                replace(core, levels=(*core.levels[:index], priced, *core.levels[index + 1 :]))
            )
    return cores


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


def divide(layer: Layer, core: Core, mapping: Mapping, most: int = 8) -> list[Mapping]:
    """Neighbours that fit and whose loops divide what is not unrolled, as ZigZag's must."""
    options = []
    for dim, bound in layer.bounds.items():
        places = [place for place, (name, _) in enumerate(mapping.loops) if name == dim]
        unrolled = any(name == dim for part in mapping.spatial.values() for name, _ in part)
        product = math.prod(mapping.loops[place][1] for place in places)
        if not places or unrolled or product == bound:
            continue

        def distance(factors, places=places):
            pairs = zip(factors, places, strict=True)
            return sum(abs(math.log(factor / mapping.loops[place][1])) for factor, place in pairs)

        near = sorted(split(bound, len(places)), key=distance)[:4]
        options.append([list(zip(places, factors, strict=True)) for factors in near])
    found = []
    for choice in itertools.product(*options) if options else ():
        loops = list(mapping.loops)
        for place, factor in itertools.chain(*choice):
            loops[place] = (loops[place][0], factor)
        cost = evaluate(layer, core, candidate := replace(mapping, loops=tuple(loops)), ZIGZAG)
        if cost.fits:
            found.append((cost.energy_pj, candidate))
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])[:most]]


def find_energy(model: ZigZagModel, run, layer: Layer, name: str) -> float:
    """Least energy by ZigZag's model of the mappings that our search leaves [pJ].

    On tpu_like the search uses the whole array first and then saves energy. On eyeriss_like a
    register is not read again while innermost loops repeat its word, which a level at the pins
    says: of inputs, or of weights, for the innermost loop indexes one of them. Either core has
    hundreds of orders of storage positions, so that the search is given a time.
    """
    if name == "tpu_like":
        core = make_core(run, pins="")
        found = solve(layer, vary_prices(core), "latency", ZIGZAG).mappings
        pools = [(core, mapping, tighten(layer, mapping)) for mapping in found]
    else:
        pools = [
            (core, mapping, tighten(layer, mapping), *divide(layer, core, mapping))
            for core in (make_core(run, pins="I"), make_core(run, pins="W"))
            for mapping in solve(layer, [core], "energy", ZIGZAG, LIMIT_S).mappings
        ]
    return min(
        model.score(layer, *to_zigzag_terms(layer, core, mapping))
        for core, *mappings in pools
        for mapping in mappings
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_our_mappings_of_resnet18_beat_zigzags(reference, name):
    """Energy by ZigZag's own model <= ZigZag's, for every layer and in total.

    K and C are unrolled on the axes of ZigZag's mapping file; with any unrolling the best can only
    be better.
    """
    pytest.importorskip("zigzag")
    run = read_run(reference, name)
    model = ZigZagModel(run["hardware_yaml"])
    found: dict[Any, float] = {}
    ours, theirs = [], []
    for row in run["layers"]:
        layer = make_layer(row)
        shape = replace(layer, name="")
        if shape not in found:
            found[shape] = find_energy(model, run, layer, name)
        ours.append(found[shape])
        theirs.append(row["energy_pJ"])
        assert ours[-1] <= theirs[-1] * (1 + 1e-9), row["layer"]
    assert len(ours) == 21
    assert sum(ours) <= sum(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_the_scorer_reproduces_zigzags_own_figures(reference, name):
    pytest.importorskip("zigzag")
    run = read_run(reference, name)
    model = ZigZagModel(run["hardware_yaml"])
    for row in run["layers"]:
        if row["type"] == "Conv":
            layer = make_layer(row)
            energy = model.score(
                layer, layer.bounds, spatial_of(row), parse(row["temporal_mapping"])
            )
            assert energy == row["energy_pJ"], row["layer"]
