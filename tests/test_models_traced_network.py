"""Any network with bottlenecks: masked equals slim, each crossing matters, one source of shapes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from costs.errors import InputError
from costs.insitu import Bases
from models.functional import Flat, Functional
from models.insitu import list_in_situ, make_in_situ
from models.registry import build_network
from models.slim import recalibrate, slim
from models.trace import mark_boundary, workload_of
from models.traced_network import trace_architecture

SMALL = {
    "mlp": {"hidden": (12, 9)},
    "small_cnn": {"channels": (4, 6), "hidden": 8},
    "generated": {"channels": (4, 6), "hidden": 8},  # small_cnn, its kernels in situ
}
LARGE = {
    "vgg16_cifar": {"width_multiplier": 1 / 16},
    "densenet121": {"width_multiplier": 1 / 8},
    "mobilenet_v2": {"width_multiplier": 1 / 8},
    "mobilenet_v3_large": {"width_multiplier": 1 / 8, "resolution": "cifar"},
    "mobilenet_v3_small": {"width_multiplier": 1 / 8, "resolution": "cifar"},
}


class Odd(nnx.Module):
    """A norm that two layers read through, a dense join, a residual, dropout, a token mixer."""

    def __init__(self, *, input_shape=(8, 8, 1), classes=4, rngs: nnx.Rngs):
        self.stem = nnx.Conv(input_shape[2], 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.9, rngs=rngs)
        self.left = nnx.Conv(6, 5, (3, 3), strides=2, rngs=rngs)
        self.right = nnx.Conv(6, 5, (1, 1), strides=2, use_bias=False, rngs=rngs)
        self.dense = nnx.Conv(10, 5, (1, 3), rngs=rngs)
        self.dense_norm = nnx.BatchNorm(10, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.mix = nnx.Linear(5, 7, rngs=rngs)
        self.layer_norm = nnx.LayerNorm(7, rngs=rngs)
        self.head = nnx.Linear(7, classes, rngs=rngs)

    def __call__(self, x):
        x = mark_boundary(self.stem(x), "stem")
        x = nnx.relu(self.norm(x))
        a, b = mark_boundary(self.left(x), "left"), self.right(x)
        joined = jnp.concatenate([a, b], axis=-1)
        y = self.dense(nnx.swish(self.dense_norm(joined)))
        x = mark_boundary(nnx.relu(y + a), "sum.out")
        x = self.dropout(x.reshape(x.shape[0], -1, 5))
        x = mark_boundary(self.layer_norm(self.mix(x)), "tokens")
        return self.head(x).mean(1)


def _make(name: str, options: dict, rngs: nnx.Rngs) -> nnx.Module:
    if name == "odd":
        return Odd(rngs=rngs)
    if name == "generated":
        net = build_network("small_cnn", rngs=rngs, input_shape=(8, 8, 1), classes=4, **options)
        make_in_situ(net, Bases.parse("2-3-3-6-3"), rngs=rngs)
        assert len(list(list_in_situ(net))) == 2
        return net
    return build_network(name, rngs=rngs, input_shape=(8, 8, 1), classes=4, **options)


@functools.cache
def _net(name: str, quantise: bool = False) -> Functional:
    options = {**SMALL, **LARGE, "odd": {}}[name]
    architecture, _ = trace_architecture(
        lambda rngs: _make(name, options, rngs),
        name=name,
        input_shape=(8, 8, 1),
        quantise=quantise,
    )
    return Functional.from_architecture(architecture)


def _random(net: Functional, seed: int, dtype: Any = jnp.float32) -> tuple[Flat, Flat, jax.Array]:
    """Weights, statistics and pictures with no zero, one or equal values to hide behind."""
    rng = np.random.default_rng(seed)
    params, stats = net.init(jax.random.key(seed))
    params = {k: jnp.asarray(v + 0.1 * rng.normal(size=v.shape), dtype) for k, v in params.items()}
    stats = {k: jnp.asarray(v, dtype) for k, v in stats.items()}
    return params, stats, jnp.asarray(rng.normal(size=(8, 8, 8, 1)), dtype)


@functools.cache
def _apply(net: Functional, mode: str = "stored"):
    """Compiled without optimisation: many networks, each run once."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(lambda *a: net.apply(*a, mode=mode), compiler_options=options)  # pyright: ignore


