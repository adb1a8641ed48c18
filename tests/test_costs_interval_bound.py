"""The bound by sets: never above the optimum, tight for ports, the same for renamed cores."""

import numpy as np
import pytest
from random_cases import with_transfers

from costs.annealing import anneal
from costs.core_sets import Limits, Prices, SetGraph, find_sets
from costs.instance_cost import calc_instance_cost, calc_objective
from costs.interval_bound import bound_interval
from costs.local_search import assign_greedily
from costs.random_instance import TOPOLOGIES, random_instance


def every_assignment(layers, cores):
    return np.indices((cores,) * layers).reshape(layers, -1)


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("seed", range(4))
def test_no_assignment_is_below_the_bound(topology, seed):
    instance = random_instance(seed, 7, 3 if topology != "ring" else 4, topology)
    for case in (instance, with_transfers(instance, seed)):
        options = every_assignment(*case.shape)
        values = calc_objective(case, options)
        best = values.min()
        bound = bound_interval(case, options[:, [int(values.argmin())]])
        assert bound <= best * (1 + 1e-9)
        assert bound >= 0.85 * best


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_bad_start_only_loosens_the_bound(topology):
    instance = random_instance(5, 7, 3, topology)
    options = every_assignment(7, 3)
    values = calc_objective(instance, options)
    fits = np.flatnonzero(np.isfinite(values))
    worst = options[:, [fits[int(values[fits].argmax())]]]
    assert bound_interval(instance, worst) <= values.min() * (1 + 1e-9)


def test_enough_sets_close_the_gap_of_ports():
    """Ports limit single cores, so that sets hold all of the problem but that they fit together."""
    instance = random_instance(20002, 33, 5, "ports")
    found = anneal(instance, assign_greedily(instance), chains=64, sweeps=20)
    value = calc_objective(instance, found[:, None])[0]
    assert value / bound_interval(instance, found[:, None]) - 1 < 0.03


def test_sets_of_largest_worth_are_found():
    """Labels, dominance and the bound on what follows lose none: against all sets of six layers."""
    instance = with_transfers(random_instance(3, 9, 3, "ports"), 3)
    rng = np.random.default_rng(1)
    layers, cores = instance.shape
    tensors = len(instance.producer)
    total = instance.layers.time_s.sum() / cores
    size = instance.tensor_bytes.mean()
    limits = Limits(0.5 * total, np.full(3, 2 * size), np.full(3, 1.5 * size), np.full(3, 3 * size))
    prices = Prices(
        rng.uniform(-0.5, 1, layers),
        rng.uniform(0, 0.2, (tensors, cores)),
        rng.uniform(-0.1, 0.2, (tensors, cores)),
        1e-7,
    )
    found, _ = find_sets(SetGraph(instance), limits, prices, np.zeros(cores), np.zeros((3, cores)))
    for core in range(cores):
        other = (core + 1) % cores
        best = 0.0
        for member in every_assignment(layers, 2).T.astype(bool):
            # the same sums by the evaluator: all other layers on one other core
            cost = calc_instance_cost(instance, np.where(member, core, other)[:, None])
            readers = [member[list(c)] for c in instance.consumers]
            made = member[instance.producer]
            leaves = made & np.array([not r.all() for r in readers])
            arrives = ~made & np.array([r.any() for r in readers])
            sent, received = (instance.tensor_bytes @ x for x in (leaves, arrives))
            if (
                cost["core_busy_s"][core, 0] > limits.interval_s
                or cost["weight_bytes"][core, 0] > instance.capacity_bytes[core]
                or sent > limits.out_bytes[core]
                or received > limits.in_bytes[core]
                or sent + received > limits.both_bytes[core]
            ):
                continue
            dram = instance.layers.dram_bytes[member, core].sum()
            dram += instance.receive.dram_bytes[arrives, core].sum()
            worth = prices.gain[member].sum() - prices.leave[leaves, core].sum()
            worth -= prices.arrive[arrives, core].sum() + prices.dram * dram
            best = max(best, worth)
        assert np.isclose(found.most[core], best, rtol=1e-9, atol=1e-9)


def test_renaming_cores_changes_nothing():
    instance = random_instance(8, 8, 3, "ports")
    options = every_assignment(8, 3)
    start = options[:, [int(calc_objective(instance, options).argmin())]]
    order = np.array([2, 0, 1])
    renamed = instance.permuted(order)
    moved = np.argsort(order)[start]
    assert np.isclose(bound_interval(instance, start), bound_interval(renamed, moved), rtol=0.01)
