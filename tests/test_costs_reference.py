"""`evaluate` against what Timeloop, AccelForge and a loop walker printed (the reference folder)."""

import csv
import json
import math
import re
from typing import Any

import pytest
import yaml

from costs.conventions import Conventions
from costs.core import Axis, Core, MemoryLevel
from costs.evaluate import evaluate, evaluate_many
from costs.layer import Layer
from costs.mapping import Mapping

# Timeloop's data set of 2023 reads an output before its first accumulation next to the MACs
GEMMINI = Conventions(first_read="at_mac")
EXERCISES = ("eyeriss_like", "simba_like", "simple_weight_stationary", "simple_output_stationary")


def found_in(text, pattern):
    """Groups of a pattern that must be there."""
    match = re.search(pattern, text)
    assert match is not None, pattern
    return match.groups()


def gemmini_case(row):
    """One row of timeloop_gemmini_300.csv; the formulas of energy are those of its README."""
    size: dict[str, Any] = {
        key: int(row[key]) for key in ("N", "K", "C", "P", "Q", "R", "S", "pe_dim")
    }
    pe_dim = size.pop("pe_dim")
    spad_kb, accum_kb = float(row["spad_KB"]), float(row["accum_KB"])
    stride = (int(row["Wstride"]), int(row["Hstride"]))
    layer = Layer(row["row"], stride=stride, bits_psum=8, **size)
    loops, position, spatial = [], {}, {"K": [], "C": []}
    for part in row["mapping"].split(" - "):
        head, *factors = part.split()
        position[head[:2]] = len(loops)
        for text in factors:
            dim, factor, unrolled = found_in(text, r"^([A-Z])(\d+)(X?)$")
            (spatial[dim] if unrolled else loops).append((dim, int(factor)))
    spad = 0.02513 * spad_kb + 0.49
    accumulator = 0.1005 * accum_kb / pe_dim + 1.94
    levels = (
        MemoryLevel("L3", bandwidth=8, read_energy_pj=100, write_energy_pj=100),
        MemoryLevel(
            "L2", ("W", "I"), bandwidth=2 * pe_dim, read_energy_pj=spad, write_energy_pj=spad
        ),
        MemoryLevel(
            "L1",
            ("O",),
            bandwidth=2,
            read_energy_pj=accumulator,
            write_energy_pj=accumulator,
            replicated=("columns",),
        ),
        MemoryLevel(
            "L0",
            ("W",),
            read_energy_pj=0.48746,
            write_energy_pj=0.48746,
            replicated=("columns", "rows"),
        ),
    )
    axes = (Axis("columns", pe_dim), Axis("rows", pe_dim))
    mapping = Mapping(
        tuple(loops),
        {
            "W": {"L2": position["L2"], "L0": position["L0"]},
            "I": {"L2": position["L2"]},
            "O": {"L1": position["L1"]},
        },
        {"columns": tuple(spatial["K"]), "rows": tuple(spatial["C"])},
    )
    return layer, Core("gemmini", levels, axes, mac_energy_pj=0.5608), mapping


