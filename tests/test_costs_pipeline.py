"""A stream of inputs: nothing overlaps, order holds, and a free pipeline loses nothing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_problem import make_problem, random_designs

from costs.chip import Link
from costs.chip_cost import calc_chip_cost
from costs.chip_report import calc_inputs
from costs.pipeline import (
    Operation,
    calc_end_s,
    list_operations,
    schedule_alone,
    schedule_stream,
)

NAMES = [f"core{k}" for k in range(4)]
RING = tuple(Link(f"l{k}", (NAMES[k], NAMES[(k + 1) % 4]), 1e8, 2.0, 1e-8) for k in range(4))


def make_operations(steps):
    """A chain: each step a core and a time, and waits for the one before it."""
    found, last_on = [], {}
    for number, (core, time_s) in enumerate(steps):
        after = {number - 1} | {last_on.get(core, -1)} - {-1} if number else set()
        found.append(Operation(number, ("core", core), time_s, tuple((j, 0.0) for j in after)))
        last_on[core] = number
    return found


def calc_interval(operations):
    """The time of the busiest resource [s]."""
    kinds = {o.resource for o in operations}
    return max(sum(o.time_s for o in operations if o.resource == kind) for kind in kinds)


def check_stream(operations, interval_s, inputs=5):
    """Everything waits for what it needs, and no resource does two things at once."""
    starts = schedule_stream(operations, interval_s)
    slack_s = 1e-8 * interval_s
    assert min(starts) >= 0
    for operation, start_s in zip(operations, starts, strict=True):
        for j, lag_s in operation.after:
            assert start_s >= starts[j] + operations[j].time_s + lag_s - slack_s
    for kind in {o.resource for o in operations}:
        spans = sorted(
            (n * interval_s + s, n * interval_s + s + o.time_s)
            for n in range(inputs)
            for s, o in zip(starts, operations, strict=True)
            if o.resource == kind and o.time_s > slack_s
        )
        assert all(a[1] <= b[0] + slack_s for a, b in itertools.pairwise(spans))
    assert calc_end_s(operations, starts) >= calc_end_s(operations, schedule_alone(operations))


times = st.floats(0.001, 1.0)


@given(st.lists(st.tuples(st.integers(0, 2), times), min_size=1, max_size=10))
def test_no_core_runs_two_layers_and_every_input_runs_in_order(steps):
    operations = make_operations(steps)
    check_stream(operations, calc_interval(operations))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4)), min_size=4, max_size=12))
def test_whole_times_fill_the_interval_to_its_end(steps):
    operations = make_operations([(core, float(time_s)) for core, time_s in steps])
    check_stream(operations, calc_interval(operations))


@given(st.lists(times, min_size=1, max_size=6))
def test_one_stage_on_every_core_takes_no_longer_than_alone(stages):
    operations = make_operations(list(enumerate(stages)))
    starts = schedule_stream(operations, max(stages))
    np.testing.assert_allclose(starts, schedule_alone(operations), rtol=1e-12)


def test_a_core_used_twice_delays_by_what_hand_computation_says():
    # A 1 s, B 1 s, A 1 s: every 2 s. The second use of A would meet the next input at 2 s, and
    # waits until 3 s.
    operations = make_operations([(0, 1.0), (1, 1.0), (0, 1.0)])
    assert schedule_alone(operations) == [0.0, 1.0, 2.0]
    assert schedule_stream(operations, 2.0) == [0.0, 1.0, 3.0]


def test_gaps_too_short_are_closed():
    # A: 2 s at 0, 1 s at 3, then 2 s. Every 5 s: the gaps at 2 and 4 s hold 1 s each, so that A
    # has to run its second operation at 2 s of a later period, and its third after it.
    operations = make_operations([(0, 2.0), (1, 1.0), (0, 1.0), (2, 0.5), (0, 2.0)])
    assert schedule_stream(operations, 5.0) == [0.0, 2.0, 7.0, 8.0, 8.5 - 0.5 + 5.0]


@pytest.mark.parametrize("links", [None, RING], ids=["bus", "ring"])
def test_designs_run_as_the_cost_model_says(links):
    problem = make_problem(links=links)
    widths, assignment, knobs = random_designs(problem, 60)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    for design in range(60):
        operations = list_operations(problem, costs, assignment, design)
        starts = schedule_alone(operations)
        end_s = calc_end_s(operations, starts)
        assert end_s == pytest.approx(costs["latency_s"][design], rel=1e-12)
        for operation, start_s in zip(operations, starts, strict=True):
            if operation.slot >= 0:
                expected_s = costs["slot_start_s"][operation.slot, design]
                assert start_s == pytest.approx(expected_s, rel=1e-12)
        check_stream(operations, costs["interval_s"][design])


def test_more_inputs_add_an_interval_each_and_idle_power_lasts():
    problem = make_problem()
    widths, assignment, knobs = random_designs(problem, 60)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    one, two, many = (calc_inputs(problem, costs, assignment, n) for n in (1, 2, 12))
    np.testing.assert_array_equal(one.latency_s, costs["latency_s"])
    np.testing.assert_array_equal(one.in_flight, 1)
    assert (two.each_latency_s >= one.each_latency_s * (1 - 1e-12)).all()
    np.testing.assert_allclose(many.latency_s - two.latency_s, 10 * costs["interval_s"])
    np.testing.assert_allclose(many.energy_pj - two.energy_pj, 10 * costs["energy_pj"])
    assert (many.in_flight * costs["interval_s"] >= many.each_latency_s * (1 - 1e-8)).all()
