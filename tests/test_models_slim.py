import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs.errors import InputError
from models.functional import Flat, Functional, count_parameters
from models.resnet import ResNetSpec, Stage, resnet_architecture
from models.slim import check_design, fold_norms, recalibrate, slim

SPEC = ResNetSpec((Stage(1, 4), Stage(1, 6, 2)), stem=4)
SPECS = {
    "projection": SPEC,
    "parameter_free": ResNetSpec(SPEC.stages, stem=4, shortcut="parameter_free"),
    "three_layer_blocks": ResNetSpec((Stage(1, 1, 2),), stem=3, block="bottleneck"),
    "imagenet_stem": ResNetSpec((Stage(1, 4),), stem=4, imagenet_stem=True, head_bias=False),
}


def _random(net: Functional, seed: int) -> tuple[Flat, Flat, jax.Array]:
    """Weights, statistics and pictures with no zero, one or equal values to hide behind."""
    rng = np.random.default_rng(seed)
    params, stats = net.init(jax.random.key(seed))
    params = {k: v + 0.1 * rng.normal(size=v.shape).astype("f") for k, v in params.items()}
    x = jnp.asarray(rng.normal(size=(4, *net.architecture.input_shape)), jnp.float32)
    return params, stats, x


@functools.cache
def _net(spec: str = "projection", quantise: bool = False) -> Functional:
    architecture = resnet_architecture(
        SPECS[spec],
        input_shape=(8, 8, 2),
        classes=3,
        bottlenecks="all" if spec == "projection" and not quantise else "blocks",
        quantise=quantise,
    )
    return Functional.from_architecture(architecture)


NET = _net()
PARAMS, STATS, X = _random(NET, 0)
APPLY = jax.jit(NET.apply, static_argnames="mode")
CHANNELS = [boundary.channels for boundary in NET.boundaries]


def _assert_close(slim_logits: jax.Array, masked: jax.Array) -> None:
    tolerance = 1e-5 * max(1.0, float(jnp.max(jnp.abs(masked))))
    np.testing.assert_allclose(slim_logits, masked, rtol=0, atol=tolerance)


