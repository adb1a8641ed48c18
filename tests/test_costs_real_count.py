"""The best mapping in the real count, where equations (1) and (2) say more than `evaluate`.

Registers of a word or a few and limited bandwidths make the last piece of a dimension and overlaps
carried over outer loops decide (docs/theory/mapping_space.md, The real count).
"""

import itertools
import math

import numpy as np
import pytest

from costs.candidates import enumerate_factors, enumerate_loops, measure_tails
from costs.carried import calc_most_carried
from costs.conventions import TIMELOOP, Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.encode import encode_mapping
from costs.errors import InputError
from costs.evaluate import calc_cost, encode_many, evaluate
from costs.layer import Layer
from costs.library import load_core
from costs.mapper import best_mapping, solve
from tests.mapping_walk import all_mappings, walk_best

OBJECTIVES = ("energy", "latency", "edp")
WHOLE = Conventions(halo="whole", drain_reads=True)
MOST = 8_000
"""Mappings of a random case that are walked at most."""


def goal_of(cost, objective):
    return {"energy": cost.energy_pj, "latency": cost.cycles, "edp": cost.edp}[objective]


def registers(*, words, drain_pj=1.0, fill_pj=(1.0, 1.0), rates=(math.inf, math.inf)):
    """DRAM and a register for each operand, of so many bytes; no array."""
    levels = [MemoryLevel("dram", read_energy_pj=0.001, write_energy_pj=drain_pj, width_bits=8)]
    for operand, pj, rate in zip("WI", fill_pj, rates, strict=True):
        size = words.get(operand)
        if size is not None:
            level = MemoryLevel(
                f"register_{operand}", (operand,), size, write_energy_pj=pj, width_bits=8,
                write_bandwidth=rate,
            )  # fmt: skip
            levels.append(level)
    if "O" in words:
        levels.append(MemoryLevel("register_O", ("O",), words["O"], width_bits=8))
    return Core("registers", tuple(levels), (), mac_energy_pj=1.0)


