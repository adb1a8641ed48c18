"""Assignments by themselves: laws of their costs, and solvers against listing every assignment."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from random_cases import with_transfers
from synthetic_problem import make_problem, random_designs

from costs.annealing import anneal
from costs.assignment import enumerate_contiguous
from costs.assignment_instance import AssignmentInstance, CoreCosts
from costs.certificate import certify_assignment
from costs.chip_cost import calc_chip_cost
from costs.distribute import distribute
from costs.distribution import solve_stages
from costs.errors import InputError
from costs.instance_cost import OBJECTIVES, CostTables, calc_instance_cost, calc_objective
from costs.local_search import assign_greedily, improve, list_neighbours, split_equally
from costs.milp import solve_milp
from costs.problem_instance import instance_of
from costs.random_instance import TOPOLOGIES, make_route, random_instance
from costs.stages import calc_stage_costs


def list_all(instance):
    layers, cores = instance.shape
    return np.indices((cores,) * layers).reshape(layers, -1)


def random_assignments(instance, count, seed=0):
    layers, cores = instance.shape
    return np.random.default_rng(seed).integers(0, cores, (layers, count))


def equal_cores(macs, cores):
    """Layers in a row whose time is their MACs, links free."""
    times = np.repeat(np.asarray(macs, float)[:, None], cores, axis=1)
    none = np.zeros((cores, cores, 0), bool)
    return AssignmentInstance(
        "macs", CoreCosts.of(times), np.zeros(0, int), (), np.zeros(0), CoreCosts.free(0, cores),
        CoreCosts.free(0, cores), none, np.zeros(0), np.zeros(0), np.full(cores, np.inf),
    )  # fmt: skip


# laws


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_one_core_has_no_link_traffic_and_more_bandwidth_never_slows(topology):
    instance = random_instance(3, 12, 4, topology)
    options = random_assignments(instance, 500)
    options[:, :4] = np.arange(4)
    costs = calc_instance_cost(instance, options)
    assert (costs["link_bytes"][:4] == 0).all()
    assert (costs["link_bytes"][4:] > 0).all()
    faster = calc_instance_cost(instance.with_bandwidth(2.0), options)["interval_s"]
    assert (faster <= costs["interval_s"]).all()
    assert (faster < costs["interval_s"]).any()


def test_free_links_make_the_cut_free():
    instance = random_instance(4, 12, 3, "bus")
    free = replace(instance.with_bandwidth(np.inf), link_pj_per_byte=np.zeros(1), idle_power_w=0.0)
    options = random_assignments(free, 300)
    costs = calc_instance_cost(free, options)
    assert (costs["interval_s"] == costs["core_busy_s"].max(axis=0)).all()
    alone = free.layers.energy_pj[np.arange(12)[:, None], options].sum(axis=0)
    np.testing.assert_allclose(costs["energy_pj"], alone, rtol=1e-12)


def test_renaming_cores_changes_nothing():
    instance = random_instance(5, 12, 4, "ports")
    order = np.array([2, 0, 3, 1])
    options = random_assignments(instance, 200)
    renamed = np.argsort(order)[options]
    one, other = (
        calc_instance_cost(instance, options),
        calc_instance_cost(instance.permuted(order), renamed),
    )
    for name in OBJECTIVES.values():
        np.testing.assert_allclose(one[name], other[name], rtol=1e-12)


def test_smaller_tensors_never_add_traffic():
    instance = random_instance(6, 12, 4, "ring")
    options = random_assignments(instance, 200)
    narrow = replace(instance, tensor_bytes=instance.tensor_bytes * np.linspace(0.2, 1.0, 11))
    wide, less = (calc_instance_cost(i, options)["each_link_bytes"] for i in (instance, narrow))
    assert (less <= wide * (1 + 1e-12)).all()


def test_an_assignment_costs_the_same_bits_alone_and_among_many():
    instance = random_instance(7, 15, 5)
    options = random_assignments(instance, 40_000)
    together = calc_instance_cost(instance, options)["energy_pj"]
    for at in (0, 16_383, 16_384, 39_999):
        assert calc_instance_cost(instance, options[:, at : at + 1])["energy_pj"] == together[at]


def test_a_tensor_crosses_a_link_once_however_many_read_it():
    cores = 3
    instance = AssignmentInstance(
        "star", CoreCosts.of(np.ones((4, cores))), np.array([0]), ((1, 2, 3),), np.array([10.0]),
        CoreCosts.of(np.full((1, cores), 0.5)), CoreCosts.of(np.full((1, cores), 0.25)),
        make_route("ports", cores), np.full(6, 1.0), np.zeros(6), np.full(cores, np.inf),
    )  # fmt: skip
    costs = calc_instance_cost(instance, np.array([[0, 1, 1, 2]]).T)
    assert costs["each_link_bytes"][:, 0].tolist() == [10, 0, 0, 0, 10, 10]
    assert costs["core_busy_s"][:, 0].tolist() == [1.5, 2.25, 1.25]
    bus = replace(instance, route=make_route("bus", cores), bandwidth_bytes_per_s=np.ones(1),
                  link_pj_per_byte=np.ones(1))  # fmt: skip
    assert calc_instance_cost(bus, np.array([[0, 1, 1, 2]]).T)["link_bytes"] == 10


def test_tables_of_many_cores_agree_with_those_of_few():
    few = random_instance(8, 9, 3, "bus")
    cores = 12  # too many to list all sets of consumers
    pad = ((0, 0), (0, cores - 3))

    def wider(costs):
        return CoreCosts(
            *(np.pad(getattr(costs, n), pad, constant_values=1.0) for n in
              CoreCosts.__dataclass_fields__)
        )  # fmt: skip

    many = replace(
        few, layers=wider(few.layers), send=wider(few.send), receive=wider(few.receive),
        route=make_route("bus", cores), capacity_bytes=np.full(cores, np.inf),
    )  # fmt: skip
    options = random_assignments(few, 100)
    one, other = (calc_instance_cost(i, options) for i in (few, many))
    np.testing.assert_allclose(one["energy_pj"], other["energy_pj"], rtol=1e-12)
    np.testing.assert_allclose(one["interval_s"], other["interval_s"], rtol=1e-12)


# solvers against listing


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_linear_program_equals_listing_every_assignment(seed, objective):
    instance = random_instance(seed, 6, 2 + seed % 2, TOPOLOGIES[seed % 3])
    least = calc_objective(instance, list_all(instance), objective).min()
    found = solve_milp(instance, objective)
    assert found.proved
    assert found.value == pytest.approx(least, rel=2e-6)
    assert found.bound <= least * (1 + 1e-6)


def test_linear_program_of_a_weighted_sum_and_with_what_is_known():
    instance = random_instance(9, 6, 3, "ports")
    options = list_all(instance)
    costs = calc_instance_cost(instance, options)
    weights = {"interval_s": 1e12, "energy_pj": 1.0, "io_bytes": 300.0}
    value = sum(w * costs[name] for name, w in weights.items())
    value = np.where(costs["fits"], value, np.inf)
    known = options[:, np.argsort(value)[3]]
    found = solve_milp(instance, weights, known=known)
    assert found.proved
    assert found.value == pytest.approx(value.min(), rel=2e-6)
    second = solve_milp(instance, weights, excluded=(found.assignment,))
    assert second.value == pytest.approx(np.sort(value)[1], rel=2e-6)


def test_dynamic_program_pays_a_bus_and_a_dram_that_is_the_same_for_all():
    instance = random_instance(3, 8, 3, "bus")
    dram = np.repeat(np.linspace(1e4, 1e5, 8)[:, None], 3, axis=1)
    options = enumerate_contiguous(8, 3)
    for rate in (1e7, 1e12):
        fed = replace(
            instance,
            layers=replace(instance.layers, dram_bytes=dram),
            dram_bandwidth_bytes_per_s=rate,
        )
        found = solve_stages(calc_stage_costs(fed, ordered=False), ordered=False)
        assert found.interval_s == pytest.approx(calc_objective(fed, options).min(), rel=1e-12)


@pytest.mark.parametrize("seed", range(0, 40, 2))
def test_dynamic_program_where_a_bus_and_the_dram_are_both_shared(seed):
    rng = np.random.default_rng(seed)
    layers, cores = int(rng.integers(4, 8)), int(rng.integers(2, 5))
    instance = random_instance(seed, layers, cores, "bus")
    dram = rng.lognormal(size=(layers, cores)) * 1e5
    share = np.median(instance.layers.time_s.sum(axis=0)) / cores
    shared = replace(
        instance,
        layers=replace(instance.layers, dram_bytes=dram),
        dram_bandwidth_bytes_per_s=dram.mean() * layers / share * rng.uniform(0.7, 1.5),
        bandwidth_bytes_per_s=instance.bandwidth_bytes_per_s * rng.uniform(0.3, 1.0),
    )
    options = enumerate_contiguous(layers, cores)
    value = calc_objective(shared, options)
    in_order = (np.diff(options, axis=0) >= 0).all(axis=0)
    for ordered in (False, True):
        least = value[in_order].min() if ordered else value.min()
        if not np.isfinite(least):
            continue
        found = solve_stages(calc_stage_costs(shared, ordered=ordered), ordered=ordered)
        assert found.interval_s == pytest.approx(least, rel=1e-12)
        found = calc_objective(shared, found.assignment[:, None])[0]
        assert found == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_dynamic_program_equals_listing_contiguous_partitions(seed):
    instance = random_instance(seed, 8, 2 + seed % 3, ("bus", "ports")[seed % 2])
    options = enumerate_contiguous(*instance.shape)
    value = calc_objective(instance, options)
    found = solve_stages(calc_stage_costs(instance, ordered=False), ordered=False)
    assert found.interval_s == pytest.approx(value.min(), rel=1e-12)
    assert calc_objective(instance, found.assignment[:, None])[0] == pytest.approx(
        found.interval_s, rel=1e-12
    )
    in_order = (np.diff(options, axis=0) >= 0).all(axis=0)
    ordered = solve_stages(calc_stage_costs(instance, ordered=True), ordered=True)
    assert ordered.interval_s == pytest.approx(value[in_order].min(), rel=1e-12)


def test_ordered_chain_of_links_between_neighbours():
    instance = random_instance(2, 9, 4, "ports")
    core = np.arange(4)
    route = np.stack([(core[:, None] <= c) != (core[None] <= c) for c in range(3)], axis=2)
    rates = instance.tensor_bytes.mean() * 3 / instance.layers.time_s.mean() * np.array([1, 2, 0.5])
    chain = replace(
        instance, route=route, bandwidth_bytes_per_s=rates, link_pj_per_byte=np.zeros(3)
    )
    options = enumerate_contiguous(9, 4)
    options = options[:, (np.diff(options, axis=0) >= 0).all(axis=0)]
    found = solve_stages(calc_stage_costs(chain, ordered=True), ordered=True)
    assert found.interval_s == pytest.approx(calc_objective(chain, options).min(), rel=1e-12)
    with pytest.raises(InputError, match=r"link 0.*more than one stage"):
        calc_stage_costs(chain, ordered=False)


@pytest.mark.parametrize("seed", range(3))
def test_instance_of_a_problem_costs_what_the_chip_model_says(seed):
    crowded = make_problem(seed, blocks=2, cores=3)
    problem = replace(
        crowded,
        weight_buffer_bytes=crowded.weight_buffer_bytes * 100,
        global_buffer_bytes=crowded.global_buffer_bytes * 100,
    )
    widths, _, knobs = (a[..., 0] for a in random_designs(problem, 1, seed))
    instance = instance_of(problem, widths, knobs)
    options = list_all(instance)
    count = options.shape[1]
    truth = calc_chip_cost(
        problem,
        np.repeat(widths[:, None], count, 1),
        options,
        np.repeat(knobs[..., None], count, 2),
    )
    found = calc_instance_cost(instance, options)
    for name in ("interval_s", "energy_pj", "link_bytes", "dram_bytes", "core_busy_s"):
        np.testing.assert_allclose(found[name], truth[name], rtol=1e-12)
    proof = certify_assignment(problem, widths, knobs, "io")
    assert proof.proved
    assert proof.value == truth["io_bytes"].min()


@pytest.mark.parametrize("objective", ["interval", "energy"])
def test_certificate_brackets_the_optimum_of_crowded_memories(objective):
    problem = make_problem(1, blocks=1, cores=2)
    widths, _, knobs = (a[..., 0] for a in random_designs(problem, 1, 1))
    options = np.array(list(itertools.product(range(2), repeat=3))).T
    truth = calc_chip_cost(
        problem, np.repeat(widths[:, None], 8, 1), options, np.repeat(knobs[..., None], 8, 2)
    )[OBJECTIVES[objective]]
    proof = certify_assignment(problem, widths, knobs, objective)
    assert proof.bound <= truth.min() * (1 + 1e-6)
    assert proof.proved
    assert proof.value == truth.min()


# search


def test_neighbours_are_runs_moved_and_pairs_swapped():
    assignment = np.array([0, 0, 1])
    found = {tuple(column) for column in list_neighbours(assignment, 2).T}
    moved = {(1, 0, 1), (0, 1, 1), (0, 0, 0), (1, 1, 1)}
    assert found == moved | {(1, 0, 0), (0, 1, 0)}


@pytest.mark.parametrize("seed", [11, 12])
def test_search_is_near_the_optimum_and_never_worse_than_its_start(seed):
    instance = random_instance(seed, 9, 3)
    tables = CostTables.of(instance)
    least = calc_objective(tables, list_all(instance)).min()
    start = split_equally(instance)
    begun, descended, annealed = calc_objective(
        tables,
        np.stack([start, improve(tables, start), anneal(tables, start, chains=16, sweeps=8)], 1),
    )
    assert descended <= begun
    assert annealed <= 1.02 * least
    greedy = calc_objective(tables, assign_greedily(instance)[:, None])[0]
    assert least <= greedy < np.inf


@pytest.mark.parametrize("objective", ["interval", "energy", "io"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_annealing_reaches_the_optimum_of_small_instances(topology, objective):
    """With transfers that cost time and DRAM, and a layer that one core cannot run."""
    instance = with_transfers(random_instance(4, 8, 3, topology), 4)
    time_s = instance.layers.time_s.copy()
    time_s[2, 0] = np.inf
    instance = replace(instance, layers=replace(instance.layers, time_s=time_s))
    options = list_all(instance)
    with np.errstate(invalid="ignore"):
        least = np.nanmin(calc_objective(instance, options, objective))
    start = split_equally(instance)
    found = anneal(instance, start, objective, chains=32, sweeps=20)
    assert calc_objective(instance, found[:, None], objective)[0] == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize(("layers", "cores"), [(2, 2), (2, 3), (3, 9), (5, 12), (4, 1)])
def test_annealing_takes_any_size(layers, cores):
    """With more than nine cores no table holds all sets of readers."""
    instance = random_instance(2, layers, cores, "ports")
    found = anneal(instance, np.zeros(layers, int), chains=4, sweeps=2)
    assert found.shape == (layers,)
    start = calc_objective(instance, np.zeros((layers, 1), int))[0]
    assert calc_objective(instance, found[:, None])[0] <= start


# the algorithm for equal cores


def test_distribution_without_links_is_optimal_to_its_precision():
    rng = np.random.default_rng(0)
    for trial in range(40):
        layers, cores = int(rng.integers(1, 40)), int(rng.integers(1, 17))
        costs = calc_stage_costs(equal_cores(rng.lognormal(size=layers), cores), ordered=True)
        exact = solve_stages(costs, ordered=True).interval_s
        assert exact <= distribute(costs, cores).interval_s <= 1.001 * exact, trial


def test_distribution_pays_links():
    worst = 1.0
    for seed in range(20):
        instance = random_instance(seed, 25, 5, "ports")
        layers = CoreCosts.of(np.repeat(instance.layers.time_s[:, :1], 5, axis=1))
        equal = replace(instance, layers=layers, capacity_bytes=np.full(5, np.inf))
        costs = calc_stage_costs(equal, ordered=True)
        found = distribute(costs, 5)
        assert calc_objective(equal, found.assignment[:, None])[0] == pytest.approx(
            found.interval_s, rel=1e-12
        )
        worst = max(worst, found.interval_s / solve_stages(costs, ordered=True).interval_s)
    assert worst <= 1.02


# bad input


def test_more_ordered_stages_than_layers():
    costs = calc_stage_costs(equal_cores([1, 2, 3], 4), ordered=True)
    with pytest.raises(InputError, match=r"more stages than layers.*at most 3"):
        solve_stages(costs, ordered=True, use_all=True)
    assert solve_stages(costs, ordered=True).interval_s == 3


def test_a_layer_that_fits_no_core_is_named():
    instance = random_instance(0, 6, 2, "bus")
    with pytest.raises(InputError, match="layer 0: fits no core: enlarge"):
        replace(instance, capacity_bytes=instance.layers.weight_bytes[0] * 0.5)


def test_weights_that_do_not_fit_together():
    instance = random_instance(0, 6, 2, "bus")
    largest = instance.layers.weight_bytes.max()
    small = replace(instance, capacity_bytes=np.full(2, largest))
    with pytest.raises(InputError, match="no assignment fits: enlarge"):
        solve_milp(small)
