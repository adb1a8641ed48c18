"""Choosing core types: exact among all subsets, and the command that sweeps."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs import strict_yaml
from costs.errors import InputError
from costs.library import load_chip, load_core
from costs.tables import hardware_point
from dse.commands.cores import cores_command
from dse.commands.evaluate import read_workload
from dse.commands.inspect import validate_command
from dse.core_sweep import SweptCore, load_sweep, read_sweep, run_sweep
from dse.core_types import choose_types, compare_single, list_choices

RECORD = Path(__file__).parents[1] / "experiments/results/core_types"
SWEEP = {
    "name": "small",
    "networks": ["mlp", "digits_resnet"],
    "templates": {
        "narrow": {
            "core": "narrow_tile",
            "sizes": {
                "rows": [4, 8],
                "columns": [8],
                "global_buffer": [16384],
                "weight_buffer": [65536],
            },
        }
    },
    "types": [1, 2],
}


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweep.yaml"
    strict_yaml.dump(SWEEP, path)
    return path


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_the_choice_is_the_best_of_all_subsets(seed, count):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(size=(rng.integers(1, 6), 7)) * 10.0 ** rng.integers(-3, 9)
    values[rng.random(values.shape) < 0.1] = np.inf
    values[:, 0] = 1e12  # some core runs everything

    def score(subset):
        return np.log(values[:, list(subset)].min(axis=1)).sum()

    best = min(map(score, itertools.combinations(range(7), count)))
    assert score(choose_types(values, count)) == pytest.approx(best, abs=1e-9)


def test_more_types_never_cost_more_and_each_network_alone_is_the_limit():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(9, 40))
    means = [
        np.log(values[:, list(choose_types(values, k))].min(axis=1)).mean() for k in (1, 2, 3, 4)
    ]
    assert sorted(means, reverse=True) == means
    assert means[-1] >= np.log(values.min(axis=1)).mean()


def test_too_many_types_or_subsets_are_refused():
    with pytest.raises(InputError, match="at most the 3 cores"):
        choose_types(np.ones((2, 3)), 4)
    values = np.random.default_rng(0).lognormal(size=(30, 300))
    with pytest.raises(InputError, match="too many to compare"):
        choose_types(values, 4)


def test_a_network_costs_what_its_layers_cost(sweep_file):
    sweep = run_sweep(load_sweep(sweep_file), lambda name: read_workload(name, 1), lambda _: None)
    core = hardware_point(load_core("narrow_tile"), {"rows": 8, "columns": 8, "global_buffer": 16384, "weight_buffer": 65536})  # fmt: skip # noqa: E501
    from costs.layer_report import evaluate_network, sum_rows

    total = sum_rows(evaluate_network(read_workload("mlp", 1).layers, core, "edp"))
    at = [c.label for c in sweep.cores].index("narrow 8x8 g16K w64K")
    leakage_pj = core.total_leakage_w * total["latency_s"] * 1e12
    assert sweep.latency_s[0, at] == pytest.approx(total["latency_s"], rel=1e-12)
    assert sweep.energy_pj[0, at] == pytest.approx(total["energy_pj"] + leakage_pj, rel=1e-9)
    rows = list_choices(sweep, [1, 2])
    assert {row.types for row in rows} == {1, 2}
    assert all(row.best <= row.value * (1 + 1e-12) for row in rows)
    assert all(row.saved == 0 for row in rows if row.types == 1)


def test_the_command_writes_and_redraws(sweep_file, tmp_path, capsys):
    out = tmp_path / "out"
    cores_command(sweep_file, out, as_json=False)
    assert "its best core" in capsys.readouterr().out
    sweep, choices = read_sweep(out / "sweep.csv"), (out / "choices.csv").read_bytes()
    assert len(choices.splitlines()) == 1 + 2 * 2 * 2
    assert np.isfinite(sweep.energy_pj).all()
    own = {row["instead_of"]: row for row in compare_single(sweep) if row["goal"] == "edp_pjs"}
    values = sweep.values("edp_pjs")
    other = 1 - values.min(axis=1) / values[[0, 1], values.argmin(axis=1)[::-1]]
    assert own["best core of another network"]["largest_saved"] == pytest.approx(max(other))
    mean, single = (own[name]["mean_saved"] for name in ("all cores, mean", "best single core"))
    assert float(mean) >= float(single) - 1e-12
    picture = (out / "core_types.png").read_bytes()
    (out / "core_types.png").unlink()
    cores_command(out, None, as_json=True)
    assert (out / "core_types.png").read_bytes() == picture
    assert (out / "choices.csv").read_bytes() == choices


def test_bad_sweeps_are_one_line_run_or_validated(sweep_file, tmp_path, capsys):
    assert validate_command([sweep_file], as_json=False) == 0
    assert "valid sweep of cores small" in capsys.readouterr().out
    cases = [
        ({"networks": ["resnet"]}, "resnet"),
        ({"networks": []}, "networks"),
        ({"types": [0]}, "types.0"),
        ({"mapping_objective": "speed"}, "mapping_objective"),
        ({"templates": {"t": {"core": "tpu", "sizes": {"D1": [4]}}}}, "no shipped core"),
        ({"templates": {"t": {"core": "narrow_tile", "sizes": {"row": [4]}}}}, "row"),
    ]
    for change, words in cases:
        strict_yaml.dump(SWEEP | change, sweep_file)
        with pytest.raises(InputError, match=words) as caught:
            run_sweep(load_sweep(sweep_file), lambda name: read_workload(name, 1), lambda _: None)
        assert "\n" not in str(caught.value)
        assert validate_command([sweep_file], as_json=False) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(sweep_file) in said
        assert words in said
    with pytest.raises(InputError, match="cannot be read"):
        read_sweep(tmp_path / "none.csv")


def test_the_shipped_chip_has_the_two_types_that_the_record_chooses_for_energy():
    sweep = read_sweep(RECORD / "sweep.csv")
    chosen = {sweep.cores[i].label for i in choose_types(sweep.energy_pj, 2)}
    cores = [kind.core for kind in load_chip("quad_core_types").types]
    names = ("global_buffer", "weight_buffer")
    sizes = [
        [(a.name, a.size) for a in core.axes]
        + [(name, int(core.level(name).total_capacity_bytes)) for name in names]
        for core in cores
    ]
    labels = [
        SweptCore.of("weight_stationary", s, c).label for s, c in zip(sizes, cores, strict=True)
    ]
    assert set(labels) == chosen
    for core, size in zip(cores, sizes, strict=True):
        again = hardware_point(load_core("wide_tile"), dict(size))
        assert (core.levels, core.axes) == (again.levels, again.axes)
