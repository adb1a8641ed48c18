"""Hardware files: shipped ones load and obey the laws; what is wrong is said in one line."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import costs
from costs import strict_yaml
from costs.chip import KNOBS, LINK_WIDTH, SIDES
from costs.errors import InputError
from costs.library import build_chip, build_core, list_chips, list_cores, load_chip, load_core

CORE = strict_yaml.loads(
    """
name: tile
technology: horowitz_45nm
clock_hz: 200e6
array:
  rows: {size: 4, dims: [C]}
  columns: {size: 4, dims: [K]}
levels:
  - {name: dram, kind: dram, operands: [W, I, O], energy_pj_per_bit: lpddr4}
  - {name: weight_buffer, kind: sram, operands: [W], capacity_bytes: 4096}
  - {name: global_buffer, kind: sram, operands: [I, O], capacity_bytes: 4096}
  - {name: register, kind: register, operands: [W], capacity_bytes: 1, width_bits: 8,
     replicated: [rows, columns]}
"""
)
CHIP = strict_yaml.loads(
    """
name: pair
clock_hz: 200e6
core_types:
  only:
    core: {}
    knobs:
      array: {values: [2, 4, 8], default: 4}
      global_buffer: {values: [1024, 4096], default: 4096}
cores: {a: only, b: only}
links:
  - {name: ab, cores: [a, b], bandwidth_bits_per_cycle: 16, energy_pj_per_bit: ucie_standard}
