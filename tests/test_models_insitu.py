"""Generated kernels: quantiser, factors, projection, storage of the paper, any network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from costs.insitu import Bases, Factors, choose_factors
from models.insitu import (
    InSituConv,
    calc_storage,
    factors_of,
    generate,
    list_in_situ,
    make_in_situ,
    open_bases,
)
from models.insitu_projection import (
    calc_orthogonality_loss,
    calc_projection_loss,
    calc_svd_factors,
)
from models.insitu_published import PUBLISHED, abstract_in_situ
from models.insitu_published import calc_storage as calc_named_storage
from models.insitu_quantise import calc_dorefa, invert_dorefa
from models.insitu_widths import BaseWidths
from models.registry import NETWORKS, abstract_network, build_network
from models.trace import workload_of

FREE = "32-32-32"


@given(bits=st.integers(2, 8), seed=st.integers(0, 20))
def test_quantiser_has_its_levels_evenly_about_zero(bits: int, seed: int) -> None:
    x = jnp.asarray(np.random.default_rng(seed).normal(size=(40,)), jnp.float32)
    q = np.asarray(calc_dorefa(x, bits))
    m = np.abs(np.tanh(x)).max()
    steps = (q + m) / (2 * m) * (2**bits - 1)
    np.testing.assert_allclose(steps, np.round(steps), atol=2e-3)
    assert np.abs(q).max() == pytest.approx(m, rel=1e-6)
    assert len(np.unique(np.round(steps))) <= 2**bits
    assert np.abs(q - np.tanh(x)).max() <= m / (2**bits - 1) * (1 + 1e-4)
    np.testing.assert_allclose(np.asarray(calc_dorefa(-x, bits)), -q, atol=1e-6)


def test_one_bit_is_the_sign_times_the_mean_magnitude() -> None:
    x = jnp.array([-3.0, 0.5, 1.0, -1.5])
    np.testing.assert_allclose(calc_dorefa(x, 1), [-1.5, 1.5, 1.5, -1.5])
    np.testing.assert_array_equal(jax.grad(lambda v: calc_dorefa(v, 1).sum())(x), np.ones(4))


def test_gradient_passes_straight_through_to_tanh() -> None:
    x = jnp.linspace(-2.0, 2.0, 9)
    got = jax.grad(lambda v: jnp.sum(calc_dorefa(v, 3)))(x)
    np.testing.assert_allclose(got, 1 - np.tanh(x) ** 2, rtol=1e-5)


def test_unquantised_values_are_left_alone_and_inversion_inverts() -> None:
    x = jnp.linspace(-0.9, 0.9, 7)
    assert calc_dorefa(x, 32) is x
    np.testing.assert_allclose(jnp.tanh(invert_dorefa(x, 8)), x, rtol=1e-6)


def test_what_is_not_stored_sets_no_scale() -> None:
    x, where = jnp.array([0.1, -0.2, 5.0]), jnp.array([1.0, 1.0, 0.0])
    for bits in (1, 4):
        np.testing.assert_allclose(calc_dorefa(x, bits, where)[:2], calc_dorefa(x[:2], bits))


def random_kernel(outputs: int, inputs: int, taps: int = 9, seed: int = 0) -> jax.Array:
    return 0.1 * jax.random.normal(jax.random.key(seed), (taps, inputs, outputs))


def made(outputs: int, inputs: int, spec: str, taps: int = 9) -> Factors:
    factors = choose_factors(outputs, inputs, taps, 1, Bases.parse(spec))
    assert factors is not None
    return factors


def test_kernel_is_the_product_of_its_factors() -> None:
    factors = made(12, 10, f"2-5-{FREE}")
    rng = np.random.default_rng(0)
    b, u, v = (rng.normal(size=shape) for shape in factors.shapes if shape)
    arrays = {"basis": b, "coefficients": u, "mixing": v}
    kernel = generate(factors, {name: jnp.asarray(a) for name, a in arrays.items()})
    for o, c, t in ((0, 0, 0), (11, 9, 8), (3, 7, 4)):
        wanted = sum(v[o, n] * u[n, c] @ b[n, :, t] for n in range(5))
        assert float(kernel[t, c, o]) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("mixed", [True, False])
def test_full_rank_reproduces_any_kernel(mixed: bool) -> None:
    """Bi = min(Ci, k^2) and Bc = min(Co, Ci k^2) lose nothing."""
    outputs, inputs, taps = 6, 5, 9
    rank, kernels = min(inputs, taps), outputs
    factors = Factors(
        (kernels, rank, taps),
        (kernels, inputs, rank),
        (outputs, kernels) if mixed else None,
        Bases.parse(f"{rank}-{kernels}-{FREE}"),
    )
    kernel = random_kernel(outputs, inputs)
    arrays = calc_svd_factors(kernel, factors)
    np.testing.assert_allclose(generate(factors, arrays), kernel, atol=2e-6)


def test_more_bases_project_better_and_truncation_is_optimal_inside_kernels() -> None:
    kernel = random_kernel(8, 12)
    singular = np.linalg.svd(np.transpose(np.asarray(kernel), (2, 1, 0)), compute_uv=False)
    for rank in (1, 2, 4, 8):
        factors = made(8, 12, f"{rank}-999-{FREE}")
        loss = float(calc_projection_loss(kernel, factors, calc_svd_factors(kernel, factors)))
        wanted = (singular[:, rank:] ** 2).sum() / (singular**2).sum()
        assert loss == pytest.approx(wanted, rel=1e-3)


def test_nobody_projects_better_than_truncation_inside_kernels() -> None:
    factors, kernel = made(4, 6, f"2-999-{FREE}"), random_kernel(4, 6)
    arrays = calc_svd_factors(kernel, factors)
    least = float(calc_projection_loss(kernel, factors, arrays))
    keys = jax.random.split(jax.random.key(1), 20)
    for key in keys:
        moved = {n: a + 0.02 * jax.random.normal(key, a.shape) for n, a in arrays.items()}
        assert float(calc_projection_loss(kernel, factors, moved)) > least


def test_truncated_factors_are_orthogonal() -> None:
    factors, kernel = made(12, 10, f"3-6-{FREE}"), random_kernel(12, 10)
    arrays = calc_svd_factors(kernel, factors)
    assert float(calc_orthogonality_loss(factors, arrays)) < 1e-8
    alike = {**arrays, "mixing": jnp.ones_like(arrays["mixing"])}
    assert float(calc_orthogonality_loss(factors, alike)) == pytest.approx(6 * 5, rel=1e-4)


def test_gradients_of_projection_and_orthogonality() -> None:
    with jax.enable_x64(True):
        factors, kernel = (
            made(6, 5, f"2-3-{FREE}"),
            jnp.asarray(np.asarray(random_kernel(6, 5)), float),
        )
        arrays = {n: a + 0.1 for n, a in calc_svd_factors(kernel, factors).items()}
        check_grads(lambda a: calc_projection_loss(kernel, factors, a), (arrays,), 1, ["rev"])
        check_grads(lambda a: calc_orthogonality_loss(factors, a), (arrays,), 1, ["rev"])


def test_closed_bases_can_be_removed() -> None:
    factors, kernel = made(12, 10, "3-6-3-6-3"), random_kernel(12, 10)
    arrays, widths = calc_svd_factors(kernel, factors), BaseWidths(factors)
    masks = (jnp.array([1.0, 1.0, 0.0]), (jnp.arange(6) < 4).astype(jnp.float32))
    smaller, cut = widths.cut(arrays, (2, 4))
    np.testing.assert_allclose(generate(factors, arrays, masks), generate(smaller, cut), atol=1e-6)
    assert float(widths.calc_bits(masks)) == smaller.stored_bits
    assert smaller.words == made(12, 10, "2-4-3-6-3").words


def test_drawn_widths_have_the_relaxed_mean_and_a_gradient() -> None:
    widths = BaseWidths(made(12, 10, "3-6-3-6-3"))
    keys = jax.random.split(jax.random.key(0), 400)
    relaxed = jnp.array([1.25, 3.5])

    def mean_bits(relaxed: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(lambda k: widths.calc_bits(widths.sample(relaxed, k)))(keys))

    masks = jax.vmap(lambda k: widths.sample(relaxed, k))(keys)
    assert masks[0] is not None
    assert masks[1] is not None
    assert float(masks[0].sum(1).mean()) == pytest.approx(1.25, abs=0.07)
    assert float(masks[1].sum(1).mean()) == pytest.approx(3.5, abs=0.08)
    assert np.isin(np.asarray(masks[1]), (0.0, 1.0)).all()
    gradient = jax.grad(mean_bits)(relaxed)
    # kernels (9 qb + Ci qu) of one more base inside, (Bi (9 qb + Ci qu) + Co qv) of one more across
    assert float(gradient[0]) == pytest.approx(3.5 * (9 * 3 + 10 * 6), rel=0.05)
    assert float(gradient[1]) == pytest.approx(1.25 * (9 * 3 + 10 * 6) + 12 * 3, rel=0.05)


@pytest.mark.parametrize("cell", [c for c in PUBLISHED if c.network == "resnet18"], ids=str)
def test_storage_of_resnet18_is_the_published_one(cell) -> None:
    check_cell(cell)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [c for c in PUBLISHED if c.network != "resnet18"], ids=str)
def test_storage_of_larger_networks_is_the_published_one(cell) -> None:
    check_cell(cell)


def check_cell(cell) -> None:
    storage = calc_named_storage(cell.network, Bases.parse(cell.bases), classes=cell.classes)
    assert storage.memory_ratio == pytest.approx(cell.memory_ratio, abs=1e-4)
    if cell.parameter_ratio is not None:
        assert storage.parameter_ratio == pytest.approx(cell.parameter_ratio, abs=1e-4)


def test_parts_of_resnet18_are_those_counted_by_hand() -> None:
    """papers.md, B: 555,520 words, 350.0 KiB of 43,648.25."""
    storage = calc_named_storage("resnet18", Bases.parse("2-44-3-6-3"), classes=10)
    assert storage.words == {
        "B": 33_536, "U": 298_880, "V": 208_384, "dense": 0, "linear": 5_120, "other": 9_600,
    }  # fmt: skip
    assert sum(storage.bits.values()) / 8 / 1024 == pytest.approx(350.0, abs=0.05)
    assert storage.dense_words * 4 / 1024 == 43_648.25


class Own(nnx.Module):
    """A user's network: a list, a shared convolution, groups, dilation, a bias."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(3, 16, (3, 3), rngs=rngs)
        self.convs = nnx.List([nnx.Conv(16, 16, (3, 3), kernel_dilation=2, rngs=rngs)])
        self.again = self.convs[0]
        self.deep = nnx.Conv(16, 16, (3, 3), feature_group_count=16, rngs=rngs)
        self.point = nnx.Conv(16, 24, (1, 1), strides=2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.again(self.convs[0](self.stem(x)))
        return self.point(self.deep(x)).mean((1, 2))


def test_any_network_takes_generated_convolutions() -> None:
    net = Own(rngs=nnx.Rngs(0))
    plain = workload_of(net, (8, 8, 3))
    make_in_situ(net, Bases.parse("2-6-3-6-3"), rngs=nnx.Rngs(1))
    assert net.again is net.convs[0]
    assert {path for path, _ in list_in_situ(net)} >= {"stem", "deep", "point"}
    assert isinstance(net.point, nnx.Conv)
    traced = workload_of(net, (8, 8, 3))
    assert [layer.macs for layer in traced.layers] == [layer.macs for layer in plain.layers]
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    twin = nnx.Conv(16, 24, (1, 1), strides=2, rngs=nnx.Rngs(0))
    assert twin.bias is not None
    assert net.point.bias is not None
    twin.kernel[...], twin.bias[...] = net.point.kernel, net.point.bias[...]
    y = jax.random.normal(jax.random.key(1), (2, 8, 8, 16))
    np.testing.assert_allclose(net.point(y), twin(y), atol=1e-6)
    assert net(x).shape == (2, 24)


QUICK = ("small_cnn", "cifar_resnet8")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in NETWORKS
        if name != "mlp"  # has no convolution
    ],
)
def test_every_convolution_of_the_zoo_is_exchangeable(name: str) -> None:
    """Each that the bases make smaller is generated; layers, their names and MACs stay."""
    shape, bases = NETWORKS[name].input_shape, Bases.parse("2-12-3-6-3")
    assert shape is not None
    dense, generated = abstract_network(name), abstract_in_situ(name, bases)
    expected = {
        ".".join(map(str, path))
        for path, module in nnx.iter_modules(dense)
        if isinstance(module, nnx.Conv) and factors_of(module, bases) is not None
    }
    assert {path for path, _ in list_in_situ(generated)} == expected != set()
    before, after = workload_of(dense, shape), workload_of(generated, shape)
    assert [(k.name, k.macs) for k in after.layers] == [(k.name, k.macs) for k in before.layers]
    assert [t.consumers for t in after.tensors] == [t.consumers for t in before.tensors]
    assert expected <= {layer.name for layer in after.layers}
    storage = calc_storage(generated, bases)
    assert storage.memory_ratio < storage.parameter_ratio < 1.0


