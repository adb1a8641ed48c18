"""Scores of a comparison, its baselines' designs, and that a stopped comparison goes on."""

import json
from dataclasses import replace
from itertools import pairwise

import moocore
import numpy as np
import pytest
from synthetic_problem import make_problem
from trained_run import quick_block

from costs.errors import InputError
from dse import baselines, compare, greedy, tables
from dse.break_even import break_even_mac_pj
from dse.config import load_config, parse_config
from dse.context import make_context
from dse.design_objective import contiguous_candidates
from dse.handover import objective_of
from dse.objective import TERMS
from dse.relaxed import Shape
from dse.surface_spec import Policy

ROW = {"passes": 10.0, "kept": 1, "reference_io_bytes": 1000.0, "reference_energy_pj": 1e6}


def row(method: str, seed: int, accuracy: float, io_bytes: float, energy_pj: float, kept: int = 1):
    found = {"method": method, "seed": seed, "test_accuracy": accuracy, "io_bytes": io_bytes}
    return {**ROW, **found, "energy_pj": energy_pj, "kept": kept}


ROWS = [
    row(method, seed, accuracy - 0.01 * seed, io_bytes, 5e5)
    for seed in (0, 1)
    for method, accuracy, io_bytes in (
        ("surface", 0.95, 100.0),
        ("surface", 0.97, 300.0),
        ("independent 8", 0.90, 100.0),
        ("independent 8", 0.97, 400.0),
    )
]


def test_the_reference_is_the_narrowest_independent_design_and_the_unconstrained_costs() -> None:
    reference = compare.reference_point(ROWS, compare.reference_costs(ROWS))
    np.testing.assert_allclose(reference, [0.11, np.log(1000.0), np.log(1e6)])


def test_hypervolume_by_hand() -> None:
    reference = compare.reference_point(ROWS, compare.reference_costs(ROWS))
    volume = compare.volumes(ROWS, reference)["surface"][0]
    depth = np.log(2.0)  # of energy, the same for both
    wide, narrow = np.log(1000 / 300), np.log(1000 / 100)
    by_hand = depth * ((0.11 - 0.03) * wide + (0.11 - 0.05) * (narrow - wide))
    assert volume == pytest.approx(by_hand)


def test_what_validation_drops_does_not_count() -> None:
    lucky = [*ROWS, row("surface", 0, 1.0, 1.0, 1.0, kept=0)]
    reference = compare.reference_point(ROWS, compare.reference_costs(ROWS))
    a, b = (compare.volumes(rows, reference)["surface"] for rows in (ROWS, lucky))
    np.testing.assert_array_equal(a, b)


def test_summary_pairs_seeds_and_knows_what_is_better() -> None:
    found = {line["method"]: line for line in compare.summarise(ROWS)}
    assert found["surface"]["surface_minus_this_low"] == 0.0
    assert found["independent 8"]["surface_minus_this_low"] > 0.0
    assert found["surface"]["igd_plus"] < found["independent 8"]["igd_plus"]
    ideal = compare.points(ROWS)
    assert moocore.igd_plus(ideal, ref=ideal) == 0.0


def test_a_method_with_fewer_seeds_is_compared_in_these() -> None:
    more = [*ROWS, row("surface", 7, 0.5, 900.0, 9e5)]
    found = {line["method"]: line for line in compare.summarise(more)}
    before = {line["method"]: line for line in compare.summarise(ROWS)}
    assert found["surface"]["seeds"] == before["surface"]["seeds"] + 1
    name = "surface_minus_this_low"
    assert found["independent 8"][name] == before["independent 8"][name]


def test_an_interval_holds_the_mean_and_narrows_with_agreement() -> None:
    low, high = compare.paired_interval(np.array([1.0, 2.0, 3.0]))
    assert low < 2.0 < high
    assert compare.paired_interval(np.array([2.0, 2.0])) == (2.0, 2.0)
    tight = compare.paired_interval(np.array([1.9, 2.0, 2.1]))
    assert low < tight[0] < tight[1] < high


def test_preferences_of_independent_runs_weigh_one_and_differ() -> None:
    for count in (4, 8):
        given = baselines.spread_preferences(count)
        assert given.shape == (count, len(TERMS))
        np.testing.assert_allclose(given.sum(axis=1), 1.0)
        assert len(np.unique(given, axis=0)) == count


