"""The best mapping: laws, equality with every mapping walked one by one, odd sizes, gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from costs.conventions import TIMELOOP, Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.envelope import calc_envelope_energy_pj, take_best
from costs.errors import InputError
from costs.evaluate import evaluate
from costs.layer import Layer
from costs.library import load_core
from costs.mapper import best_mapping, solve
from costs.pareto import find_nondominated
from tests.mapping_walk import all_mappings, random_case, walk_best

OBJECTIVES = ("energy", "latency", "edp")
WHOLE = Conventions(halo="whole", drain_reads=True)
COUNTED = Conventions(halo="whole", drain_reads=True, first_read="counted")


def goal_of(cost, objective):
    return {"energy": cost.energy_pj, "latency": cost.cycles, "edp": cost.edp}[objective]


def check_against_walk(seed, conventions=None):
    """Whether all three optima equal those over all mappings; how many mappings there were."""
    layer, core = random_case(seed)
    conventions = conventions or (TIMELOOP if seed % 3 else WHOLE)
    expected, count = walk_best(layer, core, OBJECTIVES, conventions)
    for objective in OBJECTIVES:
        if not count:
            with pytest.raises(InputError, match="more than"):
                best_mapping(layer, core, objective, conventions)
            continue
        found = goal_of(best_mapping(layer, core, objective, conventions).cost, objective)
        assert found == pytest.approx(expected[objective], rel=1e-12), (seed, objective)
    return count


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 6, 8, 10, 11, 12, 14, 18, 25, 42, 62, 137])
def test_optimum_equals_that_of_all_mappings(seed):
    check_against_walk(seed)


@pytest.mark.parametrize("seed", [2, 4, 11, 18])
def test_optimum_equals_that_of_all_mappings_when_first_reads_count(seed):
    check_against_walk(seed, COUNTED)


@pytest.mark.slow
def test_optimum_equals_that_of_all_mappings_of_200_layers():
    walked, seed, mappings = 0, 0, 0
    while walked < 200:
        layer, core = random_case(seed)
        if sum(1 for _, _ in zip(range(6001), all_mappings(layer, core), strict=False)) <= 6000:
            mappings += check_against_walk(seed)
            walked += 1
        seed += 1
    assert mappings > 100_000


def four_levels(*, two_of="I"):
    """A core whose inputs and outputs pass two on-chip levels, replicated along an axis."""
    spare = "".join({"I", "O", "W"} - {two_of})
    levels = (
        MemoryLevel("dram", read_energy_pj=100.0, write_energy_pj=101.0, bandwidth=4.0),
        MemoryLevel("shared", (two_of, spare[0]), 14.0, read_energy_pj=9.0, write_energy_pj=8.0),
        MemoryLevel("buffer", (two_of,), 6.0, read_energy_pj=3.0, write_energy_pj=2.5),
        MemoryLevel(
            "register", (spare[1],), 4.0, read_energy_pj=0.5, write_energy_pj=0.7,
            replicated=("lanes",),
        ),
    )  # fmt: skip
    return Core("four", levels, (Axis("lanes", 2, dims=("K", "C")),), mac_energy_pj=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("two_of", ["I", "O", "W"])
@pytest.mark.parametrize("conventions", [TIMELOOP, WHOLE], ids=["timeloop", "whole"])
def test_optimum_on_four_levels_equals_that_of_all_mappings(two_of, conventions):
    core = four_levels(two_of=two_of)
    layers = (
        Layer("odd", K=3, C=2, bits_psum=16),
        Layer("window", P=3, R=2, bits_psum=8),
        Layer("gaps", P=3, R=2, stride=(3, 1), bits_psum=8),
        Layer("batch", N=3, K=2, bits_psum=8),
    )
    for layer in layers:
        expected, count = walk_best(layer, core, OBJECTIVES, conventions)
        assert count
        for objective in OBJECTIVES:
            found = goal_of(best_mapping(layer, core, objective, conventions).cost, objective)
            assert found == pytest.approx(expected[objective], rel=1e-12), (layer.name, objective)


LAYERS = [
    Layer("prime", K=13, C=7, P=11, Q=5, R=3, S=3, padding=((1, 1), (1, 1))),
    Layer("rgb", K=16, C=3, P=8, Q=8, R=7, S=7, stride=(2, 2), padding=((3, 2), (3, 2))),
    Layer("one_channel", K=1, C=9, P=4, Q=4),
    Layer("gaps", K=8, C=8, P=4, Q=4, stride=(2, 2)),
    Layer("depthwise", K=12, C=12, P=6, Q=6, R=3, S=3, groups=12, padding=((1, 1), (1, 1))),
    Layer("batch", N=3, K=10, C=17),
    Layer("dilated", K=4, C=4, P=6, Q=6, R=3, S=3, dilation=(2, 2)),
    Layer("pool", K=6, C=6, P=4, Q=4, R=2, S=2, stride=(2, 2), groups=6, kind="pool"),
    Layer("addition", K=6, C=12, P=4, Q=4, groups=6, kind="elementwise"),
    Layer("one", K=1, C=1),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
@pytest.mark.parametrize("name", ["narrow_tile", "wide_tile"])
def test_odd_layers_have_a_mapping_that_fits_and_respects_the_bound(layer, name):
    core = load_core(name)
    found = {objective: best_mapping(layer, core, objective) for objective in OBJECTIVES}
    for objective, best in found.items():
        assert best.cost.fits
        assert best.cost == evaluate(layer, core, best.mapping)
        for other in found.values():
            assert goal_of(best.cost, objective) <= goal_of(other.cost, objective)
        moved = best.cost.io_bytes
        assert all(moved[t] >= best.compulsory_bytes[t] for t in layer.operands)
        assert best.enumerated >= best.compared >= 1


def test_more_capacity_never_costs_more_at_equal_prices():
    layer = Layer("conv", K=12, C=10, P=7, Q=5, R=3, S=3, padding=((1, 1), (1, 1)))
    energies = []
    for size in (16, 40, 100, 300, 1000, 10000):
        energies.append(best_mapping(layer, buffered(size)).cost.energy_pj)
    assert energies == sorted(energies, reverse=True)
    assert energies[0] > energies[-1]


def buffered(size, **other):
    return Core(
        "buffered",
        (
            MemoryLevel("dram", read_energy_pj=100.0, write_energy_pj=100.0),
            MemoryLevel("buffer", capacity_bytes=size, read_energy_pj=2.0, write_energy_pj=2.0),
        ),
        (Axis("rows", 4, dims=("K", "C")),),
        mac_energy_pj=0.5,
        **other,
    )


def test_unlimited_buffer_reaches_compulsory_traffic():
    layer = Layer("conv", K=6, C=5, P=7, Q=5, R=3, S=3)
    best = best_mapping(layer, buffered(math.inf))
    assert best.cost.io_bytes == best.compulsory_bytes


def test_a_buffer_that_just_fits_and_one_word_less():
    layer = Layer("linear", K=4, C=6)
    # all weights, all inputs and all outputs, of one byte each
    whole = best_mapping(layer, buffered(24 + 6 + 4)).cost
    assert sum(whole.io_bytes.values()) == 34
    # one byte less and still no word moves twice: one row of weights at a time will do
    assert sum(best_mapping(layer, buffered(33)).cost.io_bytes.values()) == 34
    # one word of each operand is the least; partial sums of 32 bits need four bytes
    assert best_mapping(layer, buffered(6)).cost.fits
    with pytest.raises(InputError, match=r"W\+I\+O at buffer needs 3 bytes .* 1 more than 2"):
        best_mapping(layer, buffered(2))


def test_homes_drop_the_levels_above():
    layer = Layer("conv", K=6, C=5, P=7, Q=5, R=3, S=3)
    core = load_core("wide_tile")
    resident = core.with_homes(W="weight_buffer", I="global_buffer", O="global_buffer")
    best = best_mapping(layer, resident)
    assert best.cost.counts["dram"] == {}
    assert best.cost.energy_pj < best_mapping(layer, core).cost.energy_pj


def test_many_cores_at_once_equal_each_alone_bit_for_bit():
    layer = Layer("conv", K=9, C=5, P=4, Q=4, R=3, S=3, padding=((1, 1), (1, 1)))
    core = load_core("narrow_tile")
    cores = [
        core.scaled(axes={"rows": n, "columns": n}, capacity_bytes={"global_buffer": size})
        for n in (2, 4, 8)
        for size in (64, 256, 1024)
    ]
    for objective in OBJECTIVES:
        together = solve(layer, cores, objective)
        for i, one in enumerate(cores):
            cost = best_mapping(layer, one, objective).cost
            assert together.total_energy_pj[i] == cost.energy_pj
            assert together.cycles[i] == cost.cycles


def test_unknown_objective_is_refused():
    with pytest.raises(InputError, match="objective"):
        best_mapping(Layer("linear", K=4, C=6), buffered(100), "speed")


def test_exact_halo_is_proved_without_windows_and_bounded_with_them():
    exact = Conventions(halo="exact")
    core = Core("small", buffered(7).levels, (), mac_energy_pj=0.5)
    for layer in (Layer("linear", K=3, C=2), Layer("gaps", C=2, P=3, stride=(2, 1))):
        best = best_mapping(layer, core, "energy", exact)
        expected, _ = walk_best(layer, core, ["energy"], exact)
        assert best.proved
        assert best.cost.energy_pj == pytest.approx(expected["energy"], rel=1e-12)
    layer = Layer("window", K=2, P=3, R=2, bits_psum=8)
    best = best_mapping(layer, core, "energy", exact)
    expected, _ = walk_best(layer, core, ["energy"], exact)
    assert not best.proved
    assert best.bound <= expected["energy"] <= best.cost.energy_pj
    assert best.cost.energy_pj <= best_mapping(layer, core).cost.energy_pj


def test_nondominated_rows_against_all_pairs():
    rng = np.random.default_rng(0)
    for rows in (1, 2, 40, 400):
        values = rng.integers(0, 5, (rows, 4)).astype(float)
        kept = find_nondominated(values)
        for i, row in enumerate(values):
            beaten = ((values <= row).all(1) & (values < row).any(1)).any()
            assert beaten == (not (values[kept] == row).all(1).any())
            assert i not in kept or not beaten
        assert len(np.unique(values[kept], axis=0)) == len(kept)


def test_envelope_gradient_is_the_chosen_candidates():
    solutions = solve(LAYERS[0], [buffered(60)], "energy")
    with jax.enable_x64(True):
        read = jnp.asarray(solutions.candidate_read_bits)
        write = jnp.asarray(solutions.candidate_write_bits)
        prices = jnp.array([12.5, 0.25])
        value = calc_envelope_energy_pj(read, write, prices, prices)
        assert float(value + solutions.mac_energy_pj[0]) == pytest.approx(
            solutions.total_energy_pj[0], rel=1e-12
        )
        check_grads(
            lambda p: calc_envelope_energy_pj(read, write, p, p), (prices,), order=1, modes=["rev"]
        )
        x = jnp.array(1.0)
        values = jax.grad(lambda v: take_best(jnp.stack([v * 3, v * 2 + 0.5])))(x)
        assert values == 2.0


def test_out_of_time_gives_a_mapping_that_fits_and_a_bound() -> None:
    layer = Layer("conv", K=32, C=16, P=14, Q=14, R=3, S=3, padding=((1, 1), (1, 1)))
    core = load_core("tpu_like")
    best = best_mapping(layer, core)
    assert best.proved
    assert best.bound == pytest.approx(best.cost.energy_pj, rel=1e-3)
    quick = best_mapping(layer, core, limit_s=0.0)
    assert not quick.proved
    assert quick.bound <= best.cost.energy_pj * (1 + 1e-9)
    assert best.cost.energy_pj <= quick.cost.energy_pj <= 1.2 * best.cost.energy_pj
    patient = best_mapping(layer, core, limit_s=1e6)
    assert patient == best
