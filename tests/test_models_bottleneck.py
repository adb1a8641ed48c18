import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from costs.errors import InputError
from models.bottleneck import (
    Bottleneck,
    Boundary,
    Quantiser,
    calc_quantised,
    calc_quantiser_step,
)
from models.norm import EPSILON, BatchNorm, Modulation, calc_design_features, fold_affine
from models.relax import prefix_mask

BOUNDARY = Boundary("stem.out", 6, 4, 4, 8, "stem.conv")
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4, 6)), jnp.float32)


def _bottleneck(*, quantise: bool) -> Bottleneck:
    return Bottleneck(
        BOUNDARY,
        quantise=quantise,
        kernel_init=nnx.initializers.he_normal(),
        rngs=nnx.Rngs(1),
    )


@given(st.integers(2, 16), st.floats(0.125, 64.0, width=32))
@settings(max_examples=25)
def test_quantiser_laws(bits: int, largest: float):
    half = np.linspace(0.0, 1.5 * largest, 151).astype("f")
    x = jnp.asarray(np.concatenate([-half[:0:-1], half]))
    step = calc_quantiser_step(jnp.float32(largest), bits)
    y = np.asarray(calc_quantised(x, step, bits))
    assert y[150] == 0.0
    np.testing.assert_array_equal(y, -y[::-1])
    assert len(np.unique(y)) <= 2**bits - 1
    assert np.all(np.diff(y) >= 0)
    inside = np.abs(np.asarray(x)) <= largest
    assert np.abs(y - x)[inside].max() <= step / 2 + 1e-6 * largest
    levels = y / np.float64(step)
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-3 * 2 ** max(0, bits - 10))
    again = calc_quantised(jnp.asarray(y), step, bits)
    np.testing.assert_allclose(again, y, rtol=1e-6)


def test_quantiser_gradient_is_one_inside_and_zero_outside():
    gradient = jax.vmap(jax.grad(lambda x: calc_quantised(x, jnp.float32(0.1), 4)))(
        jnp.asarray([-0.9, -0.65, 0.0, 0.33, 0.72])
    )
    np.testing.assert_allclose(gradient, [0.0, 1.0, 1.0, 1.0, 0.0], atol=1e-6)


def test_quantiser_records_the_largest_magnitude_and_uses_the_stored_one():
    quantiser = Quantiser(8)
    quantiser(X, mode="batch")
    assert quantiser.range[...] == jnp.max(jnp.abs(X))
    y = quantiser(100.0 * X, mode="stored")
    np.testing.assert_allclose(jnp.max(jnp.abs(y)), jnp.max(jnp.abs(X)), rtol=1e-6)
    np.testing.assert_array_equal(quantiser(jnp.zeros(4), mode="batch"), jnp.zeros(4))


def test_closed_channels_carry_nothing():
    """Nothing that reduce makes for a closed channel reaches the output."""
    graphdef, params, rest = nnx.split(_bottleneck(quantise=True), nnx.Param, ...)
    rest = nnx.as_pure(rest)

    def total(params: nnx.State, width: float) -> jax.Array:
        net = nnx.merge(graphdef, params, rest)
        return jnp.sum(net(X, prefix_mask(jnp.float32(width), 6), {}, mode="batch") ** 2)

    gradient = jax.jit(jax.grad(total))(params, 2.0)
    reduced = jnp.abs(gradient["reduce"]["kernel"][...]).sum((0, 1, 2))
    assert np.all(reduced[:2] > 0)
    assert np.all(reduced[2:] == 0)
    assert np.all(jnp.abs(gradient["reduce_norm"]["bias"][...])[2:] == 0)


def test_full_width_is_the_quantised_tensor_itself():
    plain = _bottleneck(quantise=False)(X, jnp.ones(6), {}, mode="batch")
    np.testing.assert_array_equal(plain, X)
    quantised = _bottleneck(quantise=True)(X, jnp.ones(6), {}, mode="batch")
    step = calc_quantiser_step(jnp.max(jnp.abs(X)), 8)
    np.testing.assert_array_equal(quantised, calc_quantised(X, step, 8))
    without_mask = _bottleneck(quantise=True)(X, None, {}, mode="batch")
    np.testing.assert_array_equal(without_mask, quantised)


