"""Several inputs at once: nothing overlaps, order holds, nobody idles while work is ready."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_problem import make_problem, random_designs

from costs.chip import Link
from costs.chip_cost import calc_chip_cost
from costs.chip_report import calc_inputs
from costs.pipeline import FOLLOWED, Operation, list_ends, list_operations, run_inputs

NAMES = [f"core{k}" for k in range(4)]
RING = tuple(Link(f"l{k}", (NAMES[k], NAMES[(k + 1) % 4]), 1e8, 2.0, 1e-8) for k in range(4))


def make_operations(steps):
    """A chain: each step has a core and a time, and waits for the one before it."""
    return [
        Operation(number, ("core", core), time_s, ((number - 1, 0.0),) if number else ())
        for number, (core, time_s) in enumerate(steps)
    ]


def calc_work(operations):
    """The time of the busiest resource for one input [s]."""
    kinds = {o.resource for o in operations}
    return max(sum(o.time_s for o in operations if o.resource == kind) for kind in kinds)


def check_run(operations, inputs):
    """What any schedule must keep, and that no resource idles while something could start."""
    starts = run_inputs(operations, inputs)
    slack_s = 1e-7 * max(o.time_s for o in operations)
    ready = [
        [max((mine[j] + operations[j].time_s + lag_s for j, lag_s in o.after), default=0.0)
         for o in operations]
        for mine in starts
    ]  # fmt: skip
    assert (np.array(starts) >= np.array(ready) - slack_s).all()
    for kind in {o.resource for o in operations}:
        spans = sorted(
            (mine[n], mine[n] + o.time_s, mine_ready[n])
            for mine, mine_ready in zip(starts, ready, strict=True)
            for n, o in enumerate(operations)
            if o.resource == kind
        )
        assert all(a[1] <= b[0] + slack_s for a, b in itertools.pairwise(spans))
        # before each start the resource was busy since the operation was ready
        for number, (start_s, _, ready_s) in enumerate(spans):
            busy_s = sum(min(e, start_s) - max(b, ready_s) for b, e, _ in spans[:number] if e > ready_s)  # fmt: skip # noqa: E501
            assert busy_s >= start_s - ready_s - slack_s * (number + 1)
    ends = list_ends(operations, starts)
    assert max(ends) >= inputs * calc_work(operations) - slack_s
    return ends


times = st.floats(0.001, 1.0)
steps = st.lists(st.tuples(st.integers(0, 2), times), min_size=1, max_size=8)


@given(steps, st.integers(1, 5))
def test_inputs_run_in_order_and_no_core_idles_without_reason(chain, inputs):
    ends = check_run(make_operations(chain), inputs)
    assert ends[0] >= sum(time_s for _, time_s in chain) * (1 - 1e-7)


@given(st.lists(times, min_size=1, max_size=6), st.integers(1, 5))
def test_one_stage_on_every_core_adds_the_longest_stage_for_each_input(stages, inputs):
    ends = check_run(make_operations(list(enumerate(stages))), inputs)
    expected = sum(stages) + np.arange(inputs) * max(stages)
    np.testing.assert_allclose(ends, expected, rtol=1e-7)


def test_a_core_used_twice_gives_what_hand_computation_says():
    # A 1 s, B 1 s, A 1 s. A runs both inputs' first steps, then both their last ones: 4 s, while
    # latency and an interval of 2 s would be 5 s.
    operations = make_operations([(0, 1.0), (1, 1.0), (0, 1.0)])
    assert run_inputs(operations, 2) == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    # with 1.5 s on B: A waits for the first input's last step until 2.5 s, but has begun the
    # third input at 2 s, and an operation is not interrupted
    operations = make_operations([(0, 1.0), (1, 1.5), (0, 1.0)])
    assert run_inputs(operations, 3) == [[0.0, 1.0, 3.0], [1.0, 2.5, 4.0], [2.0, 4.0, 5.5]]


@pytest.mark.parametrize("links", [None, RING], ids=["bus", "ring"])
def test_designs_run_as_the_cost_model_says(links):
    problem = make_problem(links=links)
    widths, assignment, knobs = random_designs(problem, 40)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    for design in range(40):
        operations = list_operations(problem, costs, assignment, design)
        (starts,) = run_inputs(operations, 1)
        (end_s,) = list_ends(operations, [starts])
        assert end_s == pytest.approx(costs["latency_s"][design], rel=1e-9)
        for operation, start_s in zip(operations, starts, strict=True):
            if operation.slot >= 0:
                expected_s = costs["slot_start_s"][operation.slot, design]
                assert start_s == pytest.approx(expected_s, rel=1e-9)
        assert calc_work(operations) <= costs["interval_s"][design] * (1 + 1e-9)
        check_run(operations, 5)


@pytest.mark.parametrize("blocks", [3, 12])
def test_a_long_row_adds_an_interval_each_and_idle_power_lasts(blocks):
    problem = make_problem(blocks=blocks)
    widths, assignment, knobs = random_designs(problem, 20)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    counts = (1, FOLLOWED // 2, FOLLOWED, FOLLOWED + 7)
    one, half, all_of_them, more = (calc_inputs(problem, costs, assignment, n) for n in counts)
    np.testing.assert_allclose(one["latency_s"], costs["latency_s"], rtol=1e-9)
    np.testing.assert_allclose(one["energy_pj"] - costs["energy_pj"], (
        costs["energy_idle_pj"] * (costs["latency_s"] / costs["interval_s"] - 1)
    ), rtol=1e-6)  # fmt: skip
    rate = (all_of_them["latency_s"] - half["latency_s"]) / (FOLLOWED // 2) / costs["interval_s"]
    np.testing.assert_allclose(rate, 1.0, rtol=0.02)
    np.testing.assert_allclose(
        more["latency_s"] - all_of_them["latency_s"], 7 * costs["interval_s"]
    )
    assert (all_of_them["latency_s"] >= FOLLOWED * costs["interval_s"] * (1 - 1e-7)).all()
