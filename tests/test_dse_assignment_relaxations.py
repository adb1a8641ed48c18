"""Relaxations of assignments: discrete forward, unbiased gradient, contiguity, cold limit."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from costs.errors import InputError
from costs.instance_cost import calc_objective
from costs.random_instance import random_instance
from dse.assignment_alone import relax, steering_cost
from dse.assignment_relaxations import RELAXATIONS, make_relaxation
from dse.best_stages import solve_through
from dse.relaxed import Shape, extend_objective

LAYERS, CORES = 5, 3
RNG = np.random.default_rng(0)
TABLE = jnp.asarray(RNG.uniform(size=(CORES,) * LAYERS), jnp.float32)
START = np.array([0, 0, 2, 2, 1])


def exact(assignment):
    return TABLE[tuple(assignment[layer] for layer in range(LAYERS))]


def parameters_of(name, count=1, noise=0.3):
    relaxation = make_relaxation(name, LAYERS, CORES)
    rng = np.random.default_rng(1)
    raw = relaxation.start(START) + noise * rng.normal(size=relaxation.size)
    return relaxation, jnp.repeat(jnp.asarray(raw, jnp.float32)[:, None], count, axis=1)


@functools.partial(jax.jit, static_argnums=0)
def draw_from(relaxation, key, raw, temperature):
    """Compiled once for each relaxation: the tests share the number of designs."""
    return relaxation.draw(key, raw, temperature)


def count_stages(assignment):
    """[n] runs of layers on one core; equal to the cores in use where stages are contiguous."""
    return 1 + (np.diff(assignment, axis=0) != 0).sum(axis=0)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_forward_value_is_the_cost_of_the_drawn_assignment(name):
    relaxation, raw = parameters_of(name, 64)
    shape = Shape((), (), (), LAYERS, CORES)
    none = jnp.zeros((0, 64))
    draw = draw_from(relaxation, jax.random.key(0), raw, 0.7)
    assert draw.assignment.dtype.kind == "i"
    assert ((draw.neighbours >= 0) & (draw.neighbours < CORES)).all()
    value = extend_objective(lambda o, a, w: exact(a), shape, none, draw, none)
    np.testing.assert_array_equal(value, exact(draw.assignment))


@pytest.mark.parametrize(
    "name", ["softmax", "cuts", pytest.param("perturbed", marks=pytest.mark.slow)]
)
def test_gradient_is_unbiased(name):
    """Against central differences of the mean cost over the same noise."""
    count = 60_000
    relaxation, raw = parameters_of(name, count)
    key = jax.random.key(2)

    @jax.jit
    def mean_cost(raw):
        return jnp.mean(exact(relaxation.draw(key, raw, 0.7).assignment))

    def carried(raw):
        draw = relaxation.draw(key, raw, 0.7)
        return jnp.mean(draw.estimate(exact(draw.neighbours)))

    found = np.asarray(jax.jit(jax.grad(carried))(raw).sum(axis=1))
    change = 0.2
    for number in range(0, relaxation.size, 2):
        step = jnp.zeros_like(raw).at[number].set(change)
        slope = (mean_cost(raw + step) - mean_cost(raw - step)) / (2 * change)
        np.testing.assert_allclose(found[number], slope, atol=0.008)


@pytest.mark.parametrize("name", ["cuts", "perturbed"])
def test_stages_are_contiguous_and_neighbours_too(name):
    relaxation, raw = parameters_of(name, 64, noise=1.0)
    draw = draw_from(relaxation, jax.random.key(3), raw, 3.0)
    columns = np.concatenate(
        [draw.assignment, np.asarray(draw.neighbours).reshape(LAYERS, -1)], axis=1
    )
    used = np.array([len(set(column)) for column in columns.T])
    np.testing.assert_array_equal(count_stages(columns), used)


@pytest.mark.parametrize("name", ["softmax", "cuts", "perturbed"])
def test_without_heat_the_draw_is_the_rounding(name):
    relaxation, raw = parameters_of(name, 64)
    draw = draw_from(relaxation, jax.random.key(4), raw, 1e-4)
    np.testing.assert_array_equal(draw.assignment, relaxation.round(raw))


@pytest.mark.parametrize("name", RELAXATIONS)
def test_start_prefers_what_it_is_given(name):
    relaxation, raw = parameters_of(name, noise=0.0)
    np.testing.assert_array_equal(relaxation.round(raw)[:, 0], START)


def test_cut_probabilities_are_the_published_soft_membership():
    """First cut alone: P(layer after it) = sigmoid((l + 1/2 - b) / T)."""
    relaxation, raw = parameters_of("cuts", 64, noise=0.0)
    means = LAYERS * np.cumsum(np.asarray(jax.nn.softmax(raw[:CORES, 0])))[:-1]
    draw = draw_from(relaxation, jax.random.key(5), raw, 0.8)
    number = np.asarray(draw.weights)[: LAYERS + 1, 0]  # positions 0 .. layers of the first cut
    after = 1 / (1 + np.exp(-(np.arange(LAYERS) + 0.5 - means[0]) / 0.8))
    np.testing.assert_allclose(np.cumsum(number)[:-1], after, atol=1e-6)


def test_solver_finds_the_best_way_through_every_pair():
    score = RNG.normal(size=(LAYERS, CORES)).astype(np.float32)
    best, through = solve_through(jnp.asarray(score))
    ways = [p for p in itertools.product(range(CORES), repeat=LAYERS) if list(p) == sorted(p)]
    for layer, core in itertools.product(range(LAYERS), range(CORES)):
        listed = max(sum(score[range(LAYERS), way]) for way in ways if way[layer] == core)
        np.testing.assert_allclose(best[layer, core], listed, rtol=1e-5)
        way = np.asarray(through[layer * CORES + core])
        assert way[layer] == core
        assert tuple(way) in ways
        np.testing.assert_allclose(score[range(LAYERS), way].sum(), listed, rtol=1e-5)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_one_core_leaves_nothing_to_choose(name):
    relaxation = make_relaxation(name, 4, 1)
    raw = jnp.asarray(relaxation.start(np.zeros(4, int)))[:, None]
    draw = draw_from(relaxation, jax.random.key(0), raw, 1.0)
    assert not np.asarray(draw.assignment).any()
    assert not relaxation.round(raw).any()


def test_unknown_relaxation_lists_the_names():
    with pytest.raises(InputError, match="perturbed"):
        make_relaxation("sotfmax", 3, 2)


def test_steering_cost_tends_to_the_interval():
    instance = random_instance(3, 12, 3)
    assignment = RNG.integers(0, 3, (12, 50))
    value = calc_objective(instance, assignment)
    fits = np.isfinite(value)
    found = [np.exp(steering_cost_of(instance, assignment, p))[fits] for p in (4.0, 4000.0)]
    assert (found[0] >= value[fits]).all()
    np.testing.assert_allclose(found[1], value[fits], rtol=2e-3)


def steering_cost_of(instance, assignment, norm):
    from costs.instance_cost import CostTables

    return steering_cost(CostTables.of(instance), assignment, "interval", norm)


@pytest.mark.slow
@pytest.mark.parametrize("name", RELAXATIONS)
def test_relaxation_alone_beats_equal_split(name):
    """With its own schedule; with one for all, `perturbed` stays on one core."""
    equal = np.arange(12) * 3 // 12
    for number in (30_001, 30_002, 30_003):
        instance = random_instance(number, 12, 3)
        found = relax(instance, name, seed=1)
        values = calc_objective(instance, np.stack([found, equal], axis=1))
        assert values[0] < values[1], number
