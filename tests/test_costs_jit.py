"""The cost under jit, vmap and grad: the same numbers as numpy's, and right gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from random_cases import random_case

from costs.conventions import Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.encode import encode_core, encode_layer, encode_mapping
from costs.evaluate import calc_cost, encode_many, window_limits
from costs.layer import Layer
from costs.mapping import Mapping

LAYER = Layer("l", K=6, C=5, P=7, Q=7, R=3, S=3, stride=(2, 2), padding=((1, 1), (1, 1)))
CORE = Core(
    "c",
    (
        MemoryLevel("dram", bandwidth=4.0, read_energy_pj=100.0, write_energy_pj=120.0),
        MemoryLevel(
            "buffer",
            read_bandwidth=8.0,
            write_bandwidth=6.0,
            read_energy_pj=6.0,
            write_energy_pj=7.0,
        ),
        MemoryLevel("register", ("W", "O"), read_energy_pj=0.5, replicated=("x", "y")),
    ),
    (Axis("x", 4), Axis("y", 4)),
    mac_energy_pj=0.5,
)
MAPPING = Mapping(
    (("P", 4), ("K", 2), ("Q", 7), ("C", 2), ("R", 3), ("P", 2), ("S", 3)),
    {
        "W": {"buffer": 0, "register": 6},
        "I": {"buffer": 2},
        "O": {"buffer": 2, "register": 6},
    },
    {"x": (("K", 3),), "y": (("C", 3),)},
)
CONVENTIONS = (
    Conventions(),
    Conventions(halo="exact", padding="skipped", drain_reads=True, first_read="counted", fill=True),
)


def encoded():
    return encode_layer(LAYER), encode_core(CORE, LAYER), encode_mapping(LAYER, CORE, MAPPING)


def assert_same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-14)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_jit_equals_eager_equals_numpy(conventions):
    limits = window_limits([LAYER])
    expected = calc_cost(*encoded(), conventions, np, limits)
    with jax.enable_x64(True):
        calc = functools.partial(calc_cost, conventions=conventions, xp=jnp, limits=limits)
        arguments = jax.tree.map(jnp.asarray, encoded())
        assert_same(jax.jit(calc)(*arguments), expected)
        if conventions == CONVENTIONS[0]:
            assert_same(calc(*arguments), expected)


@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_vmap_over_layers_cores_and_mappings_equals_one_by_one(conventions):
    rng = np.random.default_rng(6)
    cases = []
    while len(cases) < 12:
        case = random_case(rng)
        if len(case[1].levels) == 3 and len(case[1].axes) == 1:
            cases.append(case)
    limits = window_limits(layer for layer, _, _ in cases)
    arrays = encode_many(cases)
    expected = calc_cost(*arrays, conventions, np, limits)
    with jax.enable_x64(True):
        calc = functools.partial(calc_cost, conventions=conventions, xp=jnp, limits=limits)
        assert_same(jax.jit(jax.vmap(calc))(*jax.tree.map(jnp.asarray, arrays)), expected)


@pytest.mark.parametrize("number", [1, 16385, 32769, 40000])
def test_jit_of_a_large_batch_equals_numpy(number):
    """jax 0.10.2 gives wrong rows here, silently (jax-ml/jax#39103)."""
    layer, core, mapping = encoded()
    rng = np.random.default_rng(7)
    energies = rng.uniform(1.0, 200.0, (number, len(CORE.levels)))

    def total(xp, read_energy):
        cost = calc_cost(layer, core._replace(read_energy=read_energy), mapping, xp=xp)
        return xp.sum(xp.sum(cost.energy_pj, axis=-1), axis=-1)

    expected = np.array([total(np, row) for row in energies[:: max(1, number // 50)]])
    with jax.enable_x64(True):
        batch = jax.jit(jax.vmap(functools.partial(total, jnp)))(jnp.asarray(energies))
    found = np.asarray(batch)
    np.testing.assert_allclose(found[:: max(1, number // 50)], expected, rtol=1e-13)
    counts = calc_cost(layer, core, mapping).traffic.read_bits.sum(-1) / np.array(
        [level.width_bits for level in CORE.levels]
    )
    rest = total(np, np.zeros(len(CORE.levels)))
    np.testing.assert_allclose(found, energies @ counts + rest, rtol=1e-12)


@pytest.mark.parametrize("number", [1, 16385, 32769, 40000])
def test_vmapped_matrix_vector_products_equal_eager(number):
    """The pattern of jax-ml/jax#39103 itself: 7,232 of 40,000 rows were wrong with jax 0.10.2."""
    matrix = jnp.asarray(np.arange(9.0, dtype=np.float32).reshape(3, 3))
    vectors = jnp.ones((number, 3), jnp.float32) * 2

    def norm(vector):
        return jnp.sum((matrix @ vector) ** 2)

    found = jax.jit(jax.vmap(norm))(vectors)
    np.testing.assert_array_equal(np.asarray(found), np.full(number, float(norm(vectors[0]))))


def test_gradients_in_every_float():
    """Energies, bandwidths, widths, bits and the clock; an infinite bandwidth gives no NaN."""
    layer, core, mapping = encoded()

    def figures(floats):
        changed = core._replace(
            read_energy=floats["read_energy"],
            write_energy=floats["write_energy"],
            mac_energy=floats["mac_energy"],
            bandwidth=jnp.stack([floats["dram_bandwidth"], jnp.inf, 7.0]),
            leakage=floats["leakage"],
            clock=floats["clock"],
            width=floats["width"],
        )
        bits = layer._replace(bits=floats["bits"], bits_psum=floats["bits_psum"])
        cost = calc_cost(bits, changed, mapping, Conventions(fill=True), jnp)
        return (
            cost.energy_pj.sum() / 1e6 + cost.mac_energy_pj / 1e3,
            cost.cycles.total / 1e3,
            cost.leakage_pj.sum(),
            cost.io_bytes.sum() / 1e3,
        )

    with jax.enable_x64(True):
        floats = {
            "read_energy": jnp.asarray(core.read_energy),
            "write_energy": jnp.asarray(core.write_energy),
            "mac_energy": jnp.asarray(0.5),
            "dram_bandwidth": jnp.asarray(0.5),
            "leakage": jnp.asarray([1.0, 2.0, 3.0]),
            "clock": jnp.asarray(2.0),
            "width": jnp.asarray([8.0, 16.0, 8.0]),
            "bits": jnp.asarray([8.0, 6.0, 8.0]),
            "bits_psum": jnp.asarray(20.0),
        }
        check_grads(figures, (floats,), order=1, modes=("fwd", "rev"), rtol=1e-6)
        slopes = jax.jit(jax.grad(lambda f: sum(figures(f))))(floats)
    for name in ("read_energy", "mac_energy", "bits", "bits_psum", "width", "clock"):
        assert np.any(np.asarray(slopes[name]) != 0), name
    assert all(np.all(np.isfinite(np.asarray(slope))) for slope in slopes.values())
