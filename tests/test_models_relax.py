import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs.errors import InputError
from models.relax import (
    RELAXATIONS,
    calc_clip_mask,
    get_relaxation,
    mix,
    prefix_mask,
    sample_masks,
    straight_through,
    widths_of,
)

CHANNELS = 8
WIDTHS = st.floats(1.0, CHANNELS, width=32)
KEYS = jax.random.split(jax.random.key(0), 4000)
WIDTH_BASED = ("stochastic", "round", "jittered", "clipped", "sigmoid")


def _samples(name: str, parameter: jax.Array, temperature: float = 1.0) -> np.ndarray:
    sample = get_relaxation(name).sample
    return np.asarray(jax.vmap(lambda key: sample(parameter, CHANNELS, key, temperature))(KEYS))


def _parameter(name: str, width: float = 4.4) -> jax.Array:
    return get_relaxation(name).initial(width, CHANNELS)


@given(WIDTHS)
@settings(max_examples=10)
def test_mean_stochastic_mask_is_the_clip_mask(width: float):
    masks = _samples("stochastic", jnp.float32(width))
    np.testing.assert_allclose(
        masks.mean(0), calc_clip_mask(jnp.float32(width), CHANNELS), atol=0.035
    )
    assert np.isclose(masks.sum(1).mean(), width, atol=0.035)


@pytest.mark.parametrize("name", [n for n, relaxation in RELAXATIONS.items() if relaxation.hard])
def test_forward_is_discrete(name: str):
    masks = _samples(name, _parameter(name), 0.7)
    assert set(np.unique(masks)) <= {0.0, 1.0}


@pytest.mark.parametrize("name", [n for n, r in RELAXATIONS.items() if r.ordered])
def test_masks_are_prefixes_with_an_open_channel(name: str):
    masks = _samples(name, _parameter(name), 0.7)
    assert np.all(np.diff(masks, axis=1) <= 0)
    if RELAXATIONS[name].hard:
        assert np.all(masks[:, 0] == 1)


@given(st.integers(1, CHANNELS))
@settings(max_examples=8)
def test_integer_width_has_no_noise(width: int):
    for name in ("stochastic", "round", "clipped"):
        masks = _samples(name, jnp.float32(width))
        assert np.all(masks.sum(1) == width)
        assert np.all(masks == masks[0])