def test_generated_kernels_start_at_the_scale_of_dense_ones() -> None:
    net = Own(rngs=nnx.Rngs(0))
    make_in_situ(net, Bases.parse("2-6-32-32-32"), rngs=nnx.Rngs(1))
    for _, conv in list_in_situ(net):
        fan_in = np.prod(conv.kernel_shape[:-1])
        assert 0.4 < float(jnp.std(conv.kernel)) * np.sqrt(fan_in / 2) < 2.2


def test_open_bases_reach_every_convolution_and_only_this_network() -> None:
    net = build_network("small_cnn", rngs=nnx.Rngs(0), input_shape=(8, 8, 1))
    make_in_situ(net, Bases.parse("2-8-32-32-32"), rngs=nnx.Rngs(1))
    before = {path: conv.kernel for path, conv in list_in_situ(net)}
    masks = {}
    for path, conv in list_in_situ(net):
        intra, cross = BaseWidths(conv.factors).largest
        masks[path] = (jnp.ones(intra).at[1:].set(0.0), jnp.ones(cross).at[1:].set(0.0))
    copy = nnx.clone(net)
    open_bases(copy, masks)
    for path, conv in list_in_situ(copy):
        rows = np.asarray(conv.kernel).reshape(-1, conv.kernel_shape[-1])
        assert np.linalg.matrix_rank(rows, tol=1e-5) == 1
        np.testing.assert_array_equal(before[path], dict(list_in_situ(net))[path].kernel)


def test_calc_storage_of_a_dense_network_is_all_of_it() -> None:
    net = Own(rngs=nnx.Rngs(0))
    storage = calc_storage(net, Bases.parse("2-6-32-32-32"))
    assert storage.parameter_ratio == storage.memory_ratio == 1.0
    assert not any(isinstance(m, InSituConv) for _, m in nnx.iter_modules(net))