def _widths(net: Functional, case: str, rng: np.random.Generator) -> list[int]:
    if case == "ones":
        return [1] * len(net.boundaries)
    return [int(rng.integers(1, b.channels + 1)) for b in net.boundaries]


def _masked_equals_slim(name: str, cases: tuple[str, ...], dtype: Any = jnp.float32) -> None:
    net = _net(name)
    params, stats, x = _random(net, 1, dtype)
    rng = np.random.default_rng(2)
    for case in cases:
        widths = _widths(net, case, rng)
        flags = [case != "mixed" or bool(rng.random() < 0.7) for _ in net.edges]
        w, c = jnp.asarray(widths, dtype), jnp.asarray(flags, dtype)
        _, measured = _apply(net, "batch")(params, stats, x, w, c)
        masked, _ = _apply(net)(params, measured, x, w, c)
        small, small_params, small_stats = slim(net, params, measured, widths, flags)
        logits, _ = _apply(small)(small_params, small_stats, x)
        assert logits.dtype == masked.dtype == dtype
        largest = max(1.0, float(jnp.max(jnp.abs(masked))))
        difference = float(jnp.max(jnp.abs(logits - masked)))
        print(f"{name}, {case}: {difference:.1e}, largest logit {largest:.2f}")
        assert difference <= 1e-5 * largest
        for index, boundary in enumerate(net.boundaries):
            kernel = small_params.get(f"bottlenecks.{boundary.name}.reduce.kernel")
            crossed = any(f and e.boundary == index for e, f in zip(net.edges, flags, strict=True))
            if crossed and widths[index] < boundary.channels:
                assert kernel is not None
                assert kernel.shape[-1] == widths[index]
            else:
                assert kernel is None