@pytest.mark.parametrize("width", [1.3, 4.4, 6.8])
def test_sigmoid_reaches_the_rounded_prefix_as_temperature_falls(width: float):
    target = np.arange(CHANNELS) < np.floor(width + 0.5)
    sample = RELAXATIONS["sigmoid"].sample
    errors = [
        np.abs(sample(jnp.float32(width), CHANNELS, KEYS[0], t) - target).max()
        for t in (2.0, 0.5, 0.1, 0.01)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_jitter_vanishes_with_temperature():
    masks = _samples("jittered", jnp.float32(4.4), 1e-4)
    assert np.all(masks.sum(1) == 4)
    assert _samples("jittered", jnp.float32(4.4), 2.0).sum(1).std() > 1.0


def test_gumbel_gradient_hardens_as_temperature_falls():
    def width(logits: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
        return RELAXATIONS["gumbel"].sample(logits, CHANNELS, key, temperature).sum()

    def typical(temperature: float) -> float:
        gradients = jax.vmap(jax.grad(width), (None, 0, None))(
            jnp.zeros(CHANNELS), KEYS[:200], temperature
        )
        return float(jnp.median(jnp.abs(gradients).max(1)))

    assert typical(1.0) > 0.1
    assert typical(0.01) < 1e-3


def test_hard_concrete_and_logistic_gates_have_their_published_opening_probability():
    log_odds = jnp.linspace(-3.0, 3.0, CHANNELS)
    concrete = (_samples("hard_concrete", log_odds) > 0).sum(1).mean()
    assert np.isclose(concrete, RELAXATIONS["hard_concrete"].mean_width(log_odds), atol=0.1)
    gates = _samples("logistic_sigmoid", log_odds)
    np.testing.assert_allclose(gates.mean(0), jax.nn.sigmoid(log_odds), atol=0.035)


def test_gumbel_widths_have_the_softmax_as_distribution():
    logits = jnp.linspace(0.0, 2.0, CHANNELS)
    widths = _samples("gumbel", logits, 3.0).sum(1)
    share = np.bincount(widths.astype(int), minlength=CHANNELS + 1)[1:] / len(widths)
    np.testing.assert_allclose(share, jax.nn.softmax(logits), atol=0.035)
    assert np.isclose(widths.mean(), RELAXATIONS["gumbel"].mean_width(logits), atol=0.15)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_more_parameter_means_more_width(name: str):
    """The mean gradient of the width points up, for gates channel by channel."""
    relaxation = RELAXATIONS[name]
    parameter = _parameter(name)
    direction = jnp.ones_like(parameter)
    if name == "gumbel":  # more weight on larger widths
        direction = jnp.linspace(-1.0, 1.0, CHANNELS)

    def width(p: jax.Array, key: jax.Array) -> jax.Array:
        return relaxation.sample(p, CHANNELS, key, 0.7).sum()

    gradients = jax.vmap(jax.grad(width), (None, 0))(parameter, KEYS[:500])
    assert jnp.sum(gradients.mean(0) * direction) > 0


@given(st.floats(1.125, CHANNELS - 0.125, width=32), st.integers(0, 100))
@settings(max_examples=20)
def test_stochastic_gradient_is_that_of_the_expected_linear_cost(width: float, seed: int):
    prices = jnp.asarray(np.random.default_rng(seed).normal(size=CHANNELS), jnp.float32)

    def price(w: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.dot(prices, RELAXATIONS["stochastic"].sample(w, CHANNELS, key, 1.0))

    def expected(w: jax.Array) -> jax.Array:
        return jnp.dot(prices, calc_clip_mask(w, CHANNELS))

    got = jax.grad(price)(jnp.float32(width), KEYS[seed])
    np.testing.assert_allclose(got, jax.grad(expected)(jnp.float32(width)), rtol=1e-6)


def test_prefix_mask_at_an_integer_has_the_central_gradient():
    prices = jnp.arange(1.0, CHANNELS + 1)

    def price(w: jax.Array) -> jax.Array:
        return jnp.dot(prices, prefix_mask(w, CHANNELS))

    for width in range(1, CHANNELS):
        value, gradient = jax.value_and_grad(price)(jnp.float32(width))
        assert value == prices[:width].sum()
        assert gradient == (prices[width - 1] + prices[width]) / 2


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
@settings(max_examples=50)
def test_straight_through_is_exact_forward(hard: float, soft: float):
    value, gradient = jax.value_and_grad(lambda s: straight_through(jnp.float32(hard), 3.0 * s))(
        jnp.float32(soft)
    )
    assert value == np.float32(hard)
    assert gradient == 3.0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mix_is_the_formula_and_has_its_gradients(share: float):
    first, second, slope = jax.random.normal(jax.random.key(0), (3, 5, 2, 2, 3))

    def formula(share: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        return share * first + (1.0 - share) * second

    point = (jnp.asarray(share), first, second)
    value, pull = jax.vjp(mix, *point)
    expected, expected_pull = jax.vjp(formula, *point)
    np.testing.assert_array_equal(value, expected)
    for found, wanted in zip(pull(slope), expected_pull(slope), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", RELAXATIONS)
def test_discrete_width_is_near_the_initial_one(name: str):
    relaxation = RELAXATIONS[name]
    for width in (1, 3, CHANNELS):
        parameter = relaxation.initial(width, CHANNELS)
        assert relaxation.discrete(parameter, CHANNELS) == width
        if name in WIDTH_BASED:
            assert relaxation.mean_width(parameter) == width


def test_masks_of_several_boundaries_are_independent_and_jit_agrees():
    channels = (4, 6, 9)
    parameters = jnp.asarray([2.5, 2.5, 2.5])

    def sample(p: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        return sample_masks("stochastic", p, channels, key)

    eager = sample(parameters, KEYS[0])
    for one, other, count in zip(
        eager, jax.jit(sample)(parameters, KEYS[0]), channels, strict=True
    ):
        assert one.shape == (count,)
        np.testing.assert_array_equal(one, other)
    widths = jax.vmap(lambda key: widths_of(sample(parameters, key)))(KEYS)
    assert np.all(np.abs(np.corrcoef(np.asarray(widths).T)[np.triu_indices(3, 1)]) < 0.06)
    gradient = jax.grad(lambda p: jnp.sum(widths_of(sample(p, KEYS[0]))))(parameters)
    np.testing.assert_array_equal(gradient, jnp.ones(3))


def test_unknown_relaxation_is_an_input_error():
    with pytest.raises(InputError, match="stochastic"):
        get_relaxation("soft")
