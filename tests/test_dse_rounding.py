"""Rounding of relaxed widths: what must not change by it, and that cells can be repeated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from costs.chip_cost import calc_chip_cost
from costs.errors import InputError
from dse import rounding_study as study
from dse import width_parameters
from dse.assignment_relaxations import make_relaxation
from dse.config import load_config
from dse.csv_rows import read_rows
from dse.rounding_assignments import measure_assignment
from dse.rounding_setting import COSTS, make_correct, make_row, make_setting, make_step
from dse.rounding_study import summarise
from dse.rounding_widths import draw_slopes, measure_widths
from dse.study import draw_study, write_study
from models.relax import RELAXATIONS, sample_masks

CONFIG = """
name: tiny
network:
  name: digits_resnet
  width_multiplier: 0.25
  bottlenecks: [stem.out, stage2.block0.out]
  bits: 4
chip: quad_big_little
training: {batch: 16, calibration_pictures: 32}
"""
WIDTHS = np.array([2.0, 5.0])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("rounding") / "tiny.yaml"
    file.write_text(CONFIG)
    return load_config(file, [])


@pytest.fixture(scope="module")
def setting(config):
    return make_setting(config)


@pytest.fixture(scope="module")
def correct(setting):
    return make_correct(setting)


@pytest.fixture(scope="module")
def fresh(setting):
    return setting.context.net.init(jax.random.key(0))[0]


def given(*widths: float) -> list[jax.Array]:
    return [jnp.asarray(width, jnp.float32) for width in widths]


def test_every_boundary_crosses_between_several_cores(setting) -> None:
    edges = np.asarray(setting.crossing)
    assert len(set(setting.assignment.tolist())) == len(setting.context.chip.cores) > 1
    for number in range(len(setting.largest)):
        assert edges[setting.context.boundary_of_edge == number].max() == 1.0


def test_costs_after_rounding_are_those_of_the_integer_design(setting) -> None:
    found = setting.exact_costs(WIDTHS.astype(int))
    problem = setting.objective.problem
    knobs = setting.knobs.reshape(len(problem.chip.types), -1, 1).astype(int)
    alone = calc_chip_cost(problem, WIDTHS.astype(int)[:, None], setting.assignment[:, None], knobs)
    for name in COSTS:
        assert found[name] == float(alone[name][0])


def test_extended_costs_are_exact_at_integers_and_between_their_neighbours(setting) -> None:
    assert setting.extended_costs(WIDTHS) == setting.exact_costs(WIDTHS.astype(int))
    low, high = (setting.exact_costs(np.array([w, 5])) for w in (2, 3))
    found = setting.extended_costs(np.array([2.25, 5.0]))
    for name in COSTS:
        assert found[name] == pytest.approx(0.75 * low[name] + 0.25 * high[name], rel=1e-12)


def test_drawn_slopes_average_to_the_gradient_of_the_extension(setting) -> None:
    """On an extension of the log costs, whose derivative is a difference along each width."""
    rng, widths = np.random.default_rng(0), np.array([2.3, 4.6])
    drawn = np.mean([draw_slopes(setting, widths, rng) for _ in range(400)], 0)

    def value(first: float, second: float) -> float:
        costs = setting.exact_costs(np.array([first, second], int))
        return 0.2 * np.log(costs["io_bytes"]) + 0.2 * np.log(costs["energy_pj"])

    first = 0.4 * (value(3, 4) - value(2, 4)) + 0.6 * (value(3, 5) - value(2, 5))
    second = 0.7 * (value(2, 5) - value(2, 4)) + 0.3 * (value(3, 5) - value(3, 4))
    np.testing.assert_allclose(drawn, [first, second], rtol=0.02)


def test_straight_through_rounding_loses_no_accuracy(setting, correct, fresh) -> None:
    row = measure_widths(setting, "round", correct, fresh, given(2.4, 4.6), 0)
    assert row["accuracy_before"] == row["accuracy_after"]
    assert (row["width_before"], row["width_after"]) == (pytest.approx(7.0), 7)
    assert row["rounded"] == "2 5"


def test_stochastic_widths_that_are_integers_lose_nothing(setting, correct, fresh) -> None:
    parameters = given(*WIDTHS)
    row = measure_widths(setting, "stochastic", correct, fresh, parameters, 0)
    for column in ("accuracy", "width", *COSTS):
        assert row[f"{column}_before"] == row[f"{column}_after"]


@pytest.mark.parametrize("name", RELAXATIONS)
def test_starts_are_near_alike_and_rounded_masks_have_their_width(name: str) -> None:
    largest = (8, 16)
    parameters = width_parameters.initial_parameters(name, largest)
    widths, masks = width_parameters.rounded_masks(name, parameters, largest)
    np.testing.assert_allclose(widths, [6, 12], atol=1)
    for width, mask in zip(widths, masks, strict=True):
        assert float(mask.sum()) == width
        assert set(np.unique(mask)) <= {0.0, 1.0}
    key = jax.random.key(0)
    drawn = sample_masks(name, parameters, largest, key, width_parameters.temperature_at(name, 1.0))
    assert all(float(mask[0]) > 0.5 for mask in drawn)  # something always crosses


def test_gates_keep_the_channels_whose_log_odds_are_positive() -> None:
    gates = [jnp.array([width_parameters.ALWAYS_OPEN, -1.0, 2.0, -3.0, 0.5])]
    widths, masks = width_parameters.rounded_masks("hard_concrete", gates, (5,))
    assert widths.tolist() == [3]
    assert masks[0].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    shut = width_parameters.project("hard_concrete", [jnp.full(5, -90.0)], (5,))
    assert width_parameters.rounded_masks("hard_concrete", shut, (5,))[0].tolist() == [1]


def ran_again(*told: object) -> None:
    raise AssertionError(told)


def test_a_cell_is_reproducible_kept_and_not_mixed_with_others(
    config, setting, correct, monkeypatch, tmp_path
) -> None:
    step = make_step(setting)  # traced and compiled once for all runs
    for name, made in (("setting", setting), ("correct", correct), ("step", step)):
        monkeypatch.setattr(study, f"make_{name}", lambda *_, made=made: made)
    names = ["widths.stochastic", "assignment.softmax", "assignment.cuts"]
    first = study.run_cells(config, 1, 3, tmp_path / "a", lambda *_: None, names)
    again = study.run_cells(config, 1, 3, tmp_path / "b", lambda *_: None, names)
    assert first == again
    kept = study.run_cells(config, 1, 3, tmp_path / "a", ran_again, names)
    assert kept == first
    with pytest.raises(InputError, match="another configuration"):
        study.run_cells(config, 1, 4, tmp_path / "a", ran_again, names)
    with pytest.raises(InputError, match="another configuration"):
        study.run_cells(config, 1, 3, tmp_path / "a", ran_again, names, "test")
    with pytest.raises(InputError, match="unknown relaxation"):
        study.run_cells(config, 1, 3, tmp_path / "a", ran_again, ["widths.best"])


@pytest.mark.parametrize("name", ["softmax", "gumbel", "cuts", "perturbed"])
def test_an_assignment_without_doubt_loses_nothing_by_rounding(setting, correct, fresh, name):
    shape = setting.objective.shape
    relaxation = make_relaxation(name, shape.layers, shape.cores)
    decided = 100.0 * relaxation.start(np.arange(shape.layers) * shape.cores // shape.layers)
    if name == "cuts":  # its first entries are logarithms of lengths
        decided[: shape.cores] /= 100.0
    row = measure_assignment(setting, name, correct, fresh, jax.numpy.asarray(decided), 0)
    assert row["rounded"].split() == [str(core) for core in np.asarray(decided_cores(shape))]
    if name != "cuts":  # cuts keep a noise of a fraction of a layer at any scores
        assert row["accuracy_before"] == row["accuracy_after"]
        for cost in COSTS:
            assert row[f"{cost}_before"] == pytest.approx(row[f"{cost}_after"], rel=1e-12)


def decided_cores(shape) -> np.ndarray:
    return np.arange(shape.layers) * shape.cores // shape.layers


def test_the_interval_over_pictures_is_that_of_paired_differences() -> None:
    before = [np.array([True, True, False, False]), np.array([True, False, False, False])]
    after = np.array([True, True, True, False])
    costs = {cost: 2.0 for cost in COSTS}
    row = make_row("widths", "x", 0, before, after, (costs, costs))
    gap = np.array([0.0, 0.5, 1.0, 0.0])
    half = 1.959964 * gap.std(ddof=1) / 2
    assert (row["accuracy_before"], row["accuracy_after"]) == (0.375, 0.75)
    assert row["pictures_low"] == pytest.approx(gap.mean() - half)
    assert row["pictures_high"] == pytest.approx(gap.mean() + half)


def example_row(name: str, seed: int, gap: float) -> dict:
    row = {
        "kind": "widths",
        "relaxation": name,
        "seed": seed,
        "accuracy_before": 0.9,
        "accuracy_after": 0.9 + gap,
    }
    for cost in COSTS:
        row |= {f"{cost}_before": 100.0, f"{cost}_after": 100.0 * (1 + gap)}
    return row | {"width_before": 30.5, "width_after": 30, "rounded": "10 20"}


ROWS = [
    example_row(name, seed, gap + 0.01 * seed)
    for seed in range(3)
    for name, gap in (("stochastic", -0.01), ("clipped", -0.2))
]


def test_summary_pairs_seeds() -> None:
    stochastic, clipped = summarise(ROWS)
    assert stochastic["gap_low"] < 0.0 == pytest.approx(stochastic["accuracy_gap"])
    assert clipped["gap_high"] < 0.0
    assert clipped["accuracy_worst"] == pytest.approx(-0.2)
    assert clipped["io_bytes_worst"] == pytest.approx(-0.2)
    assert clipped["seeds"] == 3


def test_the_study_is_drawn_again_from_its_table(tmp_path) -> None:
    files = write_study(tmp_path, "rounding", ROWS, {"seeds": [0, 1, 2]})
    assert read_rows(files[0]) == ROWS
    first = files[2].read_bytes()
    files[2].unlink()
    assert draw_study(tmp_path)[0].read_bytes() == first