# the best mapping has a real count below (1): layer, core, objective, conventions, least by (1)
BELOW = {
    "tail_latency": (
        Layer("product", K=3, P=4),
        registers(words={"W": 1.0, "I": 1.0}, rates=(0.5, 0.5)),
        "latency", TIMELOOP, 24,
    ),
    "tail_edp": (
        Layer("product", K=3, P=4),
        registers(words={"W": 1.0, "I": 1.0}, rates=(0.5, 0.45)),
        "edp", TIMELOOP, 960,
    ),
    "tail_energy": (
        Layer("window", P=5, R=2, bits_psum=8),
        registers(words={"W": 1.0, "I": 5.0, "O": 1.0}, fill_pj=(270.0, 730.0)),
        "energy", WHOLE, 6210,
    ),
    "carried_overlap": (
        Layer("window", K=2, P=3, R=2, bits_psum=8),
        registers(words={"I": 1.0, "O": 2.0}, drain_pj=333.0, fill_pj=(1.0, 333.0)),
        "energy", TIMELOOP, 4008,
    ),
    "carried_over_a_parted_loop": (  # R carries between two loops of P in one stretch
        Layer("window", K=2, P=6, R=3, bits_psum=8),
        registers(words={"W": 8.0, "I": 1.0}, fill_pj=(16.0, 10.0)),
        "energy", TIMELOOP, 348.048,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BELOW)
def test_optimum_where_1_is_not_the_real_count(name):
    layer, core, objective, conventions, usual = BELOW[name]
    expected, _ = walk_best(layer, core, [objective], conventions)
    best = best_mapping(layer, core, objective, conventions)
    assert goal_of(best.cost, objective) == pytest.approx(expected[objective], rel=1e-12)
    assert best.proved
    assert best.bound == goal_of(best.cost, objective)
    # tables take the least by (1) and (2): here it is not the optimum
    found = solve(layer, [core], objective, conventions)
    cost = evaluate(layer, core, found.mappings[found.best[0]], conventions)
    assert goal_of(cost, objective) == pytest.approx(usual, rel=1e-3)
    assert goal_of(cost, objective) > goal_of(best.cost, objective)


def tight_case(seed):
    """A small layer, memories of a few words at random prices and bandwidths, and conventions."""
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return int(rng.integers(low, high + 1))

    def price(low, high):
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    def rate():
        return float(rng.choice([math.inf, math.inf, 0.25, 0.45, 0.5, 1.0]))

    layer = (
        lambda: Layer("product", K=draw(2, 7), P=draw(2, 7)),
        lambda: Layer("cube", K=draw(2, 5), P=draw(2, 5), C=draw(2, 3)),
        lambda: Layer("window", P=draw(2, 7), R=draw(2, 3), bits_psum=8),
        lambda: Layer("kernels", P=draw(2, 5), R=draw(2, 3), K=draw(2, 3), bits_psum=8),
        lambda: Layer("channels", P=draw(2, 5), R=draw(2, 3), C=draw(2, 3)),
        lambda: Layer("depthwise", K=2, C=2, groups=2, P=draw(2, 5), R=2),
        lambda: Layer("strided", P=draw(2, 5), R=draw(2, 3), stride=(draw(2, 3), 1)),
        lambda: Layer("dilated", P=draw(2, 5), R=2, K=draw(1, 2), dilation=(2, 1)),
        lambda: Layer("both", P=draw(2, 3), R=2, Q=draw(2, 3), bits_psum=8),
        lambda: Layer("batch", N=draw(2, 4), K=draw(2, 4), C=draw(2, 3)),
    )[seed % 10]()
    axes = ()
    if rng.random() < 0.25:
        dims = tuple(map(str, rng.choice(list("KCPR"), size=2, replace=False)))
        multicast = ("W", "I", "O") if rng.random() < 0.7 else ("W",)
        reduction = bool(rng.random() < 0.7)
        axes = (Axis("rows", draw(2, 3), dims=dims, reduction=reduction, multicast=multicast),)
    one, other, third = map(str, rng.permutation(list("WIO")))
    held = ((one, other), (one, other, third), (one, one, other), (one + other, third))[draw(0, 3)]
    levels = [
        MemoryLevel(
            "dram", read_energy_pj=price(0.001, 100), write_energy_pj=price(0.1, 500),
            width_bits=8, bandwidth=rate(),
        )
    ]  # fmt: skip
    for number, operands in enumerate(held):
        room = len(operands) + draw(0, 1) if rng.random() < 0.4 else draw(len(operands), 8)
        inner = axes and number == len(held) - 1 and rng.random() < 0.7
        levels.append(
            MemoryLevel(
                f"memory_{number}", tuple(operands), float(room), read_energy_pj=price(0.1, 200),
                write_energy_pj=price(0.1, 800), width_bits=8, read_bandwidth=rate(),
                write_bandwidth=rate(), replicated=("rows",) if inner else (),
            )
        )  # fmt: skip
    conventions = Conventions(
        halo=("whole", "timeloop")[draw(0, 1)],
        drain_reads=bool(rng.random() < 0.3),
        first_read=("elided", "elided", "counted", "at_mac")[draw(0, 3)],
    )
    return layer, Core("tight", tuple(levels), axes, mac_energy_pj=1.0), conventions


def window_case(seed):
    """A window in memories for inputs of a few words: what overlaps loops carry decides."""
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return int(rng.integers(low, high + 1))

    def price(low, high):
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    layer = (
        lambda: Layer("window", P=(8, 12, 6)[draw(0, 2)], R=draw(2, 4), bits_psum=8),
        lambda: Layer("kernels", P=(4, 6, 8)[draw(0, 2)], R=draw(2, 3), K=2, bits_psum=8),
        lambda: Layer("channels", P=(4, 6)[draw(0, 1)], R=draw(2, 3), C=2, bits_psum=8),
        lambda: Layer(
            "paces", P=(4, 8)[draw(0, 1)], R=draw(2, 4), stride=(draw(1, 2), 1),
            dilation=(draw(1, 2), 1), bits_psum=8,
        ),
        lambda: Layer("both", P=4, R=2, Q=2, S=2, bits_psum=8),
    )[seed % 5]()  # fmt: skip
    held = (("I",), ("I", "I"), ("IO", "I"), ("I", "O"), ("W", "I"), ("WI", "I"))[draw(0, 5)]
    levels = [
        MemoryLevel(
            "dram", read_energy_pj=price(1, 500), write_energy_pj=price(0.1, 500), width_bits=8
        )
    ]
    for number, operands in enumerate(held):
        room = draw(len(operands), 8) + (3 if len(operands) > 1 else 0)
        levels.append(
            MemoryLevel(
                f"memory_{number}", tuple(operands), float(room), read_energy_pj=price(0.1, 200),
                write_energy_pj=price(0.1, 500), width_bits=8,
            )
        )  # fmt: skip
    core = Core("window", tuple(levels), (), mac_energy_pj=1.0)
    return layer, core, Conventions(halo="timeloop")


def check_case(layer, core, conventions, *, most=MOST, objectives=OBJECTIVES):
    """Compares objectives with those of all mappings; how many of these there were."""
    mappings = list(itertools.islice(all_mappings(layer, core), most + 1))
    if len(mappings) > most:
        return 0
    cases = []
    for mapping in mappings:
        try:
            encode_mapping(layer, core, mapping)
        except InputError:
            continue
        cases.append((layer, core, mapping))
    costs = calc_cost(*encode_many(cases), conventions)
    fits = costs.fits.all(-1)
    if not fits.any():
        return 0
    energy = (costs.energy_pj.sum((-1, -2)) + costs.mac_energy_pj)[fits]
    cycles = costs.cycles.total[fits]
    least = {"energy": energy.min(), "latency": cycles.min(), "edp": (energy * cycles).min()}
    for objective in objectives:
        best = best_mapping(layer, core, objective, conventions)
        reached = goal_of(best.cost, objective)
        assert reached == pytest.approx(least[objective], rel=1e-11), (layer, core, objective)
        assert best.proved
    return len(cases)


@pytest.mark.parametrize("seed", range(30))
def test_optimum_of_tight_memories_equals_that_of_all_mappings(seed):
    check_case(*tight_case(seed))


@pytest.mark.slow
def test_optimum_of_tight_memories_equals_that_of_all_mappings_of_400_layers():
    walked, seed, mappings = 0, 1_000, 0
    while walked < 400:
        count = check_case(*tight_case(seed))
        walked += count > 0
        mappings += count
        seed += 1
    assert mappings > 200_000


@pytest.mark.slow
def test_optimum_of_windows_in_few_words_equals_that_of_all_mappings():
    counts = [
        check_case(*window_case(seed), most=20_000, objectives=("energy",)) for seed in range(120)
    ]
    assert sum(map(bool, counts)) > 60


def test_every_tail_of_a_dimension_is_listed():
    # all chains of three loops without an idle one: what remains where, with its tail
    bound, place = 13, 2
    listed = enumerate_loops(bound, "ttt", (), (math.inf,) * 3)
    tails = measure_tails(listed, (True, True, False)) > 0
    kept = {tuple(row) for row in listed.factors[tails].astype(int)}
    for inner, middle in itertools.product(range(1, bound + 1), repeat=2):
        outer = -(-bound // (inner * middle))
        tiles = -(-bound // inner)
        if middle > 1 and outer > 1 and tiles % middle == 1:
            assert any(row[1] == middle and -(-bound // row[place]) == tiles for row in kept)
    # the shortest factors alone have fewer
    assert len(enumerate_factors(bound, "ttt", ()).factors) < len(listed.factors)


def test_bound_holds_where_the_effort_ends():
    layer = Layer("conv", K=64, C=64, P=56, Q=56, R=3, S=3, padding=((1, 1), (1, 1)))
    best = best_mapping(layer, load_core("tpu_like"))
    assert best.proved
    hurried = best_mapping(layer, load_core("tpu_like"), limit_s=0.0)
    assert not hurried.proved
    assert hurried.bound <= best.cost.energy_pj


def test_a_window_without_loops_outside_a_tile_carries_nothing():
    assert calc_most_carried((), (), 3) == 0


LARGE = {
    "3x3, 64 channels": Layer("conv", K=64, C=64, P=56, Q=56, R=3, S=3, padding=((1, 1), (1, 1))),
    "7x7, stride 2": Layer(
        "first", K=64, C=3, P=112, Q=112, R=7, S=7, stride=(2, 2), padding=((3, 2), (3, 2))
    ),
    "downsample": Layer("down", K=128, C=64, P=28, Q=28, stride=(2, 2)),
    "fully connected": Layer("fc", K=100, C=512),
}


@pytest.mark.parametrize("name", LARGE)
def test_a_large_layer_on_eyeriss_ends_with_a_mapping_and_a_bound(name, monkeypatch):
    monkeypatch.setattr("costs.real_count.EFFORT", 1_000_000)
    layer, core = LARGE[name], load_core("eyeriss")
    # the largest stops at its first look
    best = best_mapping(layer, core, limit_s=1.0 if layer.name == "first" else None)
    cost = evaluate(layer, core, best.mapping)
    assert cost == best.cost
    assert cost.fits
    assert cost.utilization <= 1
    assert 0 < best.bound <= cost.energy_pj * (1 + 1e-12)
    assert best.proved == (best.bound > cost.energy_pj * (1 - 1e-12))
    assert best.gap == pytest.approx(cost.energy_pj / best.bound - 1, abs=1e-12)
    assert best.least_by_1 or layer.name == "first"
