"""Laws of the multilinear extension: exact at integers, gradient unbiased, values discrete."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dse.relaxed import (
    Shape,
    extended_objective,
    extension_corners,
    sample_corner,
    split_ordinals,
)

SHAPE = Shape(max_widths=(4, 6), largest_pairs=(3, 5), knob_sizes=((3, 1, 2),), layers=2, cores=3)
RNG = np.random.default_rng(0)
TABLE = RNG.uniform(size=(5, 7, 3, 2, 3, 3))  # width, width, knob, knob, core, core


def exact(ordinals: Any, assignment: Any) -> Any:
    index = [ordinals[i].astype(int) for i in (0, 1, 2, 4)]
    table = jnp.asarray(TABLE) if isinstance(ordinals, jax.Array) else TABLE
    return table[(*index, assignment[0], assignment[1])]


def expectation(ordinals, chance):
    """The extension, by adding up every corner and every assignment."""
    corners, weights = extension_corners(SHAPE, np.asarray(ordinals, float))
    total = 0.0
    for a in range(3):
        for b in range(3):
            assignment = np.repeat([[a], [b]], corners.shape[1], axis=1)
            total += chance[0, a] * chance[1, b] * np.sum(weights * exact(corners, assignment))
    return total


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_extension_is_exact_at_integers():
    ordinals = np.array([3, 6, 1, 0, 1])
    corners, weights = extension_corners(SHAPE, ordinals.astype(float))
    kept = corners[:, weights > 0]
    np.testing.assert_array_equal(kept, ordinals[:, None])
    assert weights.sum() == 1.0


def test_extension_is_linear_between_neighbours():
    low, high = np.array([2, 3, 1, 0, 0.0]), np.array([3, 3, 1, 0, 0.0])
    logits = np.zeros((2, 3))
    ends = [expectation(x, softmax(logits)) for x in (low, high)]
    for part in (0.25, 0.5, 0.9):
        middle = expectation(low + part * (high - low), softmax(logits))
        np.testing.assert_allclose(middle, (1 - part) * ends[0] + part * ends[1], rtol=1e-12)


def test_lower_neighbour_always_has_an_upper_one():
    ordinals = np.stack([SHAPE.ordinal_low, SHAPE.ordinal_high], axis=1)
    lower, fraction = split_ordinals(SHAPE, ordinals)
    assert (lower + 1 <= np.maximum(SHAPE.ordinal_high, SHAPE.ordinal_low + 1)[:, None]).all()
    np.testing.assert_array_equal(lower + fraction, ordinals)


@pytest.fixture(scope="module")
def relaxed():
    ordinals = jnp.array([2.3, 4.8, 0.6, 0.0, 0.4])[:, None]
    logits = jnp.asarray(RNG.normal(size=(2, 3, 1)))
    return ordinals, logits


def test_forward_value_is_that_of_an_integer_design(relaxed):
    ordinals, logits = relaxed
    for seed in range(20):
        corner = sample_corner(jax.random.key(seed), SHAPE, ordinals, logits)
        hard, assignment = corner
        np.testing.assert_array_equal(hard, np.round(hard))
        value = extended_objective(lambda o, a, w: exact(o, a), SHAPE, corner, ordinals, logits)
        np.testing.assert_array_equal(value, exact(hard, assignment))


def test_corner_rounds_up_with_the_fraction_as_probability(relaxed):
    ordinals, logits = relaxed
    many = jnp.repeat(ordinals, 20_000, axis=1), jnp.repeat(logits, 20_000, axis=2)
    hard, assignment = sample_corner(jax.random.key(0), SHAPE, *many)
    np.testing.assert_allclose(hard.mean(axis=1), ordinals[:, 0], atol=0.02)
    share = np.stack([(assignment == k).mean(axis=1) for k in range(3)], axis=1)
    np.testing.assert_allclose(share, softmax(np.asarray(logits[:, :, 0])), atol=0.02)


def test_gradient_is_that_of_the_extension_on_average(relaxed):
    """Averaged over corners, against central differences of the summed-up expectation."""
    ordinals, logits = relaxed
    count = 40_000

    def mean_value(o, x):
        wide = jnp.repeat(o, count, axis=1), jnp.repeat(x, count, axis=2)
        corner = jax.lax.stop_gradient(sample_corner(jax.random.key(1), SHAPE, *wide))
        return jnp.mean(extended_objective(lambda p, a, w: exact(p, a), SHAPE, corner, *wide))

    found_o, found_x = jax.jit(jax.grad(mean_value, argnums=(0, 1)))(ordinals, logits)
    base_o = np.asarray(ordinals[:, 0], float)
    base_x = np.asarray(logits[:, :, 0], float)
    for i in (0, 1, 2, 4):
        step = np.zeros(5)
        step[i] = 1e-3
        slope = (
            expectation(base_o + step, softmax(base_x))
            - expectation(base_o - step, softmax(base_x))
        ) / 2e-3
        np.testing.assert_allclose(found_o[i, 0], slope, atol=0.01)
    assert found_o[3, 0] == 0.0, "a grid of one value has nothing to differ from"
    for layer in range(2):
        for core in range(3):
            step = np.zeros((2, 3))
            step[layer, core] = 1e-3
            slope = (
                expectation(base_o, softmax(base_x + step))
                - expectation(base_o, softmax(base_x - step))
            ) / 2e-3
            np.testing.assert_allclose(found_x[layer, core, 0], slope, atol=0.01)