dram: {bandwidth_bytes_per_s: 1.6e9, energy_pj_per_bit: 7.0}
"""
)
CHIP["core_types"]["only"]["core"] = CORE


def changed(data, path, value):
    """A copy of nested data with one place set, or removed where value is None."""
    data = copy.deepcopy(data)
    here = data
    *parents, last = path
    for part in parents:
        here = here[part]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return data


@pytest.mark.parametrize("name", list_cores())
def test_shipped_cores_load(name):
    core = load_core(name)
    assert core.name == name
    assert core.mac_energy(8) > 0
    assert core.area_mm2 is None or core.area_mm2 > 0
    for operand in "WIO":
        outermost = core.level(core.chain(operand)[0])
        assert math.isinf(outermost.total_capacity_bytes)
        assert outermost.name == "dram"
    assert math.isfinite(core.levels[-1].total_capacity_bytes)
    if core.area_mm2 is not None:
        sizes = {axis.name: 2 * axis.size for axis in core.axes}
        larger = core.scaled(axes=sizes).area_mm2
        assert larger is not None
        assert larger > core.area_mm2


@pytest.mark.parametrize("name", list_chips())
def test_shipped_chips_load_and_scale_over_their_grids(name):
    chip = load_chip(name)
    assert chip.name == name
    for kind in chip.types:
        names = tuple(knob for knob, _, _ in kind.knobs)
        assert names in (KNOBS, (*SIDES, *KNOBS[1:], LINK_WIDTH))
        areas = {point: kind.area_mm2(point) or 0.0 for point in kind.points()}
        assert all(area > 0 for area in areas.values())
        for point, area in areas.items():
            for axis in range(len(point)):
                up = (*point[:axis], point[axis] + 1, *point[axis + 1 :])
                if up in areas:
                    assert areas[up] > area
        assert kind.at(kind.default).area_mm2 == pytest.approx(kind.core.area_mm2, rel=1e-12)


def test_quickstart_chip_needs_several_cores():
    """76 KB of weights fit on the chip but on no single core of it."""
    chip = load_chip("quad_big_little")
    assert len(chip.cores) == 4
    assert len(chip.types) == 2
    largest = {
        kind.name: max(values) for kind in chip.types for knob, values, _ in kind.knobs
        if knob == "weight_buffer"
    }  # fmt: skip
    assert max(largest.values()) < 76_000
    assert sum(largest[chip.types[index].name] for _, index in chip.cores) > 76_000


def test_energy_and_area_grow_with_capacity():
    core = build_core(CORE, "x.yaml")
    bigger = core.scaled(capacity_bytes={"global_buffer": 8192})
    level, larger = core.level("global_buffer"), bigger.level("global_buffer")
    assert larger.read_energy_pj > level.read_energy_pj
    assert larger.area_mm2 is not None
    assert level.area_mm2 is not None
    assert larger.area_mm2 > level.area_mm2
    assert bigger.total_leakage_w > core.total_leakage_w


def test_given_energies_are_kept_and_do_not_scale():
    data = changed(CORE, ["levels", 1], {**CORE["levels"][1], "read_energy_pj": 3.0})
    level = build_core(data, "x.yaml").level("weight_buffer")
    assert level.read_energy_pj == 3.0
    assert level.write_energy_pj > 0
    assert level.scaled(8192).read_energy_pj == 3.0


def test_bits_per_cycle_and_bytes_per_second_agree():
    link = build_chip(CHIP, "x.yaml").links[0]
    assert link.bandwidth_bytes_per_s == 16 / 8 * 200e6
    assert link.energy_pj_per_bit == 0.5


def test_bad_core_files_are_one_clear_line():
    level = CORE["levels"][1]
    cases = [
        (["clock"], 1.0, "clock: unknown key, did you mean clock_hz?"),
        (["clock_hz"], None, "clock_hz: missing"),
        (
            ["clock_hz"],
            -1.0,
            "clock_hz: not allowed (got -1.0; allowed: greater than or equal to 0.000000000001)",
        ),
        (["clock_hz"], "fast", "clock_hz: not allowed (got 'fast'"),
        (["clock_hz"], float("nan"), "clock_hz: not allowed (got nan"),
        (["name"], "../x", "name: not allowed (got '../x'; allowed: a name"),
        (["technology"], "horowitz_45", "technology: no such technology, did you mean"),
        (["technology"], None, "technology: missing"),
        (["levels"], [], "levels: not allowed"),
        (["levels", 1], {**level, "capacity_bytes": -4}, "levels.1.capacity_bytes: not allowed"),
        (["levels", 1], {**level, "capacity": 4}, "levels.1.capacity: unknown key, did you mean"),
        (["levels", 1], {**level, "kind": "rom"}, "levels.1.kind: not allowed (got 'rom'"),
        (["levels", 1], {**level, "operands": ["X"]}, "levels.1.operands.0: not allowed (got 'X'"),
        (["levels", 1], {**level, "width_bits": True}, "levels.1.width_bits: not allowed"),
        (["levels", 1], {**level, "capacity_bytes": {"I": 1}}, "weight_buffer.capacity_bytes"),
        (["levels", 1, "capacity_bytes"], None, "levels.1.capacity_bytes: not allowed"),
        (["levels", 0, "capacity_bytes"], 5, "no capacity for DRAM"),
        (["levels", 0, "energy_pj_per_bit"], "ddr9", "levels.0.energy_pj_per_bit: not allowed"),
        (["levels", 0, "energy_pj_per_bit"], None, "levels.0.energy_pj_per_bit: missing"),
        (["levels", 3, "replicated"], ["diagonal"], "tile.register.replicated: not allowed"),
        (["array", "rows", "size"], 0, "array.rows.size: not allowed (got 0"),
        (["array", "rows", "dims"], ["Z"], "array.rows.dims.0: not allowed (got 'Z'"),
        (["array", "rows", "sise"], 3, "array.rows.sise: unknown key, did you mean size?"),
        (["mac"], {"bitz": 8}, "mac.bitz: unknown key, did you mean bits?"),
    ]
    for path, value, words in cases:
        with pytest.raises(InputError) as caught:
            build_core(changed(CORE, path, value), "hw.yaml")
        message = str(caught.value)
        assert words in message, message
        assert message.startswith("hw.yaml: ")
        assert "\n" not in message


def test_a_core_without_a_home_for_an_operand_is_refused():
    data = copy.deepcopy(CORE)
    data["levels"] = [lvl for lvl in data["levels"] if "O" not in lvl["operands"]]
    with pytest.raises(InputError, match="a level that holds I"):
        build_core(data, "hw.yaml")
    for content in (None, [], "x", 3):
        with pytest.raises(InputError, match="expected a mapping"):
            build_core(content, "hw.yaml")


def test_bad_chip_files_are_one_clear_line():
    knobs = ["core_types", "only", "knobs"]
    core = ["core_types", "only", "core"]
    cases = [
        (["cores", "c"], "only", "cores.c: no link reaches this core"),
        (["links"], [], "links: 2 cores need links to exchange tensors over"),
        (["dram", "energy_pj_per_bit"], 1e308, "dram.energy_pj_per_bit: not allowed"),
        (["links", 0, "energy_pj_per_bit"], 1e308, "links.0.energy_pj_per_bit: not allowed"),
        (["links", 0, "topology"], "star", "links.0.topology: not allowed (got 'star'"),
        (["links", 0, "topology"], "mesh", "links.0.columns: missing (allowed: with topology mesh"),
        (["links", 0, "topology"], "ring", "links.0.cores: not allowed"),
        (["links", 0, "topology"], "chiplet_package", "links.0.dies: missing"),
        (["links", 0, "columns"], 2, "links.0.columns: of no use here"),
        (["links", 0, "dies"], [["a"], ["b"]], "links.0.dies: of no use here"),
        (["cores", "a"], "other", "cores.a: no such core type (got 'other'; allowed: only)"),
        (["links", 0, "cores"], ["a", "z"], "links.0.cores: no such core (got 'z'"),
        (["links", 0, "cores"], ["a", "a"], "links.0.cores: not allowed"),
        (["links", 0, "cores"], ["a"], "links.0.cores: not allowed"),
        (["links", 0, "bandwidth"], 3, "links.0.bandwidth: unknown key, did you mean bandwidth"),
        (["links", 0, "bandwidth_bytes_per_s"], 3.0, "links.0: not allowed"),
        (["links", 0, "energy_pj_per_bit"], "rope", "links.0.energy_pj_per_bit: not allowed"),
        (["links", 0, "energy_pj_per_bit"], -1.0, "links.0.energy_pj_per_bit: not allowed"),
        (["clock_hz"], None, "clock_hz: missing"),
        (["dram", "energy_pj_per_bit"], None, "dram.energy_pj_per_bit: missing"),
        (["dram", "bandwidth_bytes_per_s"], 0, "dram.bandwidth_bytes_per_s: not allowed"),
        ([*knobs, "array", "default"], 3, "knobs.array.default: not allowed (got 3"),
        ([*knobs, "array", "values"], [4, 2], "knobs.array.values: not allowed"),
        ([*knobs, "aray"], {}, "knobs.aray: not allowed"),
        ([*knobs, "array", "vals"], [4], "knobs.array.vals: unknown key, did you mean values?"),
        ([*core, "clock_hz"], -2.0, "core_types.only.core.clock_hz: not allowed"),
        ([*core, "array", "rows", "size"], 8, "arrays as squares"),
        ([*core, "levels", 1, "name"], "cache", "core tile lacks level weight_buffer"),
        ([*core, "levels", 2, "operands"], ["I"], "must hold I, O in one capacity"),
        (core, "tpu_lik", "core_types.only.core: no shipped core of that name"),
        (core, "./none.yaml", "none.yaml: cannot be read"),
    ]
    for path, value, words in cases:
        with pytest.raises(InputError) as caught:
            build_chip(changed(CHIP, path, value), "hw.yaml")
        message = str(caught.value)
        assert words in message, message
        assert "hw.yaml" in message or "none.yaml" in message
        assert "\n" not in message


def test_cores_in_two_islands_are_refused():
    data = changed(CHIP, ["cores"], dict.fromkeys("abcd", "only"))
    data["links"].append({**data["links"][0], "name": "cd", "cores": ["c", "d"]})
    with pytest.raises(InputError, match="no path from a to c"):
        build_chip(data, "hw.yaml")
    data["links"][1]["name"] = "ab"
    with pytest.raises(InputError, match=r"links\.1\.name: duplicate name"):
        build_chip(data, "hw.yaml")


def test_one_core_needs_no_link():
    data = changed(CHIP, ["cores"], {"a": "only"})
    data["links"] = []
    assert build_chip(data, "hw.yaml").links == ()


def test_files_are_found_by_name_and_by_path(tmp_path):
    strict_yaml.dump(CORE, tmp_path / "tile.yaml")
    strict_yaml.dump(
        changed(CHIP, ["core_types", "only", "core"], "./tile.yaml"), tmp_path / "c.yaml"
    )
    assert load_core(tmp_path / "tile.yaml") == build_core(CORE, "x")
    assert load_chip(str(tmp_path / "c.yaml")).types[0].core == build_core(CORE, "x")
    with pytest.raises(InputError, match="did you mean wide_tile"):
        load_core("wide_tyle")
    with pytest.raises(InputError, match="no shipped chip"):
        load_chip("nothing")


def paths_of(data, prefix=()):
    """Every place of nested data."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*prefix, key))


PLACES = sorted(paths_of(CHIP), key=str)
junk = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1.5,
        math.inf,
        math.nan,
        "",
        "x",
        "1",
        [],
        {},
        [[]],
        10**30,
        {"a": 1},
        "a.yaml",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), junk), min_size=1, max_size=3))
def test_any_mutation_is_a_chip_or_one_line(mutations):
    data: Any = copy.deepcopy(CHIP)
    for path, value in mutations:
        here = data
        for part in path[:-1]:
            if isinstance(here, dict):
                here = here.get(part)
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                here = None
        if isinstance(here, dict):
            here[path[-1]] = value
    message = ""
    try:
        build_chip(data, "hw.yaml")
    except InputError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("kind", ["cores", "chips"])
def test_shipped_files_round_trip_through_the_dumper(kind):
    folder = Path(costs.__file__).parent / "hardware" / kind
    for path in sorted(folder.glob("*.yaml")):
        data = strict_yaml.load(path)
        assert strict_yaml.loads(strict_yaml.dumps(data)) == data
