"""Against peers: ZigZag's ResNet-18 runs, its mappings counted by us and ours counted by it.

What ZigZag's own model thinks of a mapping needs `zigzag-dse` and `six` (the extra `peers`); what
we think of its mappings needs only the reference data.
"""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costs.conventions import ZIGZAG
from costs.evaluate import evaluate
from tests.zigzag_model import ZigZagModel
from tests.zigzag_run import RUNS, make_core, make_layer, make_mapping, parse, read_run, spatial_of
from tests.zigzag_search import Energies, as_sampled, find_energies

LIMITS = Path(__file__).parent.parent / "experiments/results/zigzag_limits/limits.csv"

WITHIN = {"tpu_like": 1e-5, "eyeriss_like": 0.007}
"""Relative error of our count of ZigZag's mappings."""


@pytest.mark.parametrize("name", RUNS)
def test_zigzags_mappings_cost_us_what_they_cost_it(reference, name):
    """All layers; level by level where its unrolling divides the layer.

    Where it does not, it counts with tiles of 12.8 channels, and we with ones of 13 and 11.
    """
    run = read_run(reference, name)
    core = make_core(run)
    checked = 0
    for row in run["layers"]:
        layer = as_sampled(make_layer(row))
        cost = evaluate(layer, core, make_mapping(core, row), ZIGZAG)
        assert cost.fits
        assert cost.mac_energy_pj == pytest.approx(row["mac_energy_pJ"], rel=1e-12)
        assert cost.energy_pj == pytest.approx(row["energy_pJ"], rel=WITHIN[name]), row["layer"]
        if any(f != int(f) for part in spatial_of(row).values() for f in part.values()):
            continue
        for operand, energies in row["mem_energy_breakdown_pJ"].items():
            chain = [lvl for lvl in core.chain(operand)[::-1] if not lvl.startswith("pins")]
            for level, theirs in zip(chain, energies, strict=True):
                ours = cost.energy_by_level_pj[level][operand]
                assert ours == pytest.approx(theirs, rel=1e-9), (row["layer"], operand, level)
        checked += 1
    assert checked == {"tpu_like": 20, "eyeriss_like": 0}[name]


def read_limit_8(name: str) -> dict[str, float]:
    """Energies of ZigZag's search at the highest limit that ends within an hour, by layer [pJ]."""
    with LIMITS.open(newline="") as file:
        return {
            row["layer"]: float(row["energy_pj"])
            for row in csv.DictReader(file)
            if (row["accelerator"], row["limit"]) == (name, "8")
        }


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_our_mappings_of_resnet18_beat_zigzags(reference, name):
    """Energy by ZigZag's own model <= ZigZag's, for every layer and in total.

    Its search is that of the reference (limit 4) and that at limit 8; ours has K and C unrolled
    exactly as its mappings, and then any dimensions. Run with -s it prints what it found.
    """
    pytest.importorskip("zigzag")
    run = read_run(reference, name)
    model = ZigZagModel(run["hardware_yaml"])
    at_8 = read_limit_8(name)
    found: dict[Any, Energies] = {}
    theirs: dict[Any, float] = {}
    totals = np.zeros(4)
    misses = []
    for row in run["layers"]:
        layer = make_layer(row)
        shape = replace(layer, name="")
        if shape not in found:
            found[shape] = find_energies(model, run, layer)
            theirs[shape] = at_8[row["layer"]]
            figures = (row["energy_pJ"], theirs[shape], found[shape].same, found[shape].free)
            print(name, row["layer"], *figures, sep=",", flush=True)
        ours = found[shape]
        totals += (row["energy_pJ"], theirs[shape], ours.same, ours.free)
        least = min(row["energy_pJ"], theirs[shape]) * (1 + 1e-9)
        if not max(ours.same, ours.free) <= least:
            misses.append(row["layer"])
    print(name, "total", *totals, sep=",", flush=True)
    assert not misses
    assert len(run["layers"]) == 21
    assert totals[2:].max() <= totals[:2].min() * (1 + 1e-9)


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
