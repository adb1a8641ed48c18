"""Laws of what a design costs on a chip, and one example computed by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_problem import make_chip, make_problem, random_designs

from costs.chip import Link
from costs.chip_cost import calc_chip_cost
from costs.errors import InputError

TOTALS = (
    "energy_pj",
    "io_bytes",
    "link_bytes",
    "dram_bytes",
    "latency_s",
    "interval_s",
    "area_mm2",
)


@pytest.fixture(scope="module")
def problem():
    return make_problem()


def test_a_design_costs_the_same_alone_and_among_others(problem):
    widths, assignment, knobs = random_designs(problem, 50)
    together = calc_chip_cost(problem, widths, assignment, knobs)
    for d in range(0, 50, 7):
        one = slice(d, d + 1)
        alone = calc_chip_cost(problem, widths[:, one], assignment[:, one], knobs[:, :, one])
        for name in TOTALS:
            assert alone[name][0] == together[name][d], name


def test_jax_gives_what_numpy_gives(problem):
    designs = random_designs(problem, 200)
    exact = calc_chip_cost(problem, *designs)
    traced = jax.jit(
        lambda *d: {name: calc_chip_cost(problem, *d, xp=jnp)[name] for name in TOTALS}
    )(*designs)
    for name in TOTALS:
        np.testing.assert_allclose(traced[name], exact[name], rtol=1e-5)


def test_energy_is_the_sum_of_its_parts(problem):
    costs = calc_chip_cost(problem, *random_designs(problem, 20))
    parts = [v for k, v in costs.items() if k.startswith("energy_") and k != "energy_pj"]
    np.testing.assert_allclose(sum(parts), costs["energy_pj"], rtol=1e-12)
    np.testing.assert_array_equal(costs["io_bytes"], costs["link_bytes"] + costs["dram_bytes"])


def test_one_core_has_no_link_traffic(problem):
    widths, assignment, knobs = random_designs(problem, 20)
    costs = calc_chip_cost(problem, widths, 0 * assignment + 2, knobs)
    assert (costs["link_bytes"] == 0).all()
    assert (costs["energy_link_pj"] == 0).all()
    assert (costs["cores_used"] == 1).all()
    assert not costs["crossing"].any()


def test_widths_of_boundaries_that_do_not_cross_cost_nothing(problem):
    widths, assignment, knobs = random_designs(problem, 20)
    one_core = 0 * assignment
    narrow = calc_chip_cost(problem, 0 * widths + 1, one_core, knobs)
    wide = calc_chip_cost(problem, widths, one_core, knobs)
    for name in TOTALS:
        np.testing.assert_array_equal(narrow[name], wide[name])


def test_narrowing_a_crossed_boundary_never_adds_link_traffic(problem):
    widths, assignment, knobs = random_designs(problem, 200)
    before = calc_chip_cost(problem, widths, assignment, knobs)["link_bytes"]
    after = calc_chip_cost(problem, np.maximum(widths - 1, 1), assignment, knobs)["link_bytes"]
    assert (after <= before).all()
    assert (after < before).any()


def test_free_links_make_the_cut_free(problem):
    free = [replace(k, energy_pj_per_bit=0.0, bandwidth_bytes_per_s=1e30, hop_latency_s=0.0)
            for k in problem.chip.links]  # fmt: skip
    chip = replace(problem.chip, links=tuple(free))
    designs = random_designs(problem, 50)
    costs = calc_chip_cost(replace(problem, chip=chip), *designs)
    assert (costs["energy_link_pj"] == 0).all()
    dram_s = costs["dram_bytes"] / problem.chip.dram_bandwidth_bytes_per_s
    stage_s = np.maximum(costs["core_busy_s"].max(axis=0), dram_s)
    np.testing.assert_allclose(costs["interval_s"], stage_s, rtol=1e-12)


def test_doubling_the_link_bandwidth_never_slows(problem):
    designs = random_designs(problem, 200)
    before = calc_chip_cost(problem, *designs)
    links = tuple(
        replace(k, bandwidth_bytes_per_s=2 * k.bandwidth_bytes_per_s) for k in problem.chip.links
    )
    after = calc_chip_cost(replace(problem, chip=replace(problem.chip, links=links)), *designs)
    assert (after["interval_s"] <= before["interval_s"]).all()
    assert (after["latency_s"] <= before["latency_s"] * (1 + 1e-12)).all()


def test_permuting_equal_cores_changes_nothing(problem):
    widths, assignment, knobs = random_designs(problem, 100)
    swapped = np.array([2, 1, 0, 3])[assignment]  # cores 0 and 2 are of one type, on one bus
    before = calc_chip_cost(problem, widths, assignment, knobs)
    after = calc_chip_cost(problem, widths, swapped, knobs)
    for name in TOTALS:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-12)


def test_latency_is_at_least_the_busiest_core_and_at_most_everything_in_turn(problem):
    costs = calc_chip_cost(problem, *random_designs(problem, 200))
    assert (costs["latency_s"] >= costs["core_busy_s"].max(axis=0) * (1 - 1e-12)).all()
    link = problem.chip.links[0]
    hops = costs["crossing"].sum(axis=0) * link.hop_latency_s
    in_turn = costs["core_busy_s"].sum(axis=0) + hops
    in_turn = in_turn + costs["link_bytes"] / link.bandwidth_bytes_per_s
    assert (costs["latency_s"] <= in_turn * (1 + 1e-12)).all()


def test_more_weight_buffer_never_loses_resident_weights(problem):
    widths, assignment, knobs = random_designs(problem, 200)
    small, large = knobs.copy(), knobs.copy()
    small[:, 2], large[:, 2] = 0, 1
    weights = np.array([row.bytes("W") for row in problem.rows])
    stays = [
        calc_chip_cost(problem, widths, assignment, k)["slot_resident"] for k in (small, large)
    ]
    layer_slots = [i for i, s in enumerate(problem.slots) if s.kind == "layer"]
    held = [np.einsum("sd,s->d", s[layer_slots], weights[: len(layer_slots)]) for s in stays]
    assert held[0].mean() < held[1].mean()


def test_multicast_crosses_a_bus_once_and_every_link_of_a_path_once():
    """A skip and a main input on different cores: one transfer on a bus, each hop of a chain."""
    names = tuple(f"core{k}" for k in range(3))
    chain = tuple(Link(f"l{k}", names[k : k + 2], 1e8, 2.0) for k in range(2))
    assignment = np.array([0, 1, 2, 2, 2, 2, 2])[:, None]
    for links, expected in ((None, {"stem": 1, "mid": 1}), (chain, {"stem": 2, "mid": 1})):
        problem = make_problem(cores=3, links=links)
        full = np.array(problem.max_widths)[:, None]
        knobs = np.zeros((2, 3, 1), int)
        costs = calc_chip_cost(problem, full, assignment, knobs)
        size = 4 * 4 * 8  # of the stem's and the first convolution's output
        assert costs["link_bytes"][0] == size * (expected["stem"] + expected["mid"])


def test_two_cores_one_link_by_hand():
    """Stem | rest over a bus with a bottleneck of width 2, added up by hand."""
    problem = make_problem(cores=2, blocks=1)
    widths, knobs = np.array([[2]]), np.zeros((2, 3, 1), int)
    costs = calc_chip_cost(problem, widths, np.array([[0], [1], [1]]), knobs)
    crossing_bytes = 4 * 4 * 2
    assert costs["link_bytes"][0] == crossing_bytes
    assert costs["energy_link_pj"][0] == crossing_bytes * 8 * 2.0
    table = problem.table.reshape(len(problem.rows), 16, 4, -1)
    names = [row.name for row in problem.rows]
    stem, reduce = 0, names.index("b0.reduce") + 1
    first, second, expand = 1, 2, names.index("b0.expand") + 1
    # Little core: 1024 bytes hold the weights of stem and reduce; 256 bytes hold its tensors.
    # Big core: 2048 bytes hold expand and both convolutions; 256 bytes hold two tensors of 128, but
    # during the second convolution the skip, its input and its output are live: it spills.
    little, big, home, spill = 0, 8, 0, 1
    entries = [
        table[stem, little, home],
        table[reduce, little, home],
        table[expand, big, home],
        table[first, big, home],
        table[second, big, spill],
    ]
    spilled = {
        problem.rows[slot.row].name
        for slot, flag in zip(problem.slots, costs["slot_spilled"][:, 0], strict=True)
        if flag
    }
    assert spilled == {"block0.conv2"}
    np.testing.assert_allclose(costs["energy_mac_pj"][0], sum(e[0] for e in entries), rtol=1e-12)
    # DRAM beside what the mappings move: the picture in; the expanded tensor out once, and in for
    # the first convolution and for the skip; the middle tensor out.
    dram_bytes = 16 + 128 + 128 + 128 + 128 + sum(e[-1] for e in entries)
    np.testing.assert_allclose(costs["dram_bytes"][0], dram_bytes, rtol=1e-12)
    cycles = [e[-2] for e in entries]
    busy_s = np.array([cycles[0] + cycles[1], cycles[2] + cycles[3] + cycles[4]]) / 1e8
    np.testing.assert_allclose(costs["core_busy_s"][:, 0], busy_s, rtol=1e-12)
    np.testing.assert_allclose(costs["interval_s"][0], busy_s.max(), rtol=1e-12)
    latency_s = busy_s.sum() + crossing_bytes / 1e8 + 1e-8
    np.testing.assert_allclose(costs["latency_s"][0], latency_s, rtol=1e-12)


def test_a_core_that_no_link_reaches_is_an_error():
    names = [f"core{k}" for k in range(4)]
    chip = make_chip(links=(Link("pair", (names[0], names[1]), 1e8, 1.0),))
    with pytest.raises(InputError, match="core2"):
        chip.routes()
