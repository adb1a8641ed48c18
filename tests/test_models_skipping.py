"""Dynamic skipping: exactly k are kept, by attention; the formula against counts; gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from costs.errors import InputError
from costs.layer import Layer
from dse.skipping_measure import calc_layer_bytes, count_kept, count_reads
from models.registry import build_network
from models.skipping import Keep, calc_masks, list_skipping, make_skipping, skip

X = jax.random.normal(jax.random.key(0), (5, 6, 4, 10))


@pytest.mark.parametrize(
    ("shares", "kept"), [((0.5, 0.25), (5, 6)), ((0.01, 0.01), (1, 1)), ((1.0, 1.0), (10, 24))]
)
def test_masks_keep_exactly_k(shares: tuple[float, float], kept: tuple[int, int]) -> None:
    channels, columns = calc_masks(X, Keep(*shares))
    assert np.unique(np.asarray(channels)).tolist() in ([1.0], [0.0, 1.0])
    np.testing.assert_array_equal(channels.sum(1), kept[0])
    np.testing.assert_array_equal(columns.sum((1, 2)), kept[1])


def test_masks_keep_exactly_k_among_equals() -> None:
    channels, columns = calc_masks(jnp.zeros((2, 4, 4, 8)), Keep(0.5, 0.5))
    np.testing.assert_array_equal(channels.sum(1), 4)
    np.testing.assert_array_equal(columns.sum((1, 2)), 8)


def test_what_is_kept_has_the_largest_attention() -> None:
    channels, columns = calc_masks(X, Keep(0.3, 0.5))
    for mask, attention in (
        (channels, X.mean((1, 2))),
        (columns.reshape(5, -1), X.mean(3).reshape(5, -1)),
    ):
        for kept, values in zip(np.asarray(mask) > 0, np.asarray(attention), strict=True):
            assert values[kept].min() >= values[~kept].max()


def test_masks_follow_the_picture() -> None:
    channels, _ = calc_masks(X, Keep(0.3, 0.5))
    order = jnp.array([3, 1, 0, 4, 2])
    np.testing.assert_array_equal(calc_masks(X[order], Keep(0.3, 0.5))[0], channels[order])
    assert len(np.unique(np.asarray(channels), axis=0)) > 1


def test_rounding_at_random_has_the_share_as_its_mean() -> None:
    keys = jax.random.split(jax.random.key(1), 500)
    kept = jax.vmap(lambda k: calc_masks(X[:1], Keep(0.43, 0.5, k))[0].sum())(keys)
    assert set(np.asarray(kept).tolist()) == {4.0, 5.0}
    assert float(kept.mean()) == pytest.approx(4.3, abs=0.07)
    held = jax.vmap(lambda k: calc_masks(X[:1], Keep(0.43, 0.5, k, held=True))[0].sum())(keys)
    np.testing.assert_array_equal(held, 4)


def test_targeted_dropout_spares_what_attention_keeps() -> None:
    keys = jax.random.split(jax.random.key(2), 300)
    sure = calc_masks(X, Keep(0.3, 0.5))[0]
    drawn = jax.vmap(lambda k: calc_masks(X, Keep(0.3, 0.5, k, 0.6))[0])(keys)
    assert bool((drawn[:, sure > 0] == 1).all())
    assert float(drawn[:, sure == 0].mean()) == pytest.approx(0.4, abs=0.02)


def test_gradient_of_a_share_is_that_of_the_relaxed_width() -> None:
    """One more channel of ten changes the sum by the entry at the next rank: 10 x per unit."""

    def kept_sum(share: jax.Array) -> jax.Array:
        masks = calc_masks(X[:1], Keep(share, 1.0))
        return jnp.sum(jnp.mean(X[:1], (1, 2)) * masks[0])

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
    channels, columns = calc_masks(X, Keep(0.4, 0.5))
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
    np.testing.assert_allclose(found["macs_measured"], layer.macs * share, rtol=1e-5)
    if kernel == 1:
        np.testing.assert_allclose(found["macs_measured"], found["macs_formula"], rtol=1e-12)
    assert np.abs(found["macs_measured"] / found["macs_formula"] - 1).max() < 0.35


def test_formula_is_the_mean_of_the_counts_over_all_places() -> None:
    """Averaged over where the kept columns may lie, border or not, count and formula agree."""
    layer, rng = make_layer(3), np.random.default_rng(0)
    columns = np.zeros((4000, 24))
    for row in columns:
        row[rng.permutation(24)[:12]] = 1.0
    channels = np.tile(np.arange(10) < 4, (4000, 1)).astype(float)
    found = count_kept(layer, channels, columns.reshape(-1, 6, 4))
    assert found["macs_formula"] == pytest.approx(layer.macs * 0.4 * 0.5)
    assert found["macs_measured"].mean() == pytest.approx(layer.macs * 0.2, rel=0.01)


def test_reads_and_bytes_of_everything_are_those_of_the_layer() -> None:
    layer = make_layer(3)
    products = count_reads(layer).sum() * layer.C * layer.K
    inside = layer.macs - products
    assert 0 < inside < layer.macs  # the rest of the loop nest falls on padding
    found = count_kept(layer, np.ones((1, 10)), np.ones((1, 6, 4)))
    assert found["macs_formula"] == found["macs_measured"] == layer.macs
    mask_bytes = (10 + 24) / 8
    for kind in ("formula", "measured"):
        assert found[f"bytes_{kind}"] == pytest.approx(calc_layer_bytes(layer) + mask_bytes)
