"""One chip for all preferences: what is shared, and that its polish keeps the budget."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from synthetic_problem import make_problem

from dse.design_objective import DesignObjective, reference_design
from dse.experiment_spec import Objective
from dse.objective import COSTS, sample_preferences
from dse.policy import SHARED_GAIN, init_policy, initial_raw, propose
from dse.shared_hardware import improve_chip, mean_objective


def make_objective(budgets=None) -> DesignObjective:
    problem = make_problem()
    _, _, reference = reference_design(problem, {})
    none = np.zeros(0, int)
    return DesignObjective(problem, Objective(), reference, budgets or {}, none, none, None)


def some_designs(objective, count=12):
    """Preferences and random designs that share one chip."""
    shape, rng = objective.shape, np.random.default_rng(5)
    preferences = sample_preferences(rng, count, ["io_bytes", "energy", "latency"])
    low, high = shape.ordinal_low.astype(int), shape.ordinal_high.astype(int)
    ordinals = rng.integers(low[:, None], high[:, None] + 1, (len(low), count))
    widths = len(shape.max_widths)
    ordinals[widths:] = ordinals[widths:, :1]
    return preferences, ordinals, rng.integers(0, shape.cores, (shape.layers, count))


def test_shared_hardware_does_not_depend_on_the_preference_and_learns_from_all():
    """Its gradient of a mean is the mean of the gradients of each preference alone."""
    objective = make_objective()
    shape = objective.shape
    widths, count = len(shape.max_widths), len(shape.ordinal_high)
    knobs = shape.ordinal_high[widths:] // 2
    start = initial_raw(shape, knobs, np.zeros(shape.layers, int))
    params = init_policy(jax.random.key(0), 8, start)
    params["hardware"] = jnp.asarray(start[widths:count] / SHARED_GAIN)
    preferences = sample_preferences(np.random.default_rng(0), 6, ["io_bytes", "energy"])
    ordinals, logits = propose(shape, params, preferences)
    assert np.ptp(np.asarray(ordinals[:widths]), axis=1).max() > 0
    np.testing.assert_array_equal(ordinals[widths:], jnp.repeat(ordinals[widths:, :1], 6, axis=1))
    assert logits.shape == (shape.layers, shape.cores, 6)

    def total(params, columns):
        ordinals, _ = propose(shape, params, preferences[:, columns])
        weights = jnp.arange(1.0, 7.0)[columns][None]
        return jnp.mean(jnp.sum(weights * ordinals[widths:] ** 2, axis=0))

    together = jax.grad(total)(params, np.arange(6))["hardware"]
    each = [jax.grad(total)(params, np.array([i]))["hardware"] for i in range(6)]
    np.testing.assert_allclose(together, np.mean(each, axis=0), rtol=1e-5)


def test_no_single_knob_improves_the_polished_chip():
    objective = make_objective()
    preferences, ordinals, assignment = some_designs(objective)
    widths = len(objective.shape.max_widths)
    before = mean_objective(objective, preferences, ordinals, assignment)
    knobs = improve_chip(objective, preferences, ordinals, assignment)
    ordinals[widths:] = knobs[:, None]
    best = mean_objective(objective, preferences, ordinals, assignment)
    assert best < before
    for i, top in enumerate(objective.shape.ordinal_high[widths:].astype(int)):
        for value in range(top + 1):
            other = ordinals.copy()
            other[widths + i] = value
            assert mean_objective(objective, preferences, other, assignment) >= best


def test_the_polished_chip_keeps_the_area_budget():
    """Begun on a chip that is too large, it ends on one that is not."""
    objective = make_objective()
    preferences, ordinals, assignment = some_designs(objective)
    shape = objective.shape
    widths = len(shape.max_widths)
    areas = objective.problem.area_mm2
    ordered = np.sort(areas)  # so that area rises along every knob, as it does on real chips
    problem = replace(objective.problem, area_mm2=np.concatenate([ordered[::2], ordered[1::2]]))
    objective = replace(objective, problem=problem)
    ordinals[widths:] = shape.ordinal_high[widths:, None].astype(int)
    largest = objective.costs(ordinals, assignment)["area_mm2"][0]
    limited = replace(objective, budgets={"area": 0.6 * largest})
    ordinals[widths:] = improve_chip(limited, preferences, ordinals, assignment)[:, None]
    assert objective.costs(ordinals, assignment)[COSTS["area"]].max() <= 0.6 * largest
