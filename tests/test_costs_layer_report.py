"""Laws of the per-layer report: parts add up to totals, and nothing beats the bound."""

import json

import pytest

from costs.cases import build_case
from costs.errors import InputError
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.layer_report import evaluate_network, sum_rows
from costs.library import list_cores, load_core

LAYERS = [
    Layer("conv", K=8, C=3, P=6, Q=6, R=3, S=3, padding=((1, 1), (1, 1))),
    Layer("same_shape", K=8, C=3, P=6, Q=6, R=3, S=3, padding=((1, 1), (1, 1))),
    Layer("pool", K=8, C=8, P=3, Q=3, R=2, S=2, stride=(2, 2), groups=8, kind="pool"),
    Layer("linear", K=10, C=72),
]


@pytest.fixture(scope="module")
def rows():
    return evaluate_network(LAYERS, load_core("narrow_tile"))


def test_rows_keep_the_order_and_equal_shapes_cost_the_same(rows):
    assert [row.layer.name for row in rows] == [layer.name for layer in LAYERS]
    assert rows[0].best is rows[1].best


def test_parts_add_up(rows):
    total = sum_rows(rows)
    for row in rows:
        parts = row.to_dict()
        assert sum(row.energy_by_level_pj.values()) == pytest.approx(parts["energy_pj"], rel=1e-12)
        json.dumps(parts, allow_nan=False)
    for key in ("energy_pj", "cycles", "dram_bytes", "macs"):
        assert total[key] == pytest.approx(sum(row.to_dict()[key] for row in rows), rel=1e-12)
    assert sum(total["energy_by_level_pj"].values()) == pytest.approx(total["energy_pj"])
    assert 0 < total["utilization"] <= 1


def test_nothing_beats_the_bound(rows):
    for row in rows:
        assert row.distance_to_bound >= 1 - 1e-12
        assert row.best.cost.fits
    assert sum_rows(rows)["distance_to_bound"] >= 1 - 1e-12


def test_a_reported_mapping_is_a_case_that_costs_the_same(rows):
    """What is printed can be given back as a case."""
    for row in rows:
        layer = {"name": row.layer.name, "kind": row.layer.kind, "groups": row.layer.groups}
        layer |= {dim: getattr(row.layer, dim) for dim in "NKCPQRS"}
        layer |= {"stride": list(row.layer.stride), "padding": [list(p) for p in row.layer.padding]}
        case = build_case(
            {"layer": layer, "core": "narrow_tile", "mapping": row.to_dict()["mapping"]}
        )
        assert evaluate(case.layer, case.core, case.mapping) == row.best.cost


@pytest.mark.parametrize("name", list_cores())
def test_every_shipped_core_runs_every_kind_of_layer(name):
    core = load_core(name)
    for row in evaluate_network([LAYERS[0], LAYERS[2], LAYERS[3]], core):
        assert row.best.cost.fits
        assert row.best.cost.energy_pj > 0


def test_objectives_order_as_they_should():
    core = load_core("wide_tile")
    costs = {
        goal: evaluate_network(LAYERS[:1], core, goal)[0].best.cost
        for goal in ("energy", "latency", "edp")
    }
    assert costs["energy"].energy_pj <= min(c.energy_pj for c in costs.values())
    assert costs["latency"].cycles <= min(c.cycles for c in costs.values())
    assert costs["edp"].edp <= min(c.edp for c in costs.values())


def test_what_does_not_fit_says_so():
    with pytest.raises(InputError, match="room for fat"):
        evaluate_network([Layer("fat", K=4, C=4, bits_psum=64)], load_core("narrow_tile"))
