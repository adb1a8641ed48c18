"""Tracing: edges, names, and what is refused."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from costs.errors import InputError
from models.trace import mark_boundary, workload_of


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


class Residual(nnx.Module):
    """A stem, then a block whose output is added to its input, then a head."""

    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.convs = nnx.List([nnx.Conv(4, 4, (3, 3), rngs=rngs) for _ in range(2)])
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x)))
        y = x
        for conv in self.convs:
            y = nnx.silu(conv(y))
        x = mark_boundary(x + y, "block.out")
        return self.head(self.drop(jnp.mean(nnx.max_pool(x, (2, 2), (2, 2)), (1, 2))))


def _residual(**options):
    return workload_of(nnx.eval_shape(lambda: Residual(nnx.Rngs(0))), (8, 8, 3), **options)


def _edges(workload):
    names = [layer.name for layer in workload.layers]
    return [
        (t.name, [names[c] for c in t.consumers], [names[c] for c in t.fused])
        for t in workload.tensors
    ]


def test_a_residual_connection_is_one_more_consumer():
    workload = _residual()
    assert _edges(workload) == [
        ("input", ["stem"], []),
        ("stem", ["convs.0", "convs.1"], ["convs.1"]),
        ("convs.0", ["convs.1"], []),
        ("convs.1", ["pool1"], []),
        ("pool1", ["pool2"], []),
        ("pool2", ["head"], []),
        ("head", [], []),
    ]
    assert [t.boundary for t in workload.tensors] == [None, None, None, "block.out", *[None] * 3]


def test_pooling_can_be_fused_and_additions_can_be_layers():
    fused = _residual(pooling="fused")
    assert [layer.name for layer in fused.layers] == ["stem", "convs.0", "convs.1", "head"]
    assert fused.tensors[3].shape == (1, 1, 4)
    assert fused.tensors[3].boundary is None  # what was marked is no longer what is handed on
    priced = _residual(elementwise="layers")
    add = priced.layers[priced.index("add1")]
    assert (add.kind, add.K, add.C, add.P, add.Q) == ("elementwise", 4, 8, 8, 8)
    assert priced.macs == fused.macs == _residual().macs


def test_bits_and_batch_reach_every_layer():
    workload = _residual(batch=4, weight_bits=3, activation_bits=5, psum_bits=17)
    for layer in workload.layers:
        assert (layer.N, layer.bits_w, layer.bits_i, layer.bits_o, layer.bits_psum) == (
            4,
            3,
            5,
            5,
            17,
        )
    assert {t.bits for t in workload.tensors} == {5}
    assert workload.macs == 4 * _residual().macs
    assert workload.tensors[0].elements == 192


def test_dense_connections_read_every_part():
    class Dense(nnx.Module):
        def __init__(self, rngs):
            self.convs = nnx.List([nnx.Conv(3 + 2 * i, 2, (3, 3), rngs=rngs) for i in range(3)])
            self.norms = nnx.List([nnx.BatchNorm(3 + 2 * i, rngs=rngs) for i in range(3)])

        def __call__(self, x):
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = jnp.concatenate([x, conv(nnx.relu(norm(x)))], -1)
            return jnp.mean(x, (1, 2))

    workload = workload_of(nnx.eval_shape(lambda: Dense(nnx.Rngs(0))), (4, 4, 3))
    assert [(t.name, t.consumers) for t in workload.tensors[:4]] == [
        ("input", (0, 1, 2, 3)),
        ("convs.0", (1, 2, 3)),
        ("convs.1", (2, 3)),
        ("convs.2", (3,)),
    ]
    for index, layer in enumerate(workload.layers):
        read = sum(workload.tensors[t].shape[2] for t in workload.inputs_of(index))
        assert read == layer.C


def test_a_gate_is_read_beside_the_map_it_scales():
    class Gated(nnx.Module):
        def __init__(self, rngs):
            self.a = nnx.Conv(3, 6, (3, 3), rngs=rngs)
            self.gate = nnx.Linear(6, 6, rngs=rngs)
            self.b = nnx.Conv(6, 2, (1, 1), rngs=rngs)

        def __call__(self, x):
            x = self.a(x)
            gate = nnx.sigmoid(self.gate(jnp.mean(x, (1, 2), keepdims=True)))
            return self.b(x * gate)

    workload = workload_of(nnx.eval_shape(lambda: Gated(nnx.Rngs(0))), (4, 4, 3))
    assert _edges(workload)[1:4] == [
        ("a", ["pool1", "b"], []),
        ("pool1", ["gate"], []),
        ("gate", ["b"], []),
    ]


def test_disjoint_halves_are_two_tensors_and_overlapping_ones_are_one():
    def halves(x, overlap):
        y = x @ jnp.ones((4, 6))
        return (y[..., : 3 + overlap] @ jnp.ones((3 + overlap, 2))) + y[..., 3:] @ jnp.ones((3, 2))

    apart = workload_of(lambda x: halves(x, 0), (4,))
    assert [t.shape for t in apart.tensors if t.producer == 0] == [(1, 1, 3), (1, 1, 3)]
    assert [t.consumers for t in apart.tensors if t.producer == 0] == [(1,), (2,)]
    together = workload_of(lambda x: halves(x, 1), (4,))
    assert [t.consumers for t in together.tensors if t.producer == 0] == [(1, 2)]


def test_attention_multiplies_activations_in_groups():
    net = nnx.eval_shape(lambda: nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)))
    workload = workload_of(net, (5, 8), batch=3)
    products = sorted(workload.dynamic_weights)
    assert len(products) == 2
    scores, mixed = (workload.layers[i] for i in products)
    assert (scores.groups, scores.P, scores.K // 6, scores.C // 6) == (6, 5, 5, 4)
    # which of the two is called the weights is einsum's choice
    assert (mixed.groups, {mixed.P, mixed.K // 6}, mixed.C // 6) == (6, {4, 5}, 5)
    assert workload.macs == 3 * (4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4)
    assert sum(workload.weight_bytes) == 4 * 8 * 8
    assert {layer.name for layer in workload.layers} >= {"query", "key", "value", "out"}


def test_calls_and_loops_are_read_through():
    weights = jnp.ones((3, 4, 4))

    @jax.jit
    def step(x, w):
        return jax.checkpoint(lambda y: jax.nn.relu(y @ w))(x), None

    def looped(x):
        return jax.lax.scan(step, x, weights)[0]

    workload = workload_of(looped, (4,))
    assert [layer.name for layer in workload.layers] == ["linear1", "linear2", "linear3"]
    assert workload.macs == 48


def test_layers_that_reach_no_output_are_dropped():
    def net(x):
        _ = x @ jnp.ones((4, 5))
        return x @ jnp.ones((4, 3))

    assert workload_of(net, (4,)).macs == 12


def test_generated_weights_cost_nothing_and_name_their_module():
    class Generated(nnx.Module):
        def __init__(self, rngs):
            self.basis = nnx.Param(jnp.ones((2, 9)))
            self.mix = nnx.Param(jnp.ones((6, 2)))

        def __call__(self, x):
            kernel = (self.mix[...] @ self.basis[...]).reshape(3, 3, 3, 2)
            return jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

    workload = _one(Generated, (5, 5, 3))
    assert [layer.name for layer in workload.layers] == ["it"]
    assert workload.macs == 25 * 9 * 3 * 2


def test_weights_of_one_module_name_their_layers_and_scopes_name_poolings():
    class Two(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Param(jnp.ones((3, 4)))
            self.second = nnx.Param(jnp.ones((4, 5)))

        def __call__(self, x):
            with jax.named_scope("squeeze"):
                x = jnp.mean(x, (1, 2))
            return x @ self.first[...] @ self.second[...]

    names = [layer.name for layer in _one(Two, (4, 4, 3)).layers]
    assert names == ["it.squeeze", "it.first", "it.second"]


def test_a_network_is_left_as_it_was():
    net = Residual(nnx.Rngs(0))
    before = type(net), type(net.stem), net.drop.deterministic
    expected = workload_of(net, (8, 8, 3))
    assert (type(net), type(net.stem), net.drop.deterministic) == before
    assert expected == _residual()


def test_an_unknown_primitive_is_named_with_its_module():
    class Sorts(nnx.Module):
        def __call__(self, x):
            return jnp.sort(x)

    with pytest.raises(InputError, match=r"module it: primitive 'sort' is not understood"):
        _one(lambda rngs: Sorts(), (4,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch"),
        ({"pooling": "none"}, "layers, fused"),
        ({"elementwise": 1}, "fused, layers"),
        ({"input_shape": (0, 8, 3)}, r"input_shape\[0\]"),
        ({"input_shape": (8, 8, 4)}, "cannot be applied"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        workload_of(
            nnx.eval_shape(lambda: Residual(nnx.Rngs(0))), **({"input_shape": (8, 8, 3)} | options)
        )


def test_a_network_without_layers_is_refused():
    with pytest.raises(InputError, match="no layer"):
        workload_of(lambda x: x + 1, (4,))
    with pytest.raises(InputError, match="3 axes"):
        _one(_conv(3, 4, (2, 2, 2)), (4, 4, 4, 3))
