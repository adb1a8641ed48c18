"""Any network with bottlenecks: masked equals slim, each crossing matters, one source of shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from costs.errors import InputError
from models.functional import Flat, Functional
from models.registry import build_network
from models.slim import recalibrate, slim
from models.trace import mark_boundary, workload_of
from models.traced_network import trace_architecture

SMALL = {
    "mlp": {"hidden": (12, 9)},
    "small_cnn": {"channels": (4, 6), "hidden": 8},
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


def _random(net: Functional, seed: int) -> tuple[Flat, Flat, jax.Array]:
    """Weights, statistics and pictures with no zero, one or equal values to hide behind."""
    rng = np.random.default_rng(seed)
    params, stats = net.init(jax.random.key(seed))
    params = {k: v + 0.1 * rng.normal(size=v.shape).astype("f") for k, v in params.items()}
    return params, stats, jnp.asarray(rng.normal(size=(8, 8, 8, 1)), jnp.float32)


@functools.cache
def _apply(net: Functional, mode: str = "stored"):
    """Compiled without optimisation: many networks, each run once."""
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(lambda *a: net.apply(*a, mode=mode), compiler_options=options)  # pyright: ignore


def _widths(net: Functional, case: str, rng: np.random.Generator) -> list[int]:
    if case == "ones":
        return [1] * len(net.boundaries)
    return [int(rng.integers(1, b.channels + 1)) for b in net.boundaries]


def _masked_equals_slim(name: str, cases: tuple[str, ...]) -> None:
    net = _net(name)
    params, stats, x = _random(net, 1)
    rng = np.random.default_rng(2)
    for case in cases:
        widths = _widths(net, case, rng)
        flags = [case != "mixed" or bool(rng.random() < 0.7) for _ in net.edges]
        w, c = jnp.asarray(widths, jnp.float32), jnp.asarray(flags, jnp.float32)
        _, measured = _apply(net, "batch")(params, stats, x, w, c)
        masked, _ = _apply(net)(params, measured, x, w, c)
        small, small_params, small_stats = slim(net, params, measured, widths, flags)
        logits, _ = _apply(small)(small_params, small_stats, x)
        tolerance = 1e-5 * max(1.0, float(jnp.max(jnp.abs(masked))))
        np.testing.assert_allclose(logits, masked, rtol=0, atol=tolerance)
        for index, boundary in enumerate(net.boundaries):
            kernel = small_params.get(f"bottlenecks.{boundary.name}.reduce.kernel")
            crossed = any(f and e.boundary == index for e, f in zip(net.edges, flags, strict=True))
            if crossed and widths[index] < boundary.channels:
                assert kernel is not None and kernel.shape[-1] == widths[index]
            else:
                assert kernel is None


@pytest.mark.parametrize("name", [*SMALL, "odd"])
def test_masked_equals_slim(name):
    _masked_equals_slim(name, ("mixed", "ones"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_masked_equals_slim_in_every_large_network(name):
    _masked_equals_slim(name, ("mixed", "ones"))
