"""The proved assignment of a design's network: against all assignments, priced one by one."""

import numpy as np
import pytest
from synthetic_problem import make_problem

from costs.chip import Link
from dse import search
from dse.optimality import draw_space
from dse.search import certify, list_same_network

LINKS = tuple(Link(f"l{k}", (f"core{k}", f"core{(k + 1) % 3}"), 1e8, 2.0, 1e-8) for k in range(3))


@pytest.mark.parametrize(("cores", "links"), [(3, None), (3, LINKS)])
@pytest.mark.parametrize("seed", range(3))
def test_no_assignment_of_the_same_network_is_better(cores, links, seed):
    objective, preference = draw_space(make_problem(seed, 2, cores, links), seed)
    rng = np.random.default_rng(seed)
    shape = objective.shape
    low, high = shape.ordinal_low.astype(int), shape.ordinal_high.astype(int)
    ordinals = rng.integers(low, high + 1)
    given = rng.integers(0, cores, shape.layers)
    best, gap = certify(objective, preference, ordinals, given)

    every = np.indices((cores,) * shape.layers).reshape(shape.layers, -1)
    tiled = np.repeat(ordinals[:, None], every.shape[1], axis=1)
    values = objective.value(preference[:, None], tiled, every)
    crossing = objective.costs(tiled, every)["crossing"][objective.edge_index]
    mine = objective.costs(ordinals[:, None], given[:, None])["crossing"][objective.edge_index]
    same = (crossing == mine).all(axis=0)
    found = objective.value(preference[:, None], ordinals[:, None], best[:, None])[0]
    assert np.isclose(found, values[same].min(), rtol=1e-12)
    before = objective.value(preference[:, None], ordinals[:, None], given[:, None])[0]
    assert np.isclose(gap, np.expm1(before - found), atol=1e-9)
    again, none = certify(objective, preference, ordinals, best)
    assert none == 0.0
    np.testing.assert_array_equal(again, best)
    listed = list_same_network(objective, given)
    assert listed is not None
    assert listed.shape[1] <= same.sum()
    assert len(np.unique(listed, axis=1).T) == listed.shape[1]


def test_what_cannot_be_listed_is_not_certified(monkeypatch):
    monkeypatch.setattr(search, "LISTED", 3)
    objective, preference = draw_space(make_problem(0, 2, 3), 0)
    given = np.array([0, 1, 2, 0, 1])
    ordinals = objective.shape.ordinal_high.astype(int)
    best, gap = certify(objective, preference, ordinals, given)
    assert np.isnan(gap)
    np.testing.assert_array_equal(best, given)