@pytest.fixture(scope="module")
def gemmini(reference):
    with open(reference / "timeloop_gemmini_300.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, evaluate_many(map(gemmini_case, rows), GEMMINI)


def test_gemmini_counts_equal_on_all_300_rows(gemmini):
    columns = {"L0": "acc_reg", "L1": "acc_accum", "L2": "acc_spad", "L3": "acc_dram"}
    for row, cost in zip(*gemmini, strict=True):
        for level, column in columns.items():
            words = sum(sum(part.values()) for part in cost.counts[level].values())
            assert words == float(row[column]), (row["row"], level)


def test_gemmini_energy_and_cycles(gemmini):
    rows, costs = gemmini
    energies = [
        abs(cost.energy_pj / 1e6 / float(row["timeloop_energy_uJ"]) - 1)
        for row, cost in zip(rows, costs, strict=True)
        if float(row["timeloop_energy_uJ"]) > 10
    ]
    cycles = [
        abs(cost.cycles / float(row["timeloop_cycles"]) - 1)
        for row, cost in zip(rows, costs, strict=True)
    ]
    assert len(energies) == 291
    assert math.fsum(energies) / len(energies) <= 0.0003
    assert max(energies) <= 0.003
    assert math.fsum(cycles) / len(cycles) <= 0.0001
    assert max(cycles) <= 0.014


def test_the_cross_checked_layer_equals_the_loop_walker(reference):
    """One 3x3 layer with uneven storage; every `brute_*` count under whole tiles."""
    with open(reference / "cross_check_one_layer.json", encoding="utf-8") as file:
        expected = json.load(file)
    layer = Layer("3x3", K=64, C=64, P=56, Q=56, R=3, S=3)
    registers = tuple(MemoryLevel(f"RF_{t}", (t,), replicated=("X", "Y")) for t in ("W", "I", "O"))
    core = Core(
        "cross_check",
        (MemoryLevel("DRAM"), MemoryLevel("GLB"), *registers),
        (Axis("X", 16), Axis("Y", 16)),
    )
    # entries of its loop nest are tile sizes: p 14 of 56 is four iterations
    mapping = Mapping(
        (("P", 4), ("K", 2), ("C", 4), ("K", 2), ("P", 14), ("Q", 56), ("R", 3), ("S", 3)),
        {
            "W": {"GLB": 2, "RF_W": 4},
            "I": {"GLB": 1, "RF_I": 6},
            "O": {"GLB": 2, "RF_O": 6},
        },
        {"X": (("K", 16),), "Y": (("C", 16),)},
    )
    cost = evaluate(layer, core, mapping, Conventions(halo="whole"))
    assert len(expected["table"]) == 6
    for entry in expected["table"]:
        link, operand = entry["link"], entry["tensor"]
        above, below = link.split("->")
        served = cost.counts[above][operand]
        assert served["read"] == entry["brute_parent_read"], entry
        # what the level above takes from below; fills from outside come on top in W and I
        if operand == "O":
            assert served["write"] == entry["brute_parent_write"], entry
        assert below in ("GLB", "RF")


def parse_map(text):
    """Loops, spatial factors, and by level (loops outside, factors outside, operands)."""
    loops, spatial, levels = [], [], {}
    for line in text.splitlines():
        if found := re.match(r"(\w+) \[(.*)\]", line):
            operands = re.findall(r"(W|I|O)\w+:", found[2])
            levels[found[1]] = (len(loops), len(spatial), tuple(operands))
        elif found := re.search(r"for (\w) in \[0:(\d+)\)(.*)", line):
            dim = "K" if found[1] == "M" else found[1]
            (spatial if "Spatial" in found[3] else loops).append((dim, int(found[2])))
    return loops, spatial, levels


def parse_stats(text):
    """Cycles, energy [uJ]; by level its block size, leakage [pJ], words and energies [pJ]."""
    levels = {}
    for part in re.split(r"Level \d+\n-------\n", text.split("\nNetworks")[0])[2:]:
        operands = {}
        for chunk in re.split(r"\n    (?=(?:Weights|Inputs|Outputs):)", part)[1:]:
            label = r"(Utilized instances|Scalar \w+|Energy)(?: \((?:max|per-instance|total)\))"
            values = {
                k: float(v) for k, v in re.findall(r"\n {8}" + label + r"\s+: ([\d.]+)", chunk)
            }
            instances = values["Utilized instances"]
            reads, fills, updates = (
                values[f"Scalar {kind}"] * instances for kind in ("reads", "fills", "updates")
            )
            operands[chunk[0]] = {"read": reads, "write": fills + updates}, values["Energy"]
        levels[found_in(part, r"=== (\w+) ===")[0]] = {
            "block": int(found_in(part, r"Block size\s+: (\d+)")[0]),
            "leakage": float(found_in(part, r"Leakage energy \(total\)\s+: ([\d.]+)")[0]),
            "operands": operands,
        }
    cycles = int(found_in(text, r"\nCycles: (\d+)")[0])
    return cycles, float(found_in(text, r"\nEnergy: ([\d.]+) uJ")[0]), levels


def exercise_case(folder, name, printed):
    """The layer, core and mapping of a Timeloop exercise, with its own energy table.

    Words are 8 bits throughout: Timeloop counts words, whatever their width at each level.
    """
    loops, spatial, places = parse_map((folder / f"{name}.map.txt").read_text(encoding="utf-8"))
    table = yaml.safe_load((folder / f"{name}.ERT_summary.yaml").read_text(encoding="utf-8"))
    energies = {
        found_in(entry["name"], r"\.(\w+)\[")[0]: {a["name"]: a["energy"] for a in entry["actions"]}
        for entry in table["ERT_summary"]["table_summary"]
    }
    axes = tuple(Axis(f"axis{number}", factor) for number, (_, factor) in enumerate(spatial))
    levels, stored = [], {operand: {} for operand in "WIO"}
    for level, (position, unrolled, operands) in places.items():
        if not operands:
            continue
        # Simba's weight registers: clusters of 64 share an access, 12 of each are in use
        words = 12 if level == "PEWeightRegs" else printed[level]["block"]
        bandwidth = 16.0 if level == "shared_glb" else math.inf
        levels.append(
            MemoryLevel(
                level,
                operands,
                width_bits=8 * words,
                read_bandwidth=bandwidth,
                write_bandwidth=bandwidth,
                read_energy_pj=energies[level]["read"],
                write_energy_pj=energies[level]["write"],
                leakage_w=energies[level]["leak"] * 1e-3,
                replicated=tuple(axis.name for axis in axes[:unrolled]),
            )
        )
        for operand in operands:
            stored[operand][level] = position
    layer = Layer(name, K=32, C=3, P=112, Q=112, R=3, S=3, stride=(2, 2), bits_psum=8)
    core = Core(name, tuple(levels), axes, mac_energy_pj=energies["mac"]["compute"])
    factors = {axis.name: (factor,) for axis, factor in zip(axes, spatial, strict=True)}
    return layer, core, Mapping(tuple(loops), stored, factors)


@pytest.mark.parametrize("name", EXERCISES)
def test_timeloop_exercises(reference, name):
    folder = reference / "timeloop"
    cycles, energy_uj, printed = parse_stats(
        (folder / f"{name}.stats.txt").read_text(encoding="utf-8")
    )
    cost = evaluate(*exercise_case(folder, name, printed))
    assert cost.cycles == cycles
    assert set(cost.counts) == set(printed)
    for level, expected in printed.items():
        for operand, (words, energy_pj) in expected["operands"].items():
            assert cost.counts[level][operand] == words, (level, operand)
            found = cost.energy_by_level_pj[level][operand]
            assert found == pytest.approx(energy_pj, rel=0.005), (level, operand)
        if expected["leakage"]:
            assert cost.leakage_pj[level] == pytest.approx(expected["leakage"], rel=0.005)
    total = cost.energy_pj + math.fsum(cost.leakage_pj.values())
    assert total / 1e6 == pytest.approx(energy_uj, rel=0.005)
