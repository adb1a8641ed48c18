"""Ports: what each core's link width does to time and area, and the sides of an array apart."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs
from test_costs_library import CHIP, changed

from costs.chip import Link
from costs.chip_cost import calc_chip_cost
from costs.chip_report import calc_core_load, calc_link_load
from costs.chip_tables import build_problem
from costs.errors import InputError
from costs.layer import Layer
from costs.library import build_chip, load_chip
from costs.workload import Tensor, Workload

BUS = 1e8  # bytes/s of the made-up chip's bus
CORES = tuple(f"core{k}" for k in range(4))
RING = tuple(Link(f"r{k}", (CORES[k], CORES[(k + 1) % 4]), BUS, 2.0, 1e-8) for k in range(4))


def with_ports(problem, bytes_per_s):
    return replace(problem, port_bytes_per_s=np.broadcast_to(bytes_per_s, problem.area_mm2.shape))


@pytest.mark.parametrize("links", [None, RING])
def test_ports_as_wide_as_the_links_change_no_bit(links):
    problem = make_problem(links=links)
    designs = random_designs(problem, 50)
    without, wide = (calc_chip_cost(p, *designs) for p in (problem, with_ports(problem, BUS)))
    for name in ("latency_s", "interval_s", "energy_pj", "io_bytes", "each_link_work"):
        np.testing.assert_array_equal(without[name], wide[name])


@pytest.mark.parametrize("links", [None, RING])
def test_narrower_ports_never_make_a_chip_faster_and_move_the_same(links):
    problem = make_problem(links=links)
    designs = random_designs(problem, 50)
    before = calc_chip_cost(problem, *designs)
    for rate in (BUS / 2, BUS / 4, BUS / 8):
        now = calc_chip_cost(with_ports(problem, rate), *designs)
        for name in ("latency_s", "interval_s"):
            assert (now[name] >= before[name]).all()
        assert (now["latency_s"] > before["latency_s"]).any()
        np.testing.assert_array_equal(now["link_bytes"], before["link_bytes"])
        before = now


def test_the_slowest_port_of_a_transfer_sets_its_rate_by_hand():
    """One tensor of 128 bytes from core 0 to cores 1 and 2, whose ports carry BUS / 2 and BUS / 8.

    As the types stand in turn, cores 0 and 2 share their hardware: give type 0 ports of BUS / 2 and
    type 1 those of BUS / 8. The transfer takes 128 bytes at BUS / 8 once core 1 receives, else at
    BUS / 2.
    """
    problem = make_problem(blocks=1)
    points = len(problem.area_mm2) // 2
    ports = np.repeat([BUS / 2, BUS / 8], points)
    problem = replace(problem, port_bytes_per_s=ports)
    widths = np.array([[8, 8]])  # uncompressed: 4 x 4 x 8 bytes
    assignment = np.array([[0, 0], [2, 1], [2, 2]])
    knobs = np.zeros((2, 3, 2), int)
    costs = calc_chip_cost(problem, widths, assignment, knobs)
    # to core 2 alone; then to cores 1 and 2 together, and from core 1 to core 2
    expected = [128 / (BUS / 2), 128 / (BUS / 8) + 128 / (BUS / 8)]
    np.testing.assert_allclose(costs["each_link_work"][0] / BUS, expected, rtol=1e-12)
    load = calc_link_load(problem, costs, assignment)
    np.testing.assert_allclose(load.busy_s[0], expected, rtol=1e-12)
    core = calc_core_load(problem, costs, assignment, knobs)
    np.testing.assert_allclose(core.link_out_s[0], [128 / (BUS / 2), 128 / (BUS / 8)], rtol=1e-12)
    np.testing.assert_allclose(core.link_in_s[2], [128 / (BUS / 2), 256 / (BUS / 8)], rtol=1e-12)


def test_jax_gives_what_numpy_gives_with_ports():
    problem = make_problem()
    ports = np.random.default_rng(3).uniform(0.1, 2.0, problem.area_mm2.shape) * BUS
    problem = with_ports(problem, ports)
    designs = random_designs(problem, 50)
    names = ("latency_s", "interval_s", "energy_pj")
    exact = calc_chip_cost(problem, *designs)
    traced = jax.jit(
        lambda *d: {name: calc_chip_cost(problem, *d, xp=jnp)[name] for name in names}
    )(*designs)
    for name in names:
        np.testing.assert_allclose(traced[name], exact[name], rtol=1e-5)


def test_a_port_costs_four_words_of_registers():
    """5.98 um2 a bit at 40 nm, brought to 45 nm with the square of the node (Aladdin)."""
    kind = load_chip("quad_big_little_open").types[0]
    narrow, wide = (kind.area_mm2((0, 0, 0, 0, width)) or 0.0 for width in (0, 2))
    assert wide - narrow == pytest.approx(4 * (8 - 2) * 5.98e-6 * (45 / 40) ** 2, rel=1e-9)
    assert kind.port_bytes_per_s((0, 0, 0, 0, 2)) == 200e6


def test_sides_of_an_array_apart_are_what_its_tables_are_made_of():
    """A layer of 4 output columns and 8 channels takes its MACs over the PEs it can use."""
    chip = load_chip("quad_big_little_open")
    layers = (Layer("a", K=8, C=4, P=2, Q=4),)
    tensors = (
        Tensor("picture", -1, (0,), 32, 8, (2, 4, 4)),
        Tensor("result", 0, (), 64, 8, (2, 4, 8), output=True),
    )
    workload = Workload("one", layers, tensors)
    chosen = []
    for rows, columns in ((1, 0), (1, 1), (0, 1)):  # 4x4, 4x8, 2x8 PEs
        knobs = np.array([[rows, columns, 1, 1, 2], [1, 1, 1, 1, 2]])
        problem = build_problem(workload, (), chip, "latency", only=(np.zeros(0, int), knobs))
        costs = calc_chip_cost(problem, np.zeros((0, 1), int), np.array([[0]]), knobs[..., None])
        chosen.append(float(costs["slot_compute_s"][0, 0]) * 200e6)
    assert chosen == [256 / 16, 256 / 32, 256 / 16]


WIRED = changed(
    CHIP, ["core_types", "only", "knobs", "link_width"], {"values": [8, 16], "default": 8}
)
SIDED = changed(CHIP, ["core_types", "only", "knobs", "rows"], {"values": [2, 4], "default": 4})


def test_a_chip_says_what_is_wrong_with_its_knobs():
    two = changed(WIRED, ["core_types", "other"], {"core": CHIP["core_types"]["only"]["core"]})
    with pytest.raises(InputError, match=r"core_types\.other\.knobs\.link_width"):
        build_chip(two, "chip.yaml")
    with pytest.raises(InputError, match=r"core_types\.only\.knobs\.array.*rows or columns"):
        build_chip(SIDED, "chip.yaml")
    core = json.loads(json.dumps(CHIP["core_types"]["only"]["core"]).replace("rows", "x"))
    missing = changed(SIDED, ["core_types", "only", "knobs", "array"], None)
    with pytest.raises(InputError, match=r"core_types\.only\.knobs\.rows.*has no such axis"):
        build_chip(changed(missing, ["core_types", "only", "core"], core), "chip.yaml")