def test_ratios_are_ceilings_and_one_means_no_pair() -> None:
    shape = Shape.of(make_problem())
    channels = shape.max_widths[0]
    assert (shape.widths(baselines.ratio_ordinals(shape, 1)) == channels).all()
    assert (baselines.ratio_ordinals(shape, 3) == -(-channels // 3)).all()
    assert (baselines.ratio_ordinals(shape, 32) == 1).all()
    assert baselines.spread_ratios(8) == list(baselines.RATIOS)


def test_break_even_of_the_papers_example() -> None:
    """64 channels, ratio 4, 8 bits: 6 e_link > 32 e_MAC (papers.md A)."""
    assert break_even_mac_pj(1.0, 8, 64, 4) == pytest.approx(6 / 32)


@pytest.fixture(scope="module")
def trial():
    """A small experiment with made-up tables, and passes that nobody trains for."""
    context = make_context(
        parse_config(
            {
                "name": "tiny",
                "network": {
                    "name": "digits_resnet",
                    "width_multiplier": 0.25,
                    "bottlenecks": ["stem.out", "stage2.block0.out", "stage2.block1.out"],
                },
                "chip": "quad_big_little",
            }
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "calc_block", quick_block)
        outputs = baselines.run_phases([tables.TablesPhase(context)], {})
    return baselines.Trial(context, objective_of(context, outputs), outputs, 100.0, 4)


def test_sequential_is_tuned_with_the_very_crossings_that_it_is_deployed_with(
    trial, monkeypatch
) -> None:
    trained = []

    def train(trial, params, steps, design, **_):
        trained.append((steps, *design(0)))
        trial.spent += steps
        return params

    monkeypatch.setattr(baselines, "train", train)
    designs = baselines.sequential(replace(trial, spent=0.0))
    assert 1 <= len(designs) <= trial.count
    steps, widths, crossing = trained[0]
    assert steps == 50
    assert widths.tolist() == list(trial.shape.max_widths)
    assert not crossing.any()
    assert sum(steps for steps, *_ in trained) <= trial.passes
    for design, (_, widths, crossing) in zip(designs, trained[1:], strict=True):
        deployed = trial.gates(design.ordinals, design.assignment)
        np.testing.assert_array_equal(widths, deployed[0])
        np.testing.assert_array_equal(crossing, deployed[1])
        np.testing.assert_array_equal(design.assignment, designs[0].assignment)

    def value(ordinals, assignment):
        columns = [array.reshape(len(array), -1) for array in (ordinals, assignment)]
        return trial.objective.value(baselines.COSTS_ALONE[:, None], *columns)

    start, assignment = baselines.partitioned(trial, baselines.ratio_ordinals(trial.shape, 1))
    options = contiguous_candidates(trial.objective.problem, start)
    everywhere = np.repeat(start[:, None], options.shape[1], axis=1)
    assert value(start, assignment)[0] <= value(everywhere, options).min()
    mapped = baselines.mapped(trial, start, assignment)
    assert value(mapped, assignment)[0] <= value(start, assignment)[0]


def test_greedy_halves_one_crossing_boundary_after_the_other(trial, monkeypatch) -> None:
    monkeypatch.setattr(greedy, "calc_loss", lambda _, __, design: 1.0 / design[0][:3].sum())
    path = list(greedy.slimming_path(trial, {}))
    widths = len(trial.shape.max_widths)
    for (before, assignment), (after, _) in pairwise(path):
        changed = np.flatnonzero(before[:widths] != after[:widths])
        assert len(changed) == 1
        assert after[changed[0]] == before[changed[0]] // 2
        crossing = trial.gates(before, assignment)[1]
        assert crossing[trial.context.boundary_of_edge == changed[0]].any()
    last, assignment = path[-1]
    active = trial.context.boundary_of_edge[trial.gates(last, assignment)[1] > 0]
    assert (last[active] == 1).all()


def test_a_cell_depends_on_what_its_method_sees() -> None:
    config = parse_config(
        {"name": "x", "network": {"name": "digits_resnet"}, "chip": "quad_big_little"}
    )
    other = config.model_copy(
        update={"surface": config.surface.model_copy(update={"policy": Policy(steps=7)})}
    )
    for method in compare.METHODS:
        same = compare.settings_of(config, method, 10.0) == compare.settings_of(other, method, 10.0)
        assert same == (method not in ("surface", "greedy"))
        assert compare.settings_of(config, method, 10.0) != compare.settings_of(config, method, 9.0)


CONFIG = """
name: tiny
network:
  name: digits_resnet
  width_multiplier: 0.25
  bottlenecks: [stem.out, stage2.block0.out]
chip: quad_big_little
hardware: {mode: fixed}
training: {batch: 64, calibration_pictures: 64}
surface:
  weights: {steps: 12}
  predictor: {designs: 16, pictures: 64}
  policy: {steps: 10, batch: 4}
  selection: {candidates: 8, measured: 6, designs: 4}
  finetune: {together: 3, steps: 2}
"""


@pytest.mark.slow
def test_all_methods_spend_what_they_may_and_a_stopped_comparison_goes_on(tmp_path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG)
    config = load_config(file, [])
    said = []
    methods = list(compare.METHODS)
    cells = tmp_path / "cells"
    rows = compare.run_cells(config, methods, 1, cells, lambda *told: said.append(told))
    assert [told[0] for told in said] == methods
    allowed = next(r["passes"] for r in rows if r["method"] == "surface")
    for name in methods:
        mine = [r for r in rows if r["method"] == name]
        factor = compare.METHODS[name][1]
        assert 0 < mine[0]["passes"] <= factor * allowed + 0.1
        assert len(mine) <= 8
        assert any(r["kept"] for r in mine)
    again = compare.run_cells(config, methods, 1, cells, lambda *_: pytest.fail("ran again"))
    assert again == rows
    # a later call for fewer methods leaves none out of the table
    some = compare.run_cells(config, methods[:1], 1, cells, lambda *_: pytest.fail("ran again"))
    assert [r["method"] for r in some] == [r["method"] for r in rows]
    (cells / "surface-old.json").write_text("{}")  # not one of its cells
    assert compare.run_cells(config, methods, 1, cells, lambda *_: pytest.fail("ran again")) == rows
    (cells / "greedy-7.json").write_text("{")
    with pytest.raises(InputError, match="not a whole cell"):
        compare.run_cells(config, methods[:1], 1, cells, lambda *_: pytest.fail("ran again"))
    (cells / "greedy-7.json").unlink()
    (cells / "surface-old.json").unlink()
    changed = config.model_copy(update={"log_every": 3})
    with pytest.raises(InputError, match="another configuration"):
        compare.run_cells(changed, methods, 1, cells, lambda *_: None)
    assert json.loads(next(cells.iterdir()).read_text())["row"]
