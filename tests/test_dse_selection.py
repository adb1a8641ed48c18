"""Which designs are trained, chosen and tuned: laws of sampling, choice and tuning together."""

import jax
import moocore
import numpy as np
import pytest
from trained_run import quick_block

from dse import tables
from dse.baselines import run_phases
from dse.config import parse_config
from dse.context import make_context
from dse.finetune import FinetunePhase
from dse.handover import objective_of
from dse.sampling import sample_design
from dse.selection import choose, distinct
from dse.surface_spec import Weights
from dse.tables import TablesPhase
from dse.weights import PATTERNS, cheap_crossings, training_design


@pytest.fixture(scope="module")
def placed():
    """A small experiment, its made-up tables and the crossings that are cheap with them."""
    context = make_context(
        parse_config(
            {
                "name": "tiny",
                "network": {
                    "name": "digits_resnet",
                    "width_multiplier": 0.25,
                    "bottlenecks": ["stem.out", "stage2.block0.out"],
                },
                "chip": "quad_big_little",
                "hardware": {"mode": "fixed"},
                "training": {"batch": 16, "calibration_pictures": 16},
                "surface": {
                    "weights": {"whole_fraction": 0.3, "cheap_fraction": 0.7},
                    "finetune": {"together": 4, "steps": 1},
                },
            }
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "calc_block", quick_block)
        outputs = run_phases([TablesPhase(context)], {})
    objective = objective_of(context, outputs)
    cheap = cheap_crossings(context, objective, outputs["tables"]["reference"])
    return context, outputs, cheap


def test_cheap_crossings_are_those_of_partitions(placed) -> None:
    context, _, cheap = placed
    assert cheap.shape == (len(context.net.edges), PATTERNS)
    assert set(np.unique(cheap)) <= {0, 1}


def test_a_design_crosses_where_costs_say_or_anywhere(placed) -> None:
    context, _, cheap = placed
    listed = {tuple(pattern) for pattern in cheap.T}
    edges = context.boundary_of_edge
    for share in (0.0, 1.0):
        settings = Weights(cheap_fraction=share)
        rng = np.random.default_rng(0)
        drawn = [sample_design(rng, context.boundaries, edges, settings, cheap) for _ in range(200)]
        patterns = {tuple(crossing.astype(int)) for _, crossing in drawn}
        if share == 1.0:
            assert patterns <= listed
        else:
            assert len(patterns) > len(listed)
        for widths, _ in drawn:
            for width, boundary in zip(widths, context.boundaries, strict=True):
                assert width in {*range(1, len(boundary.reduce) + 1), boundary.channels}


def test_choice_is_never_worse_than_spreading_and_prefers_what_counts() -> None:
    rng = np.random.default_rng(1)
    reference = np.full(3, 0.7)
    for _ in range(10):
        points = rng.uniform(size=(30, 3))
        taken = choose(points, reference, 6)
        assert len(set(taken)) == 6
        volume = moocore.hypervolume(points[taken], ref=reference)
        chance = moocore.hypervolume(points[rng.permutation(30)[:6]], ref=reference)
        assert volume >= chance
        useful = (points < reference).all(axis=1) & moocore.is_nondominated(points)
        assert useful[taken].sum() == min(6, useful.sum())


def test_choice_fills_up_when_nothing_adds() -> None:
    points = np.array([[0.1, 0.1, 0.1], [0.2, 0.2, 0.2], [2.0, 2.0, 2.0], [0.3, 0.1, 0.2]])
    assert choose(points, np.ones(3), 1) == [0]
    assert sorted(choose(points, np.ones(3), 3))[0] == 0
    assert sorted(choose(points, np.ones(3), 9)) == [0, 1, 2, 3]


def test_tuning_together_serves_every_design(placed) -> None:
    context, outputs, _ = placed
    ordinals, assignment = outputs["tables"]["reference"]
    params, stats = context.net.init(jax.random.key(0))
    chosen = {
        "ordinals": np.repeat(ordinals[:, None], 2, axis=1),
        "assignment": np.repeat(assignment[:, None], 2, axis=1),
    }
    outputs = {**outputs, "weights": {"params": params, "stats": stats}, "selection": chosen}
    phase = FinetunePhase(context)
    phase.bind(outputs)
    assert phase.count(outputs) == 4 + 2 * (1 + 1)
    state = phase.init(outputs)
    seen, shared = [], {}
    for index in range(phase.count(outputs)):
        state, metrics = phase.step(state, index)
        assert metrics is not None
        seen.append(metrics["design"])
        if index == 3:
            shared = state["kept"]
    assert sorted(seen[:2]) == sorted(seen[2:4]) == [0, 1]
    assert seen[4:] == [0, 0, 1, 1]
    moved = [name for name, value in params.items() if (np.asarray(value) != shared[name][0]).any()]
    assert moved
    for name, array in shared.items():
        np.testing.assert_array_equal(array[0], array[1])
        both = phase.result(state)["params"][name]
        if not state["improved"][0]:
            np.testing.assert_array_equal(both[0], array[0])


def test_of_one_network_only_the_cheapest_stay() -> None:
    networks = np.array([[1, 1, 1, 2], [0, 0, 0, 0]])
    costs = np.array([[10.0, 10.0, 20.0, 30.0], [5.0, 6.0, 4.0, 9.0]])
    everything = np.ones(4, bool)
    assert distinct(networks, costs, everything).tolist() == [0, 2, 3]
    assert distinct(networks, costs, np.array([False, True, True, True])).tolist() == [1, 2, 3]
    assert distinct(networks[:, [0, 0]], costs[:, [0, 0]], everything[:2]).tolist() == [0]


def test_the_whole_network_comes_first(placed) -> None:
    context, _, cheap = placed
    share, steps = context.config.surface.weights.whole_fraction, 40
    full = [b.channels for b in context.boundaries]
    for index in range(steps):
        widths, crossing = training_design(context, index, steps, cheap)
        if index < share * steps:
            assert widths.tolist() == full
            assert not crossing.any()
        else:
            assert set(np.unique(crossing)) <= {0.0, 1.0}
            assert (widths >= 1).all()
