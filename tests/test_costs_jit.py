"""The cost under jit, vmap and grad: the same numbers as numpy's, and right gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from random_cases import random_case

from costs.conventions import ZIGZAG, Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.counts import calc_counts
from costs.encode import encode_core, encode_layer, encode_mapping
from costs.energy import calc_energy_pj, calc_traffic
from costs.evaluate import calc_cost, encode_many, window_limits
from costs.latency import calc_cycles
from costs.layer import Layer
from costs.mapping import Mapping
from costs.tiles import calc_tiles

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
    ZIGZAG,
)


def encoded():
    return encode_layer(LAYER), encode_core(CORE, LAYER), encode_mapping(LAYER, CORE, MAPPING)


def assert_same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-14)


def test_jit_equals_numpy():
    expected = calc_cost(*encoded())
    with jax.enable_x64(True):
        calc = functools.partial(calc_cost, xp=jnp)
        assert_same(jax.jit(calc)(*jax.tree.map(jnp.asarray, encoded())), expected)


@pytest.mark.slow
def test_eager_equals_numpy():
    """Compiles operation by operation, which takes longer than the whole under jit."""
    expected = calc_cost(*encoded())
    with jax.enable_x64(True):
        assert_same(calc_cost(*jax.tree.map(jnp.asarray, encoded()), xp=jnp), expected)


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


FLOATS = {
    "read_energy": np.array([100.0, 6.0, 0.5]),
    "write_energy": np.array([120.0, 7.0, 0.25]),
    "mac_energy": np.array(0.5),
    "dram_bandwidth": np.array(0.5),
    "leakage": np.array([1.0, 2.0, 3.0]),
    "clock": np.array(2e12),
    "width": np.array([8.0, 16.0, 8.0]),
    "bits": np.array([8.0, 6.0, 8.0]),
    "bits_psum": np.array(20.0),
}


def figure(layer, core, mapping, floats, xp):
    """A sum of every figure, of order one; the buffer's bandwidth is infinite."""
    bandwidth = [floats["dram_bandwidth"], xp.asarray(np.inf), xp.asarray(7.0)]
    changed = core._replace(
        bandwidth=xp.stack(bandwidth),
        **{key: floats[key] for key in core._fields if key in floats},
    )
    bits = layer._replace(bits=floats["bits"], bits_psum=floats["bits_psum"])
    cost = calc_cost(bits, changed, mapping, Conventions(fill=True), xp)
    return (
        cost.energy_pj.sum() / 1e6
        + cost.mac_energy_pj / 1e3
        + cost.cycles.total / 1e3
        + cost.leakage_pj.sum() / 1e3
        + cost.io_bytes.sum() / 1e3
        + cost.required_bandwidth.sum()
    )


def test_gradients_equal_central_differences_of_numpy():
    """In energies, bandwidths, widths, bits, leakage and the clock."""
    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(figure, argnums=3), static_argnums=4)(*encoded(), FLOATS, jnp)
    for name, value in FLOATS.items():
        slope = np.asarray(slopes[name])
        for index in np.ndindex(value.shape):
            step = 1e-4 * value[index]
            ends = []
            for sign in (1, -1):
                moved = value.copy()
                moved[index] += sign * step
                ends.append(figure(*encoded(), {**FLOATS, name: moved}, np))
            difference = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(slope[index], difference, rtol=1e-6, err_msg=name)
        assert np.any(slope != 0), name


def test_check_grads_of_energy_and_cycles():
    """Forward and reverse mode, given the counts, which no float changes."""
    layer, core, mapping = encoded()
    tiles = calc_tiles(layer, core, mapping, np)
    counts = calc_counts(layer, core, mapping, tiles, Conventions(), np)

    def figures(floats):
        bits = layer._replace(bits=floats["bits"], bits_psum=floats["bits_psum"])
        changed = core._replace(read_energy=floats["read_energy"], width=floats["width"])
        traffic = calc_traffic(bits, changed, counts, jnp)
        cycles = calc_cycles(
            changed,
            traffic,
            tiles.steps,
            tiles.used[:-1],
            jnp.zeros((3, 3)),
            Conventions(overlap=False),
            jnp,
        )
        return calc_energy_pj(changed, traffic).sum() / 1e6, cycles.total / 1e3

    with jax.enable_x64(True):
        floats = {key: jnp.asarray(FLOATS[key]) for key in ("bits", "read_energy", "width")}
        floats["bits_psum"] = jnp.asarray(FLOATS["bits_psum"])
        check_grads(jax.jit(figures), (floats,), order=1, modes=("fwd", "rev"), rtol=1e-6)
