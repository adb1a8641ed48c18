"""Cores: chains, homes, scaling, and one clear error for whatever is no core."""

import math

import pytest

from costs.core import Axis, Core, MemoryLevel
from costs.errors import InputError


class Proportional:
    """A memory whose figures are easy to check by hand."""

    def read_energy_pj(self, capacity_bytes, width_bits):
        return capacity_bytes * width_bits

    def write_energy_pj(self, capacity_bytes, width_bits):
        return 2 * capacity_bytes * width_bits

    def area_mm2(self, capacity_bytes, width_bits):
        return 3 * capacity_bytes

    def leakage_w(self, capacity_bytes, width_bits):
        return 4 * capacity_bytes


def example(**fields):
    levels = (
        MemoryLevel("dram"),
        MemoryLevel("buffer", capacity_bytes=100, area_mm2=1.0, model=Proportional()),
        MemoryLevel(
            "registers",
            ("W",),
            capacity_bytes=2,
            area_mm2=0.5,
            leakage_w=0.25,
            replicated=("rows",),
        ),
    )
    axes = (Axis("rows", 4), Axis("columns", 2))
    return Core("c", levels, axes, **{"pe_area_mm2": 0.25, "leakage_w": 1.0, **fields})


def test_chains_instances_and_totals():
    core = example()
    assert core.chain("W") == ("dram", "buffer", "registers")
    assert core.chain("O") == ("dram", "buffer")
    assert core.pes == 8
    assert core.instances("registers") == 4
    assert core.area_mm2 == 8 * 0.25 + 1.0 + 4 * 0.5
    assert core.total_leakage_w >= 1.0 + 4 * 0.25


def test_an_area_without_a_source_is_unknown():
    assert example(pe_area_mm2=None).area_mm2 is None


def test_homes_shorten_the_chain_and_lift_the_limit():
    core = example().with_homes(W="registers", I="buffer")
    assert core.chain("W") == ("registers",)
    assert core.chain("I") == ("buffer",)
    assert core.chain("O") == ("dram", "buffer")
    assert core.level("buffer").unlimited == ("I",)
    assert core.with_homes(I="buffer") == core


def test_homes_must_hold_the_operand():
    with pytest.raises(InputError, match="registers"):
        example().with_homes(O="registers")
    with pytest.raises(InputError):
        example().with_homes(X="buffer")


def test_scaling_follows_the_memory_model_and_keeps_what_is_given():
    core = example().scaled(axes={"rows": 16}, capacity_bytes={"buffer": 10.0, "registers": 8})
    buffer = core.level("buffer")
    assert (buffer.read_energy_pj, buffer.write_energy_pj) == (80, 160)
    assert (buffer.area_mm2, buffer.leakage_w) == (30, 40)
    assert core.level("registers").leakage_w == 0.25
    assert core.instances("registers") == 16
    for axes, capacity_bytes in (({"depth": 2}, {}), ({}, {"l9": 1.0}), ({"rows": 0}, {})):
        with pytest.raises(InputError):
            example().scaled(axes=axes, capacity_bytes=capacity_bytes)


def test_mac_energy_is_exact_at_its_entries_and_monotone_between():
    core = example(mac_energy_by_bits=((8, 0.2), (16, 0.8)))
    assert core.mac_energy(8) == 0.2
    assert core.mac_energy(16) == 0.8
    # a power law: four times the energy for twice the bits
    assert core.mac_energy(32) == pytest.approx(3.2)
    assert core.mac_energy(4) == pytest.approx(0.05)
    assert 0.2 < core.mac_energy(12) < 0.8
    assert example(mac_energy_pj=0.7).mac_energy(8) == 0.7


def test_shares_are_one_capacity_for_each_operand():
    level = MemoryLevel("l", ("W", "I"), capacity_bytes={"W": 3.0, "I": 4.0})
    assert level.total_capacity_bytes == 7
    with pytest.raises(InputError, match="capacity_bytes"):
        MemoryLevel("l", ("W", "I"), capacity_bytes={"W": 3.0})


@pytest.mark.parametrize(
    "fields",
    [
        {"capacity_bytes": 0},
        {"capacity_bytes": -1.0},
        {"capacity_bytes": math.nan},
        {"read_bandwidth": 0},
        {"width_bits": -8},
        {"read_energy_pj": -1.0},
        {"write_energy_pj": math.nan},
        {"leakage_w": math.inf},
        {"operands": ("W", "W")},
        {"operands": ("X",)},
        {"operands": "WIO"},
    ],
)
def test_what_is_no_level_is_refused_by_field(fields):
    with pytest.raises(InputError) as error:
        MemoryLevel("l", **fields)
    assert str(error.value.key).startswith(f"l.{next(iter(fields))}")


def test_what_is_no_core_is_refused():
    dram = MemoryLevel("dram")
    with pytest.raises(InputError, match="unique"):
        Core("c", (dram, dram))
    with pytest.raises(InputError, match="holds O"):
        Core("c", (MemoryLevel("dram", ("W", "I")),))
    with pytest.raises(InputError, match="replicated"):
        Core("c", (MemoryLevel("dram", replicated=("x",)),))
    with pytest.raises(InputError, match="also x"):
        Core("c", (MemoryLevel("dram", replicated=("x",)), MemoryLevel("l1")), (Axis("x", 2),))
    with pytest.raises(InputError, match="size"):
        Axis("x", 0)
    with pytest.raises(InputError, match="dims"):
        Axis("x", 2, dims=("Z",))
