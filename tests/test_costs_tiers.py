"""Bounds by tiers against all completions, and descents against the optimum."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from costs.conventions import TIMELOOP, ZIGZAG
from costs.core import Axis, Core, MemoryLevel
from costs.descent import descend, join_promising
from costs.layer import Layer
from costs.listing import list_parts
from costs.search import Search, find_candidates
from costs.tiers import Tiers


def small_core(capacity=12.0) -> Core:
    """Inputs and outputs share a buffer; every operand has a register; two lanes."""
    levels = (
        MemoryLevel("dram", read_energy_pj=100.0, write_energy_pj=101.0, bandwidth=4.0),
        MemoryLevel("buffer", ("I", "O"), capacity, read_energy_pj=9.0, write_energy_pj=8.0),
        MemoryLevel("inputs", ("I",), 3.0, 0.4, 0.6, replicated=("lanes",)),
        MemoryLevel("sums", ("O",), 8.0, 0.5, 0.7, replicated=("lanes",)),
    )
    return Core("small", levels, (Axis("lanes", 2, dims=("K", "C")),), mac_energy_pj=1.0)


def list_order(search: Search):
    """Parts of each order that has rows of every choice."""
    parts = list_parts(search)
    for number in range(len(search.claims)):
        mine = [part.take(np.flatnonzero(part.order == number)) for part in parts]
        if all(map(len, mine)):
            yield mine


@pytest.mark.parametrize("conventions", [TIMELOOP, ZIGZAG], ids=["timeloop", "zigzag"])
def test_no_completion_of_a_row_is_below_its_bound(conventions):
    layer = Layer("conv", K=3, C=2, P=4, R=2, bits_psum=16)
    search = Search(layer, [small_core()], "energy", conventions)
    checked = closed = 0
    for parts in itertools.islice(list_order(search), 20):
        values = [part.values for part in parts]
        shape = tuple(map(len, values))
        rows = values[0]
        for more in values[1:]:
            rows = (rows[:, None] * more[None]).reshape(-1, rows.shape[1])
        cost = search.cost.objective_bound(rows, rows)[:, 0]
        cost = np.where(search.cost.fits(rows, rows)[:, 0], cost, math.inf).reshape(shape)
        tiers = Tiers(search.cost, values, math.inf)
        for i in range(len(values)):
            others = tuple(j for j in range(len(values)) if j != i)
            least = cost.min(axis=others)
            bound = tiers.bound(i)
            assert (bound <= least * (1 + 1e-12)).all()
            closed += int((bound >= least * (1 - 1e-12)).sum())
            checked += len(least)
        if np.isfinite(cost).any():
            # the rows of the cheapest combination survive a limit that it just meets
            at = np.unravel_index(cost.argmin(), shape)
            kept = Tiers(search.cost, values, cost.min() * (1 + 1e-12)).narrow()
            assert all(row in rows for row, rows in zip(at, kept, strict=True))
    assert checked > 100
    assert closed > 0


def test_a_descent_ends_at_mappings_and_two_at_once_come_closer():
    layer = Layer("conv", K=12, C=8, P=7, R=3, bits_psum=16)
    core = small_core(64.0)
    optimum = find_candidates(layer, [core], "energy", TIMELOOP).incumbent[0]
    search = Search(layer, [core], "energy", TIMELOOP)
    single, double = [], []
    for parts in list_order(search):
        for found, options in (
            (single, [parts]),
            (double, [parts, *join_promising(parts, search.claims)]),
        ):
            for option in options:
                for joined in descend(search.cost, option, search.claims):
                    assert search.cost.fits(joined.values, joined.values).all()
                    found += list(search.cost.objective_bound(joined.values, joined.values)[:, 0])
    assert optimum * (1 - 1e-9) <= min(double) <= min(single)
    assert min(double) <= 1.05 * optimum


@pytest.mark.parametrize("objective", ["energy", "latency", "edp"])
def test_an_order_without_rows_is_infinitely_dear_even_where_accesses_are_free(objective):
    core = small_core()
    free = [replace(kind, read_energy_pj=0.0, write_energy_pj=0.0) for kind in core.levels[1:]]
    core = replace(core, levels=(core.levels[0], *free))
    search = Search(Layer("conv", K=3, C=2, P=4, R=2), [core], objective, TIMELOOP)
    low = np.ones((2, search.structure.columns))
    low[1] = math.inf  # as `costs.ranges.calc_extremes` says of such an order
    bound = search.cost.objective_bound(low, np.maximum(low, 8.0))
    assert np.isfinite(bound[0]).all()
    assert np.isinf(bound[1]).all()
