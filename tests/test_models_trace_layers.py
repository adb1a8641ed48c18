"""Tracing: the layers of odd networks are exact."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from costs.layer import Layer
from models.trace import workload_of


class One(nnx.Module):
    """A single module, named `it`."""

    def __init__(self, it):
        self.it = it

    def __call__(self, x):
        return self.it(x)


def _one(make, shape, **options):
    net = nnx.eval_shape(lambda: One(make(nnx.Rngs(0))))
    return workload_of(net, shape, **options)


def _conv(cin, cout, kernel, **options):
    return lambda rngs: nnx.Conv(cin, cout, kernel, rngs=rngs, **options)


ODD = {
    "stride 3, valid": (
        _conv(3, 5, (3, 3), strides=3, padding="VALID"),
        (17, 20, 3),
        Layer("it", K=5, C=3, P=5, Q=6, R=3, S=3, stride=(3, 3), input_size=(17, 20)),
    ),
    "stride 3, same": (
        _conv(3, 5, (5, 5), strides=3),
        (17, 20, 3),
        Layer(
            *("it", 1, 5, 3, 6, 7, 5, 5, (3, 3), (1, 1), 1, ((1, 2), (1, 2))), input_size=(17, 20)
        ),
    ),
    "groups": (
        _conv(6, 9, (3, 3), feature_group_count=3),
        (7, 7, 6),
        Layer(*("it", 1, 9, 6, 7, 7, 3, 3, (1, 1), (1, 1), 3, ((1, 1), (1, 1))), input_size=(7, 7)),
    ),
    "depthwise, dilated": (
        _conv(4, 4, (3, 3), feature_group_count=4, kernel_dilation=2),
        (9, 9, 4),
        Layer(*("it", 1, 4, 4, 9, 9, 3, 3, (1, 1), (2, 2), 4, ((2, 2), (2, 2))), input_size=(9, 9)),
    ),
    "non-square kernel and dilation": (
        _conv(3, 2, (1, 7), kernel_dilation=(1, 3), padding="VALID"),
        (4, 30, 3),
        Layer("it", K=2, C=3, P=4, Q=12, R=1, S=7, dilation=(1, 3), input_size=(4, 30)),
    ),
    "non-square strides": (
        _conv(3, 1, (5, 2), strides=(2, 3), padding="VALID"),
        (11, 11, 3),
        Layer("it", K=1, C=3, P=4, Q=4, R=5, S=2, stride=(2, 3), input_size=(11, 11)),
    ),
    "width 1": (
        _conv(3, 8, (3, 1), padding="VALID"),
        (12, 1, 3),
        Layer("it", K=8, C=3, P=10, Q=1, R=3, S=1, input_size=(12, 1)),
    ),
    "one dimension": (
        _conv(3, 7, (4,), strides=2, padding="VALID"),
        (13, 3),
        Layer("it", K=7, C=3, P=5, Q=1, R=4, S=1, stride=(2, 1), input_size=(13, 1)),
    ),
    "one in, one out": (
        _conv(1, 1, (2, 2)),
        (5, 3, 1),
        Layer(*("it", 1, 1, 1, 5, 3, 2, 2, (1, 1), (1, 1), 1, ((0, 1), (0, 1))), input_size=(5, 3)),
    ),
    "linear": (
        lambda rngs: nnx.Linear(13, 1, rngs=rngs),
        (13,),
        Layer("it", K=1, C=13),
    ),
    "linear at positions": (
        lambda rngs: nnx.Linear(3, 11, rngs=rngs),
        (5, 7, 3),
        Layer("it", K=11, C=3, P=5, Q=7),
    ),
    "linear over a sequence": (
        lambda rngs: nnx.Linear(3, 11, rngs=rngs),
        (5, 3),
        Layer("it", K=11, C=3, P=5),
    ),
    "transposed": (
        lambda rngs: nnx.ConvTranspose(3, 4, (4, 4), strides=(2, 2), rngs=rngs),
        (5, 6, 3),
        Layer(
            *("it", 1, 16, 3, 5, 6, 2, 2, (1, 1), (1, 1), 1, ((0, 1), (0, 1))), input_size=(5, 6)
        ),
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_networks_are_read_exactly(case):
    make, shape, expected = ODD[case]
    workload = _one(make, shape)
    assert workload.layers == (expected,)
    assert workload.tensors[0].elements == int(jnp.prod(jnp.array(shape)))
    sizes = [
        leaf.size
        for leaf in jax.tree.leaves(nnx.state(nnx.eval_shape(lambda: make(nnx.Rngs(0))), nnx.Param))
        if leaf.ndim > 1
    ]
    assert workload.layers[0].words("W") == sum(sizes)


@given(
    size=st.tuples(st.integers(3, 12), st.integers(3, 12)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    groups=st.integers(1, 3),
    batch=st.integers(1, 3),
    padding=st.sampled_from(["SAME", "VALID"]),
)
def test_output_words_and_macs_are_those_of_the_arrays(
    size, kernel, stride, groups, batch, padding
):
    make = _conv(
        2 * groups, groups, kernel, strides=stride, padding=padding, feature_group_count=groups
    )
    net = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    x = jax.ShapeDtypeStruct((batch, *size, 2 * groups), jnp.float32)
    result = nnx.eval_shape(lambda m, v: m(v), net, x)
    (layer,) = workload_of(net, x.shape[1:], batch=batch).layers
    assert layer.words("O") == result.size
    assert layer.words("I") == x.size
    assert layer.macs == result.size * 2 * kernel[0] * kernel[1]


def test_a_separate_padding_belongs_to_the_layer():
    def net(x):
        x = jnp.pad(x, ((0, 0), (1, 2), (3, 0), (0, 0)))
        return jax.lax.conv_general_dilated(
            x, jnp.ones((3, 3, 2, 4)), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    (layer,) = workload_of(net, (6, 6, 2)).layers
    assert layer.padding == ((1, 2), (3, 0))
    assert layer.input_size == (6, 6)
    assert layer.words("I") == 72


def test_channels_first_is_read_by_its_axes():
    def net(x):
        y = jax.lax.conv(x, jnp.ones((5, 3, 2, 4)), (1, 1), "VALID")
        return jnp.mean(y, (2, 3))

    workload = workload_of(net, (3, 9, 8), batch=2)
    conv, pool = workload.layers
    assert (conv.N, conv.C, conv.K, conv.P, conv.Q, conv.R, conv.S) == (2, 3, 5, 8, 5, 2, 4)
    assert (pool.K, pool.R, pool.S, pool.P, pool.Q) == (5, 8, 5, 1, 1)
