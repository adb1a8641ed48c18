"""ZigZag files: imported as they are, exported without loss of energy or bandwidth."""

import copy
import json
import math

import pytest

from costs import strict_yaml
from costs.errors import InputError
from costs.library import list_cores, load_core
from costs.zigzag import from_zigzag, load_zigzag_core, to_zigzag

FILES = [
    "zigzag_tpu_like_resnet18_energy_lpf4.json",
    "zigzag_eyeriss_like_resnet18_energy_lpf4.json",
]
MAPPING = [{"spatial_mapping": {"D1": ["K, 32"], "D2": ["C, 32", "FY, 3"]}}]
TWO_LEVELS = """
name: small
memories:
  rf:
    size: 16
    r_cost: 0.1
    w_cost: 0.3
    area: 0
    latency: 1
    operands: [O]
    ports:
      - {name: r_port_1, type: read, bandwidth_min: 8, bandwidth_max: 8, allocation: ["O, tl"]}
      - {name: r_port_2, type: read, bandwidth_min: 8, bandwidth_max: 8, allocation: ["O, th"]}
      - {name: w_port_1, type: write, bandwidth_min: 24, bandwidth_max: 24, allocation: ["O, fh"]}
    served_dimensions: [D2]
  dram:
    size: 10000000000
    r_cost: 700
    w_cost: 750
    area: 0
    latency: 1
    operands: [I1, I2, O]
    ports: []
    ports:
      - {name: rw_port_1, type: read_write, bandwidth_min: 64, bandwidth_max: 64, allocation: []}
    served_dimensions: [D1, D2]
operational_array:
  unit_energy: 0.5
  unit_area: 1
  dimensions: [D1, D2]
  sizes: [4, 2]
"""


@pytest.mark.parametrize("name", FILES)
def test_hardware_of_the_reference_runs_is_imported_as_it_is(reference, name):
    path = reference / name
    data = json.loads(path.read_text())
    core = from_zigzag(data["hardware_yaml"], data["mapping_yaml"], path)
    memories = data["hardware_yaml"]["memories"]
    assert [level.name for level in core.levels] == list(memories)[::-1]
    for level in core.levels:
        memory = memories[level.name]
        assert level.read_energy_pj == memory["r_cost"]
        assert level.write_energy_pj == pytest.approx(memory["w_cost"], rel=1e-15)
        if level.name != "dram":
            assert level.capacity_bytes == memory["size"] / 8
    assert core.mac_energy(8) == data["hardware_yaml"]["operational_array"]["unit_energy"]
    assert [(axis.size, axis.dims) for axis in core.axes] == [
        (size, dims)
        for size, dims in zip(
            data["hardware_yaml"]["operational_array"]["sizes"], [("K",), ("C",)], strict=True
        )
    ]


def test_shipped_tpu_like_is_zigzags(reference):
    path = reference / FILES[0]
    data = json.loads(path.read_text())
    theirs = from_zigzag(data["hardware_yaml"], data["mapping_yaml"], path)
    ours = load_core("tpu_like")
    assert [axis.dims for axis in ours.axes] == [axis.dims for axis in theirs.axes]
    by_energy = {level.width_bits: level for level in theirs.levels}
    for level in ours.levels:
        same = by_energy[level.width_bits]
        assert (level.read_energy_pj, level.write_energy_pj) == (
            same.read_energy_pj,
            same.write_energy_pj,
        )
        assert level.access_bits == same.access_bits
        assert level.operands == tuple(o for o in "WIO" if o in same.operands)
        if level.name != "output_register":  # 32-bit partial sums fit, in ZigZag's own 16 bits
            assert level.capacity_bytes == same.capacity_bytes


