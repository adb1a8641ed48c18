"""Designs and limits that cannot be: one line that names the key, never a traceback."""

import sys
from pathlib import Path

import numpy as np
import pytest

from costs import strict_yaml
from costs.cases import read_cases
from costs.errors import InputError
from dse import cli
from dse.config import parse_config
from dse.context import make_context
from dse.design import describe, evaluate_design

EXPERIMENT = {
    "name": "small",
    "network": {"name": "digits_resnet", "width_multiplier": 0.25, "bottlenecks": ["stem.out"]},
    "chip": "quad_big_little",
}


def with_bottlenecks(bottlenecks) -> dict:
    return {**EXPERIMENT, "network": {"name": "digits_resnet", "bottlenecks": bottlenecks}}


@pytest.fixture(scope="module")
def document(tmp_path_factory) -> dict:
    """A sound design, as read from its file."""
    context = make_context(parse_config(EXPERIMENT))
    knobs = np.array([kind.default for kind in context.chip.types])
    layers = len(context.workload.layers)
    design = describe(context, "d00", np.array([2]), knobs, np.zeros(layers, int), {"task": 1.0})
    path = tmp_path_factory.mktemp("design") / "d00.yaml"
    design.save(path)
    assert evaluate_design(path)["costs"]["io_bytes"] > 0
    return strict_yaml.load(path)


@pytest.mark.parametrize("value", [None, [], [1, 2], {"a": 1}, True, "", "x", -1, 0, 1.5, 10**30])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("assignment", "head"),
        ("assignment", "nowhere"),
        ("widths", "stem.out"),
        ("widths", "nowhere"),
        ("hardware", "wide"),
        ("hardware", "nothing"),
    ],
)
def test_damaged_design_names_the_key(section, key, value, document, tmp_path: Path):
    path = tmp_path / "d.yaml"
    path.write_text(strict_yaml.dumps(document | {section: document[section] | {key: value}}))
    with pytest.raises(InputError, match=rf"{section}\.{key}"):
        evaluate_design(path)


@pytest.mark.parametrize("value", [None, [8], {"a": 1}, True, "8", 8.0, 7, -8])
def test_damaged_knob_names_the_key(value, document, tmp_path: Path):
    hardware = document["hardware"]
    path = tmp_path / "d.yaml"
    hardware = hardware | {"wide": hardware["wide"] | {"array": value}}
    path.write_text(strict_yaml.dumps(document | {"hardware": hardware}))
    with pytest.raises(InputError, match=r"hardware\.wide\.array"):
        evaluate_design(path)


def test_an_area_budget_that_nothing_meets_is_refused():
    config = EXPERIMENT | {"hardware": {"area_budget_mm2": 1e-4}}
    with pytest.raises(InputError, match=r"area_budget_mm2.*at least 0\.1"):
        make_context(parse_config(config))


@pytest.mark.parametrize("kib", ["0", "-1", "nan", "inf"])
def test_on_chip_memory_must_be_positive(kib: str, monkeypatch, capsys):
    arguments = ["evaluate", "vgg16", "tpu_like", "--bounds", "--onchip-kib", kib]
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    assert cli.run_app() == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_chip_of_one_core_needs_no_link(tmp_path: Path):
    chip = {
        "name": "lone",
        "core_types": {"wide": {"core": "wide_tile"}},
        "cores": {"only": "wide"},
        "links": [],
        "dram": {"bandwidth_bytes_per_s": 1.6e9, "energy_pj_per_bit": "lpddr4"},
    }
    (tmp_path / "chip.yaml").write_text(strict_yaml.dumps(chip))
    context = make_context(parse_config(EXPERIMENT | {"chip": str(tmp_path / "chip.yaml")}))
    layers = len(context.workload.layers)
    knobs = np.array([kind.default for kind in context.chip.types])
    design = describe(context, "d00", np.array([4]), knobs, np.zeros(layers, int), {"task": 1.0})
    design.save(tmp_path / "d00.yaml")
    costs = evaluate_design(tmp_path / "d00.yaml")["costs"]
    assert costs["link_bytes"] == costs["energy_link_pj"] == 0.0
    assert costs["io_bytes"] == costs["dram_bytes"] > 0.0


def test_all_bottlenecks_leaves_out_what_a_pooling_follows():
    context = make_context(parse_config(with_bottlenecks("all")))
    names = [boundary.name for boundary in context.boundaries]
    assert "stage3.block0.mid1" in names
    assert "stage3.block0.out" not in names


def test_a_network_without_boundaries_is_refused():
    with pytest.raises(InputError, match=r"network\.bottlenecks"):
        make_context(parse_config(with_bottlenecks([])))


def test_a_file_without_cases_is_refused(tmp_path):
    (tmp_path / "none.jsonl").write_text("\n\n")
    with pytest.raises(InputError, match="holds no case"):
        list(read_cases(tmp_path / "none.jsonl"))
