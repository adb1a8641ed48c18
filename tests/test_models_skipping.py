"""Dynamic skipping: exactly k are kept, by attention; the formula against counts; gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from costs.errors import InputError
from costs.layer import Layer
from models.registry import build_network
from models.skipping import Keep, calc_masks, list_skipping, make_skipping, round_share, skip
from models.skipping_count import calc_dense, calc_kept, count_kept, reads_share

X = jax.random.normal(jax.random.key(0), (5, 6, 4, 10))


@pytest.mark.parametrize(
    ("shares", "kept"), [((0.5, 0.25), (5, 6)), ((0.01, 0.01), (1, 1)), ((1.0, 1.0), (10, 24))]
)
def test_masks_keep_exactly_k(shares: tuple[float, float], kept: tuple[int, int]) -> None:
    (channels, columns), applied = calc_masks(X, Keep(*shares))
    np.testing.assert_array_equal(applied[0], channels)
    assert (round_share(shares[0], 10), round_share(shares[1], 24)) == kept
    assert np.unique(np.asarray(channels)).tolist() in ([1.0], [0.0, 1.0])
    np.testing.assert_array_equal(channels.sum(1), kept[0])
    np.testing.assert_array_equal(columns.sum((1, 2)), kept[1])


def test_masks_keep_exactly_k_among_equals() -> None:
    (channels, columns), _ = calc_masks(jnp.zeros((2, 4, 4, 8)), Keep(0.5, 0.5))
    np.testing.assert_array_equal(channels.sum(1), 4)
    np.testing.assert_array_equal(columns.sum((1, 2)), 8)


def test_what_is_kept_has_the_largest_attention() -> None:
    (channels, columns), _ = calc_masks(X, Keep(0.3, 0.5))
    for mask, attention in (
        (channels, X.mean((1, 2))),
        (columns.reshape(5, -1), X.mean(3).reshape(5, -1)),
    ):
        for kept, values in zip(np.asarray(mask) > 0, np.asarray(attention), strict=True):
            assert values[kept].min() >= values[~kept].max()


def test_masks_follow_the_picture() -> None:
    (channels, _), _ = calc_masks(X, Keep(0.3, 0.5))
    order = jnp.array([3, 1, 0, 4, 2])
    np.testing.assert_array_equal(calc_masks(X[order], Keep(0.3, 0.5))[0][0], channels[order])
    assert len(np.unique(np.asarray(channels), axis=0)) > 1


def test_rounding_at_random_has_the_share_as_its_mean() -> None:
    keys = jax.random.split(jax.random.key(1), 500)
    kept = jax.vmap(lambda k: calc_masks(X[:1], Keep(0.43, 0.5, k))[0][0].sum())(keys)
    assert set(np.asarray(kept).tolist()) == {4.0, 5.0}
    assert float(kept.mean()) == pytest.approx(4.3, abs=0.07)
    held = jax.vmap(lambda k: calc_masks(X[:1], Keep(0.43, 0.5, k, held=True))[0][0].sum())(keys)
    np.testing.assert_array_equal(held, 4)


def test_targeted_dropout_spares_what_attention_keeps() -> None:
    keys = jax.random.split(jax.random.key(2), 300)
    (sure, _), _ = calc_masks(X, Keep(0.3, 0.5))
    kept, drawn = jax.vmap(lambda k: [m[0] for m in calc_masks(X, Keep(0.3, 0.5, k, 0.6))])(keys)
    assert bool(
        (np.asarray(kept) == np.asarray(sure)).all()
    )  # what is spared is not counted as kept
    assert bool((drawn[:, sure > 0] == 1).all())
    assert float(drawn[:, sure == 0].mean()) == pytest.approx(0.4, abs=0.02)


def test_gradient_of_a_share_is_that_of_the_relaxed_width() -> None:
    """One more channel of ten changes the sum by the entry at the next rank: 10 x per unit."""

    def kept_sum(share: jax.Array) -> jax.Array:
        channels, _ = calc_masks(X[:1], Keep(share, 1.0))[1]
        return jnp.sum(jnp.mean(X[:1], (1, 2)) * channels)

    attention = np.sort(np.asarray(X[0].mean((0, 1))))[::-1]
    assert float(jax.grad(kept_sum)(jnp.array(0.43))) == pytest.approx(10 * attention[4], rel=1e-5)


def test_a_network_that_keeps_everything_is_the_plain_one() -> None:
    net = build_network("small_cnn", rngs=nnx.Rngs(0), input_shape=(8, 8, 1))
    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    plain = net(x)
    make_skipping(net, ["conv"])
    np.testing.assert_array_equal(net(x), plain)
    everything = {"conv": Keep(1.0, 1.0)}
    skip(net, everything)
    np.testing.assert_array_equal(net(x), plain)
    assert set(everything["conv"].record) == {conv.path for conv in list_skipping(net)}
    skip(net, {"conv": Keep(0.5, 0.5)})
    assert float(jnp.abs(net(x) - plain).max()) > 1e-3


def test_a_block_that_does_not_exist_is_an_input_error() -> None:
    net = build_network("small_cnn", rngs=nnx.Rngs(0), input_shape=(8, 8, 1))
    with pytest.raises(InputError, match="stage9"):
        make_skipping(net, ["stage9"])


def make_layer(kernel: int, stride: int = 1) -> Layer:
    pad = kernel // 2
    size = (6 - 1) // stride + 1, (4 - 1) // stride + 1
    return Layer(
        "conv", K=7, C=10, P=size[0], Q=size[1], R=kernel, S=kernel, stride=(stride, stride),
        padding=((pad, pad), (pad, pad)), input_size=(6, 4),
    )  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1)])
def test_counted_macs_are_those_of_every_product_with_a_kept_input(
    kernel: int, stride: int
) -> None:
    """Independent count: convolve the masked ones with a kernel of ones."""
    layer = make_layer(kernel, stride)
    (channels, columns), _ = calc_masks(X, Keep(0.4, 0.5))
    kept = np.asarray(channels[:, None, None, :] * columns[..., None])
    found = count_kept(layer, np.asarray(channels), np.asarray(columns))
    ones = jnp.ones((kernel, kernel, 10, 7))
    padding = [layer.padding[0], layer.padding[1]]

    def products(x: np.ndarray) -> np.ndarray:
        y = jax.lax.conv_general_dilated(
            jnp.asarray(x), ones, layer.stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return np.asarray(y).sum((1, 2, 3))

    share = products(kept) / products(np.ones_like(kept))
    np.testing.assert_allclose(found["macs"], layer.macs * share, rtol=1e-5)
    formula = calc_kept(layer, 0.4, 0.5)
    if kernel == 1:
        np.testing.assert_allclose(found["macs"], formula["macs"], rtol=1e-6)
    assert np.abs(found["macs"] / formula["macs"] - 1).max() < 0.35
    np.testing.assert_allclose(found["bytes"], formula["bytes"], rtol=1e-6)


def test_formula_is_the_mean_of_the_counts() -> None:
    """Over all places, border or not, the ratios alone say it; where attention has places that it
    prefers, how often each is kept says it, exactly."""
    layer, rng = make_layer(3), np.random.default_rng(0)
    channels = np.tile(np.arange(10) < 4, (4000, 1)).astype(float)
    middle = reads_share(layer).ravel()
    for liking, tolerance in ((0.0, 0.01), (40.0, None)):
        columns = np.zeros((4000, 24))
        for row in columns:
            row[np.argsort(rng.random(24) - liking * middle)[:12]] = 1.0
        columns = columns.reshape(-1, 6, 4)
        counted = count_kept(layer, channels, columns)["macs"].mean()
        ratios = calc_kept(layer, 0.4, 0.5)["macs"]
        assert ratios == pytest.approx(layer.macs * 0.4 * 0.5)
        if tolerance is not None:
            assert counted == pytest.approx(ratios, rel=tolerance)
        else:
            assert counted > 1.15 * ratios
        attended = calc_kept(layer, 0.4, 0.5, columns.mean(0))["macs"]
        assert counted == pytest.approx(attended, rel=1e-12)


def test_the_count_has_the_gradient_of_the_next_entry() -> None:
    """One more position of 24 adds the reads of the one at the next rank."""
    layer = make_layer(3)

    def macs(share: jax.Array) -> jax.Array:
        masks, _ = calc_masks(X[:1], Keep(1.0, share))
        return count_kept(layer, *masks)["macs"][0]

    order = np.argsort(-np.asarray(X[0].mean(-1)).ravel())
    share = jnp.array(10.3 / 24)
    expected = 24 * layer.macs * reads_share(layer).ravel()[order[10]]
    assert float(jax.grad(macs)(share)) == pytest.approx(expected, rel=1e-4)


def test_everything_kept_costs_what_the_layer_costs() -> None:
    layer, dense = make_layer(3), calc_dense(make_layer(3))
    assert dense["macs"] == layer.macs
    assert reads_share(layer).sum() == pytest.approx(1.0)
    mask_bytes = (10 + 24) / 8
    for found in (
        count_kept(layer, np.ones((1, 10)), np.ones((1, 6, 4))),
        calc_kept(layer, 1.0, 1.0),
        calc_kept(layer, 1.0, 1.0, np.ones((6, 4))),
    ):
        assert found["macs"] == pytest.approx(layer.macs)
        assert found["bytes"] == pytest.approx(dense["bytes"] + mask_bytes)