@pytest.mark.parametrize("name", [*SMALL, "odd"])
def test_masked_equals_slim(name):
    _masked_equals_slim(name, ("mixed", "ones"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_masked_equals_slim_in_every_large_network(name):
    """In float64; what float32 can tell is the next test."""
    with jax.enable_x64():
        _masked_equals_slim(name, ("mixed", "ones"), jnp.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_in_float32_slimming_is_no_further_from_the_exact_logits_than_the_masks_are(name):
    """Channels that hardly vary are divided by nearly zero: float32 itself is above the tolerance.

    Weights moved by half a unit in their last place change the exact logits by up to 239 times the
    tolerance, so that no order of summation can keep it.
    """
    net = _net(name)
    params, stats, x = _random(net, 1)
    rng = np.random.default_rng(2)
    for case in ("mixed", "ones"):
        widths = _widths(net, case, rng)
        flags = [case != "mixed" or bool(rng.random() < 0.7) for _ in net.edges]
        design = [jnp.asarray(part, jnp.float32) for part in (widths, flags)]
        _, measured = _apply(net, "batch")(params, stats, x, *design)
        masked, _ = _apply(net)(params, measured, x, *design)
        small, small_params, small_stats = slim(net, params, measured, widths, flags)
        logits, _ = _apply(small)(small_params, small_stats, x)
        with jax.enable_x64():
            arguments = jax.tree.map(
                lambda v: jnp.asarray(v, float), (params, measured, x, *design)
            )
            exact = np.asarray(_apply(net)(*arguments)[0])
        tolerance = 1e-5 * max(1.0, float(np.abs(exact).max()))
        slim_error, masked_error = (
            float(np.abs(np.asarray(found, float) - exact).max()) for found in (logits, masked)
        )
        print(f"{name}, {case}: slim {slim_error:.1e}, masked {masked_error:.1e}, {tolerance:.1e}")
        assert slim_error <= max(tolerance, 8 * masked_error)


def test_each_width_and_each_crossing_matters():
    net = _net("odd")
    params, stats, x = _random(net, 3)
    apply = _apply(net)
    full = jnp.asarray([float(b.channels) for b in net.boundaries])
    widths = full - 1
    everywhere = jnp.ones(len(net.edges))
    crossed = apply(params, stats, x, widths, everywhere)[0]
    for edge in range(len(net.edges)):
        one_fewer = apply(params, stats, x, widths, everywhere.at[edge].set(0.0))[0]
        assert float(jnp.max(jnp.abs(one_fewer - crossed))) > 1e-6, net.edges[edge]
    for index in range(len(net.boundaries)):
        narrower = apply(params, stats, x, widths.at[index].set(1.0), everywhere)[0]
        assert float(jnp.max(jnp.abs(narrower - crossed))) > 1e-6, net.boundaries[index]


def test_without_crossings_it_is_the_users_module():
    net = _net("odd")
    params, stats, x = _random(net, 4)
    body = net.network(params, stats).body  # pyright: ignore[reportAttributeAccessIssue]
    body.eval()
    expected = body(x)
    widths = jnp.ones(len(net.boundaries))
    nowhere = jnp.zeros(len(net.edges))
    np.testing.assert_allclose(
        _apply(net)(params, stats, x, widths, nowhere)[0], expected, rtol=0, atol=1e-5
    )


def test_readers_are_those_of_the_workload():
    net = _net("odd")
    workload = workload_of(net.abstract.traced, (8, 8, 1), pooling="fused")
    readers = {t.boundary: [workload.layers[c].name for c in t.consumers] for t in workload.tensors}
    for index, boundary in enumerate(net.boundaries):
        found = [edge.consumer for edge in net.edges if edge.boundary == index]
        assert found == readers[boundary.name]
    # stem is read by both branches through one norm; left by dense and by the residual within it
    assert [b.name for b in net.boundaries] == ["stem", "left", "sum.out", "tokens"]
    assert readers["stem"] == ["left", "right"]
    assert readers["left"] == ["dense"]
    assert [b.rectified for b in net.boundaries] == [False, False, True, False]


def test_recalibrated_batch_equals_batch_mode():
    net = _net("odd")
    params, stats, x = _random(net, 5)
    design = jnp.ones(len(net.boundaries)), jnp.ones(len(net.edges))
    used = {name: value + 3 for name, value in stats.items()}  # what was stored has no influence
    pooled = recalibrate(net, params, used, [x], *design)
    logits, measured = _apply(net, "batch")(params, stats, x, *design)
    for name, value in measured.items():
        np.testing.assert_allclose(pooled[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        _apply(net)(params, pooled, x, *design)[0], logits, rtol=0, atol=1e-4
    )


class Marked(nnx.Module):
    """Marks what its arguments say."""

    def __init__(self, *names: str, rngs: nnx.Rngs):
        self.names = names
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(3)])

    def __call__(self, x):
        if "raise" in self.names:
            raise RuntimeError("no such thing\nsecond line")
        for layer, name in zip(self.layers, (*self.names, "", "")[:3], strict=True):
            x = layer(x)
            x = mark_boundary(x, name) if name else x
        return x


@pytest.mark.parametrize(
    ("names", "bottlenecks", "message"),
    [
        (("a", "a"), "all", "two tensors are marked as one boundary"),
        (("a b",), "all", "name of a boundary"),
        (("a",), ["b"], "no such boundary"),
        (("a", "b", "c"), ["c"], "not handed on"),
        (("raise",), "all", "RuntimeError: no such thing"),
    ],
)
def test_marks_that_cannot_be_are_one_error(names, bottlenecks, message):
    with pytest.raises(InputError, match=message) as error:
        trace_architecture(
            lambda rngs: Marked(*names, rngs=rngs),
            name="mine",
            input_shape=(4,),
            bottlenecks=bottlenecks,
        )
    assert "\n" not in str(error.value)


def test_weights_and_pictures_may_be_of_less_precision_than_designs_and_statistics():
    """As `training.precision: bfloat16` calls it."""
    net = _net("odd")
    params, stats = jax.eval_shape(net.init, jax.random.key(6))
    x = jax.ShapeDtypeStruct((8, 8, 8, 1), jnp.float32)

    def loss(params: Flat, stats: Flat, x: jax.Array, widths: jax.Array, crossing: jax.Array):
        rounded = {name: value.astype(jnp.bfloat16) for name, value in params.items()}
        logits, _ = net.apply(rounded, stats, x.astype(jnp.bfloat16), widths, crossing, "batch")
        return jnp.sum(logits.astype(jnp.float32) ** 2)

    design = (
        jax.ShapeDtypeStruct((n,), jnp.float32) for n in (len(net.boundaries), len(net.edges))
    )
    found = jax.eval_shape(jax.grad(loss), params, stats, x, *design)
    assert found == params
