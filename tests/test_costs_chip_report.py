"""What every core and link does: sums that must agree with the totals."""

import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs

from costs.chip import Link
from costs.chip_cost import calc_chip_cost
from costs.chip_report import calc_core_load, calc_link_load

NAMES = [f"core{k}" for k in range(4)]
RING = tuple(Link(f"l{k}", (NAMES[k], NAMES[(k + 1) % 4]), 1e8, 2.0, 1e-8) for k in range(4))


@pytest.fixture(scope="module", params=["bus", "ring"])
def loads(request):
    problem = make_problem(links=RING if request.param == "ring" else None)
    widths, assignment, knobs = random_designs(problem, 100)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    core = calc_core_load(problem, costs, assignment, knobs)
    return problem, costs, core, calc_link_load(problem, costs, assignment)


def test_cores_share_all_of_the_dram_traffic(loads):
    _, costs, core, _ = loads
    np.testing.assert_allclose(core.dram_bytes.sum(axis=0), costs["dram_bytes"], rtol=1e-12)
    np.testing.assert_allclose(core.dram_share.sum(axis=0), 1.0, rtol=1e-12)


def test_a_core_is_busy_at_least_as_long_as_it_computes_or_moves(loads):
    _, costs, core, _ = loads
    assert (core.busy_s >= core.compute_s * (1 - 1e-12)).all()
    assert (core.busy_s >= core.memory_s * (1 - 1e-12)).all()
    assert (core.stage_s <= costs["interval_s"] * (1 + 1e-12)).all()


def test_what_leaves_arrives(loads):
    problem, costs, core, link = loads
    if len(problem.chip.links) == 1:  # a bus: sent once, received by each core that needs it
        total = link.busy_s[0]
        np.testing.assert_allclose(core.link_out_s.sum(axis=0), total, rtol=1e-12)
        assert (core.link_in_s.sum(axis=0) >= total * (1 - 1e-12)).all()
    idle = ~costs["crossing"].any(axis=0)
    assert (core.link_in_s[:, idle] == 0).all()
    assert ((core.link_in_s > 0).any(axis=0) == ~idle).all()


def test_links_carry_the_totals(loads):
    _, costs, _, link = loads
    np.testing.assert_allclose(link.traffic_bytes[:-1].sum(axis=0), costs["link_bytes"])
    np.testing.assert_allclose(link.energy_pj[:-1].sum(axis=0), costs["energy_link_pj"])
    np.testing.assert_array_equal(link.traffic_bytes[-1], costs["dram_bytes"])
    assert (link.utilization <= 1 + 1e-12).all()
    np.testing.assert_allclose(
        link.required_bits_per_s, link.utilization * link.bandwidth_bits_per_s, rtol=1e-12
    )
    assert ((link.sharers > 0) == (link.traffic_bytes > 0)).all()


def test_weights_that_stay_fit_and_are_part_of_all(loads):
    _, _, core, _ = loads
    assert (core.weights_kept_bytes <= core.weight_buffer_bytes).all()
    assert (core.weights_kept_bytes <= core.weight_bytes * (1 + 1e-12)).all()
    fits = core.weight_bytes <= core.weight_buffer_bytes
    np.testing.assert_allclose(core.weights_kept_bytes[fits], core.weight_bytes[fits])
    assert not fits.all()
