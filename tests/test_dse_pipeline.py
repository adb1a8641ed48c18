"""Several inputs on a chip: nothing overlaps, order holds, and a free pipeline loses nothing."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dse.breakdown import Breakdown, LayerCost
from dse.pipeline import schedule_inputs


def make_design(steps):
    """Layers in turn, each on a core for some time, and the interval of the busiest core."""
    rows, now = [], 0.0
    for number, (core, time_s) in enumerate(steps):
        rows.append(LayerCost(f"l{number}", f"c{core}", {}, now, time_s))
        now += time_s
    busy = [sum(t for c, t in steps if c == core) for core in range(3)]
    costs = {"interval_s": max(busy), "latency_s": now}
    return Breakdown("d", ("c0", "c1", "c2"), tuple(rows), (), costs, {})


times = st.floats(0.001, 1.0)
designs = st.lists(st.tuples(st.integers(0, 2), times), min_size=1, max_size=8).map(make_design)


@given(designs, st.integers(1, 4))
def test_no_core_runs_two_layers_and_every_input_runs_in_order(design, inputs):
    runs = schedule_inputs(design, inputs)
    assert len(runs) == inputs * len(design.layers)
    for core in design.cores:
        spans = sorted((s, s + design.layers[i].time_s) for _, i, s in runs if design.layers[i].core == core)  # fmt: skip # noqa: E501
        for before, after in itertools.pairwise(spans):
            assert before[1] <= after[0] + 1e-6
    for number in range(inputs):
        mine = sorted((i, s) for n, i, s in runs if n == number)
        ends = [s + design.layers[i].time_s for i, s in mine]
        assert all(end <= s + 1e-6 for end, (_, s) in zip(ends, mine[1:], strict=False))
        assert mine[0][1] >= number * design.costs["interval_s"] - 1e-9


@given(st.lists(times, min_size=3, max_size=3), st.integers(1, 5))
def test_one_stage_on_every_core_takes_the_latency_and_an_interval_each(stage, inputs):
    design = make_design(list(enumerate(stage)))
    end_s = max(s + design.layers[i].time_s for _, i, s in schedule_inputs(design, inputs))
    expected_s = design.costs["latency_s"] + (inputs - 1) * design.costs["interval_s"]
    assert abs(end_s - expected_s) < 1e-6