@functools.cache
def _apply(net: Functional):
    """Compiled without optimisation: many networks, each run once."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(lambda *a: net.apply(*a)[0], compiler_options=options)


def _check(
    net: Functional, params: Flat, stats: Flat, x: jax.Array, widths: list[int], flags: list[bool]
):
    w, c = jnp.asarray(widths, jnp.float32), jnp.asarray(flags, jnp.float32)
    stats = recalibrate(net, params, stats, [x], w, c)
    masked = _apply(net)(params, stats, x, w, c)
    small, small_params, small_stats = slim(net, params, stats, widths, flags)
    _assert_close(_apply(small)(small_params, small_stats, x), masked)
    bare, bare_params, bare_stats = fold_norms(small, small_params, small_stats)
    assert all(node.op != "norm" for node in bare.operations.nodes)
    assert not bare_stats
    _assert_close(_apply(bare)(bare_params, bare_stats, x), masked)
    return small, small_params


@pytest.mark.parametrize(
    ("spec", "case"),
    [*((spec, "mixed") for spec in SPECS), ("projection", "ones"), ("projection", "full")],
)
def test_slim_equals_masked(spec: str, case: str):
    net = _net(spec)
    params, stats, x = _random(net, 1)
    rng = np.random.default_rng(2)
    channels = [boundary.channels for boundary in net.boundaries]
    widths = {
        "ones": [1] * len(channels),
        "full": channels,
    }.get(case, [int(rng.integers(1, c + 1)) for c in channels])
    flags = [case != "mixed" or i % 3 != 1 for i in range(len(net.edges))]
    _check(net, params, stats, x, widths, flags)


@settings(max_examples=3)
@given(st.data())
def test_slim_equals_masked_at_any_design(data: st.DataObject):
    widths = [data.draw(st.integers(1, c)) for c in CHANNELS]
    flags = [data.draw(st.booleans()) for _ in NET.edges]
    small, small_params = _check(NET, PARAMS, STATS, X, widths, flags)
    crossed = {edge.boundary for edge, flag in zip(NET.edges, flags, strict=True) if flag}
    names = {node.name for node in small.operations.nodes}
    for index, boundary in enumerate(NET.boundaries):
        paired = index in crossed and widths[index] < boundary.channels
        assert (f"{boundary.name}.reduce" in names) == paired
        if paired:
            kernel = small_params[f"{boundary.name}.reduce.kernel"]
            assert kernel.shape == (1, 1, boundary.channels, widths[index])


def test_slim_without_crossings_is_the_plain_network_in_size():
    small, params, _ = slim(NET, PARAMS, STATS, CHANNELS, [False] * len(NET.edges))
    plain = resnet_architecture(SPEC, input_shape=(8, 8, 2), classes=3)
    plain_params, _ = Functional.from_architecture(plain).init(jax.random.key(0))
    assert {k: v.shape for k, v in params.items()} == {k: v.shape for k, v in plain_params.items()}
    assert count_parameters(params) == count_parameters(plain_params)
    assert small.operations.nodes == plain.nodes


def test_slim_with_quantisers_predicts_the_same():
    net = _net(quantise=True)
    params, stats, _ = _random(net, 3)
    x = jnp.asarray(np.random.default_rng(4).normal(size=(200, 8, 8, 2)), jnp.float32)
    widths = [max(1, boundary.channels - 2) for boundary in net.boundaries]
    widths[1] = net.boundaries[1].channels
    flags = [True] * len(net.edges)
    w, c = jnp.asarray(widths, jnp.float32), jnp.ones(len(flags))
    stats = recalibrate(net, params, stats, [x], w, c)
    masked = _apply(net)(params, stats, x, w, c)
    small, small_params, small_stats = slim(net, params, stats, widths, flags)
    logits = _apply(small)(small_params, small_stats, x)
    assert np.mean(np.argmax(logits, 1) == np.argmax(masked, 1)) >= 0.99
    assert sum(node.op == "quantise" for node in small.operations.nodes) == len(net.boundaries)


def test_width_without_crossing_changes_nothing():
    c = jnp.zeros(len(NET.edges))
    one = APPLY(PARAMS, STATS, X, jnp.ones(len(CHANNELS)), c)[0]
    full = APPLY(PARAMS, STATS, X, jnp.asarray(CHANNELS, jnp.float32), c)[0]
    np.testing.assert_array_equal(one, full)


def test_recalibration_pools_batches_like_one_large_batch():
    w, c = jnp.asarray(CHANNELS, jnp.float32) - 1, jnp.ones(len(NET.edges))
    first = recalibrate(NET, PARAMS, STATS, [X[:2], X[2:]], w, c)
    whole = recalibrate(NET, PARAMS, STATS, [X], w, c)
    for part in ("mean", "var"):  # of the first norm, whose input no norm has touched
        np.testing.assert_allclose(
            first[f"stem.norm.{part}"], whole[f"stem.norm.{part}"], rtol=1e-5, atol=1e-6
        )
    again = recalibrate(NET, PARAMS, first, [X], w, c)
    for name, value in whole.items():  # what was stored before has no influence
        np.testing.assert_array_equal(value, again[name])


def test_recalibrated_batch_equals_batch_mode():
    w, c = jnp.asarray(CHANNELS, jnp.float32) - 1, jnp.ones(len(NET.edges))
    stats = recalibrate(NET, PARAMS, STATS, [X], w, c)
    batch = APPLY(PARAMS, STATS, X, w, c, mode="batch")[0]
    np.testing.assert_allclose(APPLY(PARAMS, stats, X, w, c)[0], batch, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("widths", "flags"),
    [
        ([0, *CHANNELS[1:]], [True] * len(NET.edges)),
        ([CHANNELS[0] + 1, *CHANNELS[1:]], [True] * len(NET.edges)),
        (CHANNELS[:-1], [True] * len(NET.edges)),
        (CHANNELS, [True]),
    ],
)
def test_impossible_designs_are_refused(widths: list[int], flags: list[bool]):
    with pytest.raises(InputError):
        check_design(NET.architecture, widths, flags)
