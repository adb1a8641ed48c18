"""In situ generation: the counting rule on shapes, and what it does to a layer's cost."""

import dataclasses
import itertools
import math

import pytest

from costs.errors import InputError
from costs.evaluate import evaluate
from costs.insitu import GENERATION, Bases, best_generated_mapping, choose_factors, generating_core
from costs.layer import Layer
from costs.library import load_core
from costs.mapper import best_mapping

LAYER = Layer("conv", K=32, C=16, P=4, Q=4, R=3, S=3, padding=((1, 1), (1, 1)))


def test_a_name_says_the_bases_and_nothing_else_does() -> None:
    assert str(Bases.parse("2-44-3-6-3")) == "2-44-3-6-3"
    for text in ("2-44-3-6", "2-44-3-6-3-1", "0-4-3-3-3", "2-44-3-6-33", "a-b-c-d-e", "-2-4-3-3-3"):
        with pytest.raises(InputError):
            Bases.parse(text)


def test_ratio_is_that_of_the_paper() -> None:
    """A 128x128x3x3 kernel at 16 bits under (2,40,4,4,4): r = .109, r_m = .0272 (papers.md, B)."""
    factors = choose_factors(128, 128, 9, 1, Bases.parse("2-40-4-4-4"))
    assert factors is not None
    dense = 128 * 128 * 9
    assert sum(factors.words) / dense == (128 + 2 * 9 + 128 * 2) * 40 / dense
    assert sum(factors.words) / dense == pytest.approx(0.109, abs=5e-4)
    assert factors.stored_bits / (16 * dense) == pytest.approx(0.0272, abs=1e-4)


def test_recovered_width_is_that_of_the_paper() -> None:
    factors = choose_factors(128, 128, 9, 1, Bases.parse("2-44-3-6-3"))
    assert factors is not None
    assert factors.generated_bits == pytest.approx((10.0, 18.46), abs=5e-3)


def test_generated_values_never_need_more_bits_than_the_bound() -> None:
    """All products and sums of integers of so many bits, counted one by one."""
    factors = choose_factors(64, 64, 9, 1, Bases.parse("2-3-2-2-2"))
    assert factors is not None
    levels = (-3, -1, 1, 3)  # 2 bits, symmetric, in halves of a step
    inside = {b1 * u1 + b2 * u2 for b1, u1, b2, u2 in itertools.product(levels, repeat=4)}
    whole = {
        sum(v * w for v, w in zip(vs, ws, strict=True))
        for vs in itertools.product(levels, repeat=3)
        for ws in itertools.combinations_with_replacement(sorted(inside), 3)
    }
    for values, bits in zip((inside, whole), factors.generated_bits, strict=True):
        assert max(values) - min(values) <= 2 * 2**bits  # in halves of a step


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((16, 3, 9, 1), (16 * 2 * 9, 16 * 3 * 2, 0)),  # Bc too many: inside kernels only
        ((128, 64, 1, 1), (20 * 64, 0, 128 * 20)),  # 1x1: across kernels only
        ((128, 64, 9, 1), (20 * 2 * 9, 20 * 64 * 2, 128 * 20)),
        ((96, 1, 9, 96), (2 * 9, 96 * 2, 0)),  # depthwise: one set of bases for all
        ((16, 16, 1, 1), None),
        ((32, 8, 25, 4), (32 * 2 * 25, 32 * 8 * 2, 0)),  # grouped: inside kernels only
    ],
)
def test_each_kind_of_kernel_has_its_factors(
    shape: tuple[int, int, int, int], words: object
) -> None:
    factors = choose_factors(*shape, Bases.parse("2-20-8-8-8"))
    assert (None if factors is None else factors.words) == words


def test_generation_macs_are_those_of_the_two_products() -> None:
    factors = choose_factors(128, 64, 9, 1, Bases.parse("2-20-8-8-8"))
    assert factors is not None
    assert factors.macs == 20 * 64 * 2 * 9 + 128 * 20 * 64 * 9


@pytest.fixture(scope="module")
def costs() -> dict:
    core = load_core("tpu_like")
    factors = choose_factors(LAYER.K, LAYER.C, 9, 1, Bases.parse("2-8-3-6-3"))
    assert factors is not None
    return {
        "core": core,
        "factors": factors,
        "dense": best_mapping(LAYER, core).cost,
        "generated": best_generated_mapping(LAYER, factors, core),
    }


def test_traffic_falls_to_the_bases_and_generation_is_charged(costs: dict) -> None:
    cost, dense, factors, core = (
        costs["generated"].cost, costs["dense"], costs["factors"], costs["core"],
    )  # fmt: skip
    sweeps = cost.counts[GENERATION]["W"]["read"] / LAYER.words("W")
    assert cost.io_bytes["W"] == pytest.approx(sweeps * factors.stored_bits / 8)
    assert cost.io_bytes["W"] < 0.1 * dense.io_bytes["W"]
    generation_pj = sweeps * factors.macs * core.mac_energy(8)
    assert cost.energy_by_level_pj[GENERATION]["W"] == pytest.approx(generation_pj)
    assert cost.cycles_by_cause[GENERATION] == pytest.approx(sweeps * factors.macs / core.pes)
    home = core.levels[0]
    per_byte = 8 * home.read_energy_pj / home.width_bits
    assert cost.energy_by_level_pj[home.name]["W"] == pytest.approx(
        cost.io_bytes["W"] * per_byte, rel=1e-9
    )


def test_nothing_but_weights_changes_under_one_mapping(costs: dict) -> None:
    """Every other number is what the dense layer costs under the same loops."""
    core, best, factors = costs["core"], costs["generated"], costs["factors"]
    home = core.levels[0].name
    stored = {t: dict(at) for t, at in best.mapping.stored.items()}
    stored["W"][home] = stored["W"].pop(GENERATION, 0)
    dense = evaluate(LAYER, core, dataclasses.replace(best.mapping, stored=stored))
    sweeps = dense.counts[home]["W"]["read"] / LAYER.words("W")
    difference = dense.energy_by_level_pj[home]["W"] * (
        1 - factors.stored_bits / (LAYER.words("W") * LAYER.bits_w)
    ) - sweeps * factors.macs * core.mac_energy(8)
    assert best.cost.energy_pj == pytest.approx(dense.energy_pj - difference, rel=1e-12)
    assert {t: best.cost.io_bytes[t] for t in "IO"} == {t: dense.io_bytes[t] for t in "IO"}
    assert (
        best.cost.cycles >= dense.cycles_by_cause["compute"] + best.cost.cycles_by_cause[GENERATION]
    )


def test_weights_stored_as_they_are_cost_what_dense_ones_do(costs: dict) -> None:
    """With bases of the kernel's own bits and free MACs a generating core is the plain one."""
    core = dataclasses.replace(costs["core"], mac_energy_pj=0.0, mac_energy_by_bits=())
    factors = costs["factors"]
    source = generating_core(core, LAYER, factors).level(GENERATION)
    home = core.levels[0]
    ratio = factors.stored_bits / (LAYER.words("W") * LAYER.bits_w)
    per_bit = source.read_energy_pj / source.width_bits
    assert per_bit == pytest.approx(ratio * home.read_energy_pj / home.width_bits)
    assert math.isfinite(source.read_bandwidth)