def test_ports_widths_and_served_dimensions(tmp_path):
    """Bandwidth adds over ports; write cost is converted to the width of a read."""
    path = tmp_path / "small.yaml"
    path.write_text(TWO_LEVELS)
    core = load_zigzag_core(path, clock_hz=5e8)
    register, dram = core.level("rf"), core.level("dram")
    assert core.clock_hz == 5e8
    assert (register.read_bandwidth, register.write_bandwidth) == (2.0, 3.0)
    assert register.width_bits == 8
    assert register.write_energy_pj == pytest.approx(0.3 * 8 / 24)
    assert register.replicated == ("D1",)
    assert dram.bandwidth == 8.0
    assert math.isinf(dram.total_capacity_bytes)
    with pytest.raises(InputError, match="duplicate key 'ports'"):
        strict_yaml.load(path)


def test_mapping_says_what_an_axis_unrolls():
    core = from_zigzag(strict_yaml.loads(TWO_LEVELS, last_key_wins=True), MAPPING)
    assert core.axis("D2").dims == ("C", "R")


@pytest.mark.parametrize("name", list_cores())
def test_export_then_import_keeps_energy_per_bit_and_bandwidth(name):
    core = load_core(name)
    again = from_zigzag(strict_yaml.loads(strict_yaml.dumps(to_zigzag(core))))
    assert [axis.size for axis in again.axes] == [axis.size for axis in core.axes]
    for level, copied in zip(core.levels, again.levels, strict=True):
        assert copied.name == level.name
        assert set(copied.operands) == set(level.operands)
        assert len(copied.replicated) == len(level.replicated)
        assert copied.total_capacity_bytes == level.total_capacity_bytes
        for key in ("read_energy_pj", "write_energy_pj"):
            ours, theirs = getattr(level, key), getattr(copied, key)
            assert theirs / copied.width_bits == pytest.approx(ours / level.width_bits, rel=1e-12)
        for key in ("read_bandwidth", "write_bandwidth", "bandwidth"):
            ours = getattr(level, key)
            if math.isfinite(ours) and math.isinf(level.bandwidth):
                assert getattr(copied, key) == ours


def test_bad_files_are_one_clear_line():
    good = strict_yaml.loads(TWO_LEVELS, last_key_wins=True)
    cases = [
        (("memories",), "missing"),
        (("operational_array", "unit_energy"), "operational_array.unit_energy: missing"),
        (("memories", "rf", "r_cost"), "memories.rf.r_cost: missing; costs that ZigZag extracts"),
        (("memories", "rf", "ports"), "memories.rf.ports: missing"),
    ]
    for path, words in cases:
        data = copy.deepcopy(good)
        here = data
        for part in path[:-1]:
            here = here[part]
        del here[path[-1]]
        with pytest.raises(InputError) as caught:
            from_zigzag(data, file="zz.yaml")
        assert words in str(caught.value)
        assert str(caught.value).startswith("zz.yaml: ")
    for change, words in [
        ({"served_dimensions": ["D9"]}, "memories.rf.served_dimensions"),
        ({"operands": ["I3"]}, "memories.rf.operands.0"),
        ({"size": -1}, "memories.rf.size"),
        ({"ports": good["memories"]["rf"]["ports"][:1]}, "a port to read and one to write"),
    ]:
        data = copy.deepcopy(good)
        data["memories"]["rf"].update(change)
        with pytest.raises(InputError, match=words):
            from_zigzag(data, file="zz.yaml")
    for mapping in ({}, [{}], [{"spatial_mapping": {"D1": 3}}], 7):
        with pytest.raises(InputError, match="spatial_mapping"):
            from_zigzag(good, mapping, "zz.yaml")
    with pytest.raises(InputError, match=r"spatial_mapping\.D1"):
        from_zigzag(good, [{"spatial_mapping": {"D1": ["Z, 3"]}}], "zz.yaml")
    imc = copy.deepcopy(good)
    imc["operational_array"]["is_imc"] = True
    with pytest.raises(InputError, match="in-memory"):
        from_zigzag(imc)
    sizes = copy.deepcopy(good)
    sizes["operational_array"]["sizes"] = [4]
    with pytest.raises(InputError, match="one size for each"):
        from_zigzag(sizes)