def test_one_channel_has_no_pair():
    boundary = Boundary("b", 1, 4, 4, 8, "conv")
    module = Bottleneck(
        boundary, quantise=True, kernel_init=nnx.initializers.he_normal(), rngs=nnx.Rngs(0)
    )
    assert not nnx.state(module, nnx.Param)
    assert module(X[..., :1], jnp.ones(1), {}, mode="batch").shape == (3, 4, 4, 1)


def test_layers_of_a_pair():
    reduce, expand = BOUNDARY.reduce_layer(2), BOUNDARY.expand_layer(2)
    assert (reduce.name, expand.name) == ("stem.out.reduce", "stem.out.expand")
    assert (reduce.C, reduce.K, expand.C, expand.K) == (6, 2, 2, 6)
    # 2 C w H W multiplications and 2 C w weights for a pair (papers.md A, w = C / r)
    assert reduce.macs + expand.macs == 2 * 6 * 2 * 16
    assert reduce.words("W") + expand.words("W") == 2 * 6 * 2
    assert reduce.words("O") == expand.words("I") == BOUNDARY.words(2) == 32
    assert Boundary("b", 6, 4, 4, 4, "p").expand_layer(2).bits_i == 4


@pytest.mark.parametrize("bits", [0, 1, 33])
def test_impossible_word_lengths_are_refused(bits: int):
    with pytest.raises(InputError, match=r"2\.\.32"):
        Boundary("b", 6, 4, 4, bits, "p")


def test_norm_normalises_and_stored_statistics_repeat_it():
    norm = BatchNorm(6)
    y = norm(5.0 * X + 2.0, mode="batch")
    np.testing.assert_allclose(jnp.mean(y, (0, 1, 2)), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(jnp.var(y, (0, 1, 2)), np.ones(6), atol=1e-4)
    np.testing.assert_allclose(norm(5.0 * X + 2.0, mode="stored"), y, atol=1e-6)
    flat = X.reshape(-1, 6)
    np.testing.assert_allclose(
        BatchNorm(6)(flat, mode="batch").reshape(X.shape), BatchNorm(6)(X, mode="batch"), atol=1e-6
    )


def test_norm_agrees_with_flax():
    ours, theirs = BatchNorm(6), nnx.BatchNorm(6, epsilon=EPSILON, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(ours(X, mode="batch"), theirs(X), atol=2e-6)


def test_norm_folds():
    rng = np.random.default_rng(2)
    scale, bias, mean = rng.normal(size=(3, 6)).astype("f")
    var = rng.uniform(0.1, 2.0, 6).astype("f")
    norm = BatchNorm(6)
    norm.scale[...], norm.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    norm.mean[...], norm.var[...] = jnp.asarray(mean), jnp.asarray(var)
    factor, offset = fold_affine(scale, bias, mean, var)
    np.testing.assert_allclose(norm(X, mode="stored"), np.asarray(X) * factor + offset, atol=1e-5)


def test_modulation_starts_at_zero_and_moves_scale_and_bias():
    modulation = Modulation(3, {"one": 6, "two": 2})
    features = jnp.asarray([0.5, -1.0, 2.0])
    norm, changes = BatchNorm(6), modulation(features)
    assert changes["two"].shape == (2, 2)
    np.testing.assert_array_equal(norm(X, changes["one"], mode="batch"), norm(X, mode="batch"))
    modulation.kernel[...] = jnp.tile(jnp.arange(16.0)[None], (3, 1))
    changes = modulation(features)
    np.testing.assert_allclose(changes["one"], 1.5 * np.arange(12.0).reshape(2, 6))
    np.testing.assert_allclose(changes["two"], 1.5 * np.arange(12.0, 16.0).reshape(2, 2))
    moved = norm(X, jnp.stack([jnp.ones(6), jnp.full(6, 3.0)]), mode="batch")
    np.testing.assert_allclose(moved, 2.0 * norm(X, mode="batch") + 3.0, rtol=1e-5, atol=1e-5)


def test_design_features_ignore_widths_that_have_no_effect():
    channels = jnp.asarray([8.0, 4.0])
    active, crossing = jnp.asarray([1.0, 0.0]), jnp.asarray([1.0, 0.0, 0.0])
    one = calc_design_features(jnp.asarray([2.0, 1.0]), channels, active, crossing)
    other = calc_design_features(jnp.asarray([2.0, 3.0]), channels, active, crossing)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(one, [np.log(0.25), 0, 0.5 - 0.125, 0, 1, 0, 0], rtol=1e-6)
