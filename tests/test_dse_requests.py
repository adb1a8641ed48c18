"""Designs asked for by name: found by the policy's help, added to the chosen ones, answered."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_dse_shared_hardware import make_objective

from costs.errors import InputError
from dse.config import parse_config
from dse.experiment_spec import Budget, Preference, Request, Surface
from dse.front import FrontPhase
from dse.policy import init_policy, initial_raw
from dse.requests import RequestsPhase, limits_of, preference_vector, start_design, words_of
from dse.search import improve

EXPERIMENT = {"name": "asked", "network": {"name": "digits_resnet"}, "chip": "quad_big_little"}


@pytest.fixture(scope="module")
def objective():
    return make_objective()


@pytest.fixture(scope="module")
def outputs(objective):
    """A policy without training, and two designs that selection chose."""
    shape = objective.shape
    knobs = shape.ordinal_high[len(shape.max_widths) :] // 2
    start = initial_raw(shape, knobs, np.zeros(shape.layers, int))
    ordinals = np.repeat(shape.ordinal_low[:, None].astype(int), 2, axis=1)
    chosen = {
        "preference": np.zeros((5, 2), np.float32),
        "relaxed": ordinals.astype(float),
        "ordinals": ordinals,
        "assignment": np.zeros((shape.layers, 2), int),
        "gaps": np.zeros((3, 2)),
        "measures": np.zeros((3, 2)),
    }
    return {"policy": {"params": init_policy(jax.random.key(0), 8, start)}, "selection": chosen}


def context_of(requests=(), mode="per_design"):
    hardware = SimpleNamespace(mode=mode, area_budget_mm2=None)
    config = SimpleNamespace(
        requests=list(requests), surface=Surface(), hardware=hardware, method="surface", seed=0
    )
    return SimpleNamespace(config=config)


def phase_of(requests, objective, outputs) -> RequestsPhase:
    phase = RequestsPhase(context_of(requests))  # pyright: ignore[reportArgumentType]
    phase.objective, phase.outputs = objective, outputs
    phase.chosen = {k: v for k, v in outputs["selection"].items() if k != "measures"}
    return phase


def test_a_request_needs_a_preference_or_a_budget_and_method_surface():
    with pytest.raises(InputError, match="give a preference or a budget"):
        parse_config({**EXPERIMENT, "requests": [{}]})
    asked = {"method": "joint", "requests": [{"budget": {"io_bytes": 1.0}}]}
    with pytest.raises(InputError, match=r"requests.*joint\.budget"):
        parse_config({**EXPERIMENT, **asked})
    both = Request(preference=Preference(energy=0.25), budget=Budget(io_bytes=150, area=2))
    assert words_of(both) == "io_bytes <= 150, area <= 2, prefer energy 0.25"
    assert limits_of(both.budget) == {"io_bytes": 150.0, "area": 2.0}
    np.testing.assert_allclose(preference_vector(both.preference), [0.75, 0, 0.25, 0, 0])


def test_requests_come_after_what_selection_chose_and_keep_their_budgets(objective, outputs):
    free = Request(preference=Preference(energy=0.9))
    dear = phase_of([free], objective, outputs)
    state, shown = dear.step(dear.init(outputs), 0)
    assert shown is not None
    limit = 0.5 * shown["io_bytes"]
    tight = Request(preference=Preference(energy=0.9), budget=Budget(io_bytes=limit))
    phase = phase_of([free, tight], objective, outputs)
    state = phase.init(outputs)
    for index in range(phase.steps):
        state, _ = phase.step(state, index)
    found = phase.result(state)
    np.testing.assert_array_equal(found["request"], [-1, -1, 0, 1])
    for name in ("ordinals", "assignment", "relaxed"):
        np.testing.assert_array_equal(found[name][:, :2], outputs["selection"][name])
    costs = objective.costs(found["ordinals"], found["assignment"])
    assert costs["io_bytes"][3] <= limit < costs["io_bytes"][2]


def test_a_search_starts_at_the_best_of_the_designs_tried(objective, outputs):
    preference = np.array([0.1, 0.5, 0.4, 0.0, 0.0])
    context = context_of()
    values = [
        float(objective.value(preference[:, None], start[:, None], cores[:, None])[0])
        for tried in (1, 16)
        for _, start, cores in [start_design(context, objective, outputs, preference, tried)]  # pyright: ignore[reportArgumentType]
    ]
    assert values[1] <= values[0]


def test_one_chip_is_that_of_all_requests(objective, outputs):
    widths = len(objective.shape.max_widths)
    knobs = objective.shape.ordinal_high[widths:].astype(int)
    shared = {**outputs, "hardware": {"knobs": knobs, "gap": np.array([0.25])}}
    phase = phase_of([Request(preference=Preference(area=0.9))], objective, shared)
    phase.context.config.hardware.mode = "shared"
    state, _ = phase.step(phase.init(shared), 0)
    np.testing.assert_array_equal(state["ordinals"][widths:, 2], knobs)
    assert state["gaps"][2, 2] == 0.25


def test_a_budget_is_answered_by_the_most_accurate_that_keeps_it(objective, outputs):
    """Validation counts 90, 95, 95, 99; the last is too dear, of the equal ones the lean is taken.

    A preference is answered by its own design, though another is more accurate.
    """
    io_bytes = np.array([100.0, 200.0, 150.0, 900.0])
    requests = [
        Request(budget=Budget(io_bytes=300)),
        Request(preference=Preference(energy=0.5)),
        Request(budget=Budget(io_bytes=50)),
    ]
    front = FrontPhase(context_of(requests), None)  # pyright: ignore[reportArgumentType]
    front.objective = replace(objective, budgets={})
    front.chosen = {"request": np.array([0, 1, -1, -1])}
    front.costs = {"io_bytes": io_bytes, "energy_pj": np.ones(4)}
    state = {"correct": np.array([[90, 95, 95, 99], [0, 0, 0, 0]])}
    assert front._answers(state) == [2, 1, None]


def test_polishing_the_same_design_twice_changes_nothing(objective):
    """`improve` compares no assignment twice at the same widths and still ends where it began."""
    shape, rng = objective.shape, np.random.default_rng(2)
    low, high = shape.ordinal_low.astype(int), shape.ordinal_high.astype(int)
    preference = np.array([0.1, 0.5, 0.4, 0.0, 0.0])
    free = np.ones(len(low), bool)
    start = rng.integers(low, high + 1)
    once = improve(objective, preference, start, rng.integers(0, 4, shape.layers), free)
    twice = improve(objective, preference, *once, free)
    for first, second in zip(once, twice, strict=True):
        np.testing.assert_array_equal(first, second)
