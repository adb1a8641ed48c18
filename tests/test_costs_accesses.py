"""Whole accesses: transfers against the walker, traffic by hand and by its laws."""

from dataclasses import replace

import numpy as np
import oracle
import pytest

from costs import polish
from costs.conventions import ZIGZAG, Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.counts import calc_transfers
from costs.encode import encode_core, encode_layer, encode_mapping
from costs.errors import InputError
from costs.evaluate import evaluate
from costs.layer import OPERANDS, Layer
from costs.mapper import best_mapping, solve
from costs.mapping import Mapping
from costs.tiles import calc_tiles
from tests.random_cases import make_nest, random_case

FRACTIONAL = Conventions(halo="whole", drain_reads=True, first_read="counted")
WHOLE = replace(FRACTIONAL, accesses="whole")


def is_perfect(layer, mapping):
    return all(mapping.factor(dim) == bound for dim, bound in layer.bounds.items())


def test_transfers_equal_those_of_a_walk():
    """Of perfect nests: in others a lane may lag, and transfers are those of the usual tiles."""
    rng = np.random.default_rng(3)
    compared = 0
    while compared < 150:
        layer, core, mapping = case = random_case(rng)
        if not is_perfect(layer, mapping):
            continue
        expected = oracle.count_transfers(make_nest(*case, WHOLE))
        arrays = encode_layer(layer), encode_core(core, layer), encode_mapping(*case)
        tiles = calc_tiles(*arrays, np)
        sent, arrived = calc_transfers(*arrays[1:], tiles, np)
        children = [*(level.name for level in core.levels), None]
        for (operand, child), (above, below) in expected.items():
            at = OPERANDS.index(operand), children.index(child)
            assert sent[at] == above, (case, operand, child)
            if child is not None:
                assert arrived[at] == below, (case, operand, child)
        compared += 1


def test_whole_accesses_cost_no_less_and_less_than_one_more_a_transfer():
    rng = np.random.default_rng(4)
    for _ in range(200):
        layer, core, mapping = random_case(rng)
        widths = [int(rng.choice([1, 8, 24, 64])) for _ in core.levels]
        levels = [
            replace(level, width_bits=width, read_energy_pj=1.0, write_energy_pj=2.0)
            for level, width in zip(core.levels, widths, strict=True)
        ]
        core = replace(core, levels=tuple(levels))
        part, whole = (evaluate(layer, core, mapping, rule) for rule in (FRACTIONAL, WHOLE))
        assert part.counts == whole.counts
        for level in core.levels:
            for operand in level.operands:
                for way in ("read", "write"):
                    words = part.counts[level.name][operand][way]
                    least = part.traffic_bytes[level.name][operand][way]
                    most = least + words * level.width_bits / 8
                    moved = whole.traffic_bytes[level.name][operand][way]
                    assert least * (1 - 1e-12) <= moved <= most * (1 + 1e-12)


def make_small(least_bits=None):
    """Four PEs along K; a buffer with accesses of 64 bits."""
    layer = Layer("l", K=4, C=10, bits_w=8, bits_i=8, bits_o=8, bits_psum=16)
    core = Core(
        "c",
        (
            MemoryLevel("dram"),
            MemoryLevel(
                "buffer", width_bits=64, least_bits=least_bits, read_energy_pj=64.0,
                write_energy_pj=64.0,
            ),
        ),
        (Axis("x", 4, ("K",)),),
    )  # fmt: skip
    stored = {operand: {"buffer": 0} for operand in OPERANDS}
    return layer, core, Mapping((("C", 10),), stored, {"x": (("K", 4),)})


@pytest.mark.parametrize(("least_bits", "paid"), [(None, 64), (32, 32), (8, 32)])
def test_four_weights_served_at_once_are_one_access(least_bits, paid):
    """Every step the MACs take four weights, 32 bits, one input for all, and four partial sums."""
    cost = evaluate(*make_small(least_bits), WHOLE)
    buffer = cost.traffic_bytes["buffer"]
    assert buffer["W"]["read"] == 10 * paid / 8
    assert buffer["I"]["read"] == 10 * (least_bits or 64) / 8
    assert buffer["O"]["write"] == 10 * 64 / 8
    # from DRAM, 8 bits wide, 40 words of weights
    assert buffer["W"]["write"] == 40
    assert cost.counts["buffer"]["W"]["read"] == 40
    part = evaluate(*make_small(least_bits), FRACTIONAL)
    assert part.traffic_bytes["buffer"]["W"]["read"] == 40


def test_least_bits_are_within_the_width():
    with pytest.raises(InputError, match="least_bits"):
        MemoryLevel("m", width_bits=8, least_bits=16)


def test_search_finds_tiles_that_fill_accesses(monkeypatch):
    """What the fractional count calls equal differs by what the accesses leave empty."""
    layer = Layer("l", K=12, C=12, P=6, Q=6, bits_psum=16)
    core = Core(
        "c",
        (
            MemoryLevel("dram", width_bits=64, read_energy_pj=1000.0, write_energy_pj=1000.0),
            MemoryLevel(
                "buffer", capacity_bytes=48, width_bits=32, read_energy_pj=10.0,
                write_energy_pj=10.0,
            ),
        ),
    )  # fmt: skip
    monkeypatch.setattr(polish, "ROUNDS", 12)
    found = best_mapping(layer, core, conventions=WHOLE)
    plain = best_mapping(layer, core, conventions=FRACTIONAL)
    seen = evaluate(layer, core, plain.mapping, WHOLE).energy_pj
    assert found.cost.energy_pj == evaluate(layer, core, found.mapping, WHOLE).energy_pj
    assert found.bound <= found.cost.energy_pj < seen
    assert found.bound <= plain.cost.energy_pj * (1 + 1e-12)
    assert not found.proved


def test_cores_of_several_widths_are_refused_together():
    layer, core, _ = make_small()
    other = make_small(least_bits=8)[1]
    with pytest.raises(InputError, match="accesses"):
        solve(layer, [core, other], "energy", ZIGZAG)


def test_a_tile_without_padding_holds_the_rows_there_are():
    """A buffer that just holds the tensors, and one byte less, by `evaluate` and by the search."""
    layer = Layer("l", K=2, C=3, P=5, Q=5, R=3, S=3, padding=((1, 1), (1, 1)), bits_psum=8)
    words = {operand: layer.words(operand) for operand in OPERANDS}
    assert words["I"] == 3 * 5 * 5
    mapping = Mapping(tuple(layer.bounds.items()), {t: {"buffer": 0} for t in OPERANDS})
    skipped = Conventions(halo="whole", padding="skipped")
    for capacity in (sum(words.values()), sum(words.values()) - 1):
        dram = MemoryLevel("dram", read_energy_pj=100.0, write_energy_pj=100.0)
        buffer = MemoryLevel("buffer", capacity_bytes=capacity, read_energy_pj=1.0)
        core = Core("c", (dram, buffer))
        whole = capacity == sum(words.values())
        assert evaluate(layer, core, mapping, skipped).fits == whole
        assert not evaluate(layer, core, mapping, replace(skipped, padding="counted")).fits
        found = best_mapping(layer, core, conventions=skipped)
        assert found.cost.fits
        assert found.bound <= found.cost.energy_pj * (1 + 1e-12)
        if whole:
            assert found.cost.counts["dram"]["I"]["read"] == words["I"]
            assert found.cost.energy_pj <= evaluate(layer, core, mapping, skipped).energy_pj
