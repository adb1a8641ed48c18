"""Topologies: which links a name stands for, which way tensors go, and laws that hold on all."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from synthetic_problem import make_problem, random_designs

from costs.chip import Chip, Link, find_paths
from costs.chip_cost import calc_chip_cost
from costs.errors import InputError
from costs.hardware_spec import ChipSpec, LinkSpec, validate
from costs.library import list_chips, load_chip
from costs.topology import build_links

NAMES = [f"core{k}" for k in range(6)]
WIRE = {"bandwidth_bytes_per_s": 1e8, "energy_pj_per_bit": 2.0, "hop_latency_s": 1e-8}
SLOW = {"bandwidth_bytes_per_s": 1e9, "energy_pj_per_bit": 0.5, "hop_latency_s": 1e-9}
TOPOLOGIES = {
    "bus": [{"topology": "bus", "cores": NAMES}],
    "ring": [{"topology": "ring", "cores": NAMES}],
    "mesh": [{"topology": "mesh", "cores": NAMES, "columns": 3}],
    "point_to_point": [
        {"topology": "point_to_point", "cores": [a, b]} for a, b in itertools.combinations(NAMES, 2)
    ],
    "chiplet_package": [
        {
            "topology": "chiplet_package",
            "dies": [NAMES[:2], NAMES[2:3], NAMES[3:]],
            "columns": 3,
            "on_die": SLOW,
        }
    ],
}
TOTALS = ("energy_pj", "link_bytes", "dram_bytes", "latency_s", "interval_s")


def links_of(entries):
    chip = validate(
        ChipSpec,
        {
            "name": "made_up",
            "core_types": {"only": {"core": "wide_tile"}},
            "cores": dict.fromkeys(NAMES, "only"),
            "dram": {"bandwidth_bytes_per_s": 1e9, "energy_pj_per_bit": 1.0},
        },
        "x",
    )
    found = []
    for number, entry in enumerate(entries):
        spec = validate(LinkSpec, {"name": f"net{number}", **WIRE, **entry}, "x")
        found += build_links(spec, f"links.{number}", chip, "x")
    return tuple(found)


@pytest.fixture(scope="module", params=TOPOLOGIES)
def problem(request):
    return make_problem(cores=6, links=links_of(TOPOLOGIES[request.param]))


def with_links(problem, **changes):
    links = tuple(
        replace(link, **{key: change(getattr(link, key)) for key, change in changes.items()})
        for link in problem.chip.links
    )
    return replace(problem, chip=replace(problem.chip, links=links))


def hops(entries):
    paths = find_paths(tuple(NAMES), tuple((k.cores, k.rank) for k in links_of(entries)))
    return np.array([[len(path) for path in row] for row in paths])


def test_hops_are_those_of_the_topology():
    k = np.arange(6)
    apart = np.abs(k[:, None] - k)
    np.testing.assert_array_equal(hops(TOPOLOGIES["ring"]), np.minimum(apart, 6 - apart))
    x, y = k % 3, k // 3
    manhattan = np.abs(x[:, None] - x) + np.abs(y[:, None] - y)
    np.testing.assert_array_equal(hops(TOPOLOGIES["mesh"]), manhattan)
    for name in ("bus", "point_to_point"):
        np.testing.assert_array_equal(hops(TOPOLOGIES[name]), k[:, None] != k)
    package = hops(TOPOLOGIES["chiplet_package"])
    assert package[0, 1] == 1  # the bus of their die
    assert package[0, 2] == 2  # that bus, then the package to a die of one core
    assert package[0, 5] == 4  # two dies on, and down its bus


def test_ties_go_forward_on_a_ring_and_along_rows_on_a_mesh():
    links = links_of(TOPOLOGIES["ring"])
    paths = find_paths(tuple(NAMES), tuple((k.cores, k.rank) for k in links))
    for start in range(6):
        assert paths[start][(start + 3) % 6] == tuple((start + i) % 6 for i in range(3))
    links = links_of(TOPOLOGIES["mesh"])
    paths = find_paths(tuple(NAMES), tuple((k.cores, k.rank) for k in links))
    for a, b in itertools.permutations(range(6), 2):
        ranks = [links[n].rank for n in paths[a][b]]
        assert ranks == sorted(ranks)


def test_energy_and_latency_add_up_along_the_hops():
    problem = make_problem(cores=6, links=links_of(TOPOLOGIES["ring"]))
    _, latency_s = problem.chip.routes()
    np.testing.assert_allclose(latency_s, 1e-8 * hops(TOPOLOGIES["ring"]), rtol=1e-15)
    layers = len(problem.workload.layers)
    whole = np.array(problem.max_widths)[:, None]
    knobs = np.zeros((2, 3, 1), int)
    near, far = (
        calc_chip_cost(problem, whole, np.array([0] + [k] * (layers - 1))[:, None], knobs)
        for k in (2, 4)  # both of one type: two hops forward, two hops back
    )
    assert near["link_bytes"][0] == far["link_bytes"][0] == 2 * 4 * 4 * 8
    assert near["energy_link_pj"][0] == 2 * 4 * 4 * 8 * 8 * 2.0
    np.testing.assert_array_equal(near["each_link_bytes"][:, 0] > 0, [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(far["each_link_bytes"][:, 0] > 0, [0, 0, 0, 0, 1, 1])


def test_one_core_has_no_link_traffic(problem):
    widths, assignment, knobs = random_designs(problem, 20)
    costs = calc_chip_cost(problem, widths, 0 * assignment + 4, knobs)
    assert (costs["link_bytes"] == 0).all()
    assert (costs["energy_link_pj"] == 0).all()


def test_free_links_make_the_cut_free(problem):
    free = with_links(
        problem,
        energy_pj_per_bit=lambda _: 0.0,
        bandwidth_bytes_per_s=lambda _: 1e30,
        hop_latency_s=lambda _: 0.0,
    )
    costs = calc_chip_cost(free, *random_designs(problem, 50))
    assert (costs["energy_link_pj"] == 0).all()
    dram_s = costs["dram_bytes"] / problem.chip.dram_bandwidth_bytes_per_s
    stage_s = np.maximum(costs["core_busy_s"].max(axis=0), dram_s)
    np.testing.assert_allclose(costs["interval_s"], stage_s, rtol=1e-12)


def test_doubling_the_bandwidth_never_slows(problem):
    designs = random_designs(problem, 200)
    before = calc_chip_cost(problem, *designs)
    doubled = with_links(problem, bandwidth_bytes_per_s=lambda rate: 2 * rate)
    after = calc_chip_cost(doubled, *designs)
    assert (after["interval_s"] <= before["interval_s"]).all()
    assert (after["latency_s"] <= before["latency_s"] * (1 + 1e-12)).all()


def test_narrowing_a_crossed_boundary_never_adds_link_traffic(problem):
    widths, assignment, knobs = random_designs(problem, 200)
    before = calc_chip_cost(problem, widths, assignment, knobs)
    after = calc_chip_cost(problem, np.maximum(widths - 1, 1), assignment, knobs)
    assert (after["each_link_bytes"] <= before["each_link_bytes"]).all()
    assert (after["link_bytes"] < before["link_bytes"]).any()


@pytest.mark.parametrize(
    ("name", "swap"),
    [
        ("bus", [2, 1, 0, 3, 4, 5]),
        ("point_to_point", [2, 1, 4, 3, 0, 5]),
        ("ring", [2, 3, 4, 5, 0, 1]),  # turned by two
        ("mesh", [2, 1, 0, 5, 4, 3]),  # mirrored
        ("chiplet_package", [0, 1, 2, 5, 4, 3]),  # two cores of one die
    ],
)
def test_permuting_equal_cores_changes_nothing(name, swap):
    problem = make_problem(cores=6, links=links_of(TOPOLOGIES[name]))
    widths, assignment, knobs = random_designs(problem, 100)
    before = calc_chip_cost(problem, widths, assignment, knobs)
    after = calc_chip_cost(problem, widths, np.array(swap)[assignment], knobs)
    for total in TOTALS:
        np.testing.assert_allclose(after[total], before[total], rtol=1e-12, err_msg=total)


def test_sharing_a_bus_is_never_faster_than_wires_of_the_same_bandwidth():
    designs = random_designs(make_problem(cores=6, links=links_of(TOPOLOGIES["bus"])), 200)
    bus, wires = (
        calc_chip_cost(make_problem(cores=6, links=links_of(TOPOLOGIES[name])), *designs)
        for name in ("bus", "point_to_point")
    )
    assert (bus["interval_s"] >= wires["interval_s"] * (1 - 1e-12)).all()


def test_columns_must_divide_a_mesh():
    entry = {"topology": "mesh", "cores": NAMES, "columns": 4}
    with pytest.raises(InputError, match=r"links\.0\.columns: not allowed \(got 4; allowed: a div"):
        links_of([entry])


def test_a_die_of_several_cores_needs_a_bus_and_others_must_not_have_one():
    entry = {"topology": "chiplet_package", "dies": [NAMES[:2], NAMES[2:]], "columns": 2}
    with pytest.raises(InputError, match=r"links\.0\.on_die: missing"):
        links_of([entry])
    entry = {"topology": "bus", "cores": NAMES, "on_die": SLOW}
    with pytest.raises(InputError, match=r"links\.0\.on_die: of no use here"):
        links_of([entry])


def test_shipped_chips_reach_every_core():
    for chip in map(load_chip, list_chips()):
        assert isinstance(chip, Chip)
        route, _ = chip.routes()
        off_diagonal = ~np.eye(len(chip.cores), dtype=bool)
        assert (route.sum(axis=-1)[off_diagonal] > 0).all()
        assert all(isinstance(link, Link) for link in chip.links)
