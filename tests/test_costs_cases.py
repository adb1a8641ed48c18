"""Files of cases: what is right is read, what is wrong is one line with file, line and key."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costs.cases import build_case, case_schema, evaluate_cases, read_cases
from costs.conventions import ZIGZAG, Conventions
from costs.errors import InputError
from costs.evaluate import evaluate

CASE: dict[str, Any] = {
    "layer": {"name": "conv", "K": 8, "C": 8, "P": 4, "Q": 4, "R": 3, "S": 3},
    "core": "nvdla_like",
    "mapping": {
        "loops": [["P", 4], ["Q", 4], ["R", 3], ["S", 3]],
        "stored": {
            "W": {"convolution_buffer": 0, "weight_register": 4},
            "I": {"convolution_buffer": 0},
            "O": {"accumulator": 2},
        },
        "spatial": {"rows": [["C", 8]], "columns": [["K", 8]]},
    },
}


def write(path, cases):
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return path


def test_cases_are_read_in_order_with_their_lines(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(CASE) + "\n\n" + json.dumps({**CASE, "conventions": "zigzag"}))
    first, second = read_cases(path)
    assert (first.line, second.line) == (1, 3)
    assert first.layer.macs == 8 * 8 * 4 * 4 * 9
    assert first.mapping.position("W", "weight_register") == 4
    assert first.core is second.core
    assert second.conventions == ZIGZAG


def test_cases_cost_the_same_together_as_alone(tmp_path):
    """Whatever their cores, conventions and order."""
    variants = [
        {**CASE, "conventions": name, "layer": {**CASE["layer"], "K": channels}}
        for channels in (8, 3, 1)
        for name in ("timeloop", "zigzag", "accelforge")
    ]
    wide = copy.deepcopy(CASE)
    wide["core"] = "wide_tile"
    stored = {"W": {"weight_buffer": 0, "weight_register": 4}, "I": {"global_buffer": 0}}
    wide["mapping"]["stored"] = {**stored, "O": {"global_buffer": 0, "accumulator": 2}}
    cases = list(read_cases(write(tmp_path / "c.jsonl", [*variants[:4], wide, *variants[4:]])))
    together = evaluate_cases(cases)
    assert len(together) == len(cases) == 10
    for case, cost in zip(cases, together, strict=True):
        assert cost == evaluate(case.layer, case.core, case.mapping, case.conventions)
        json.dumps(cost.to_dict(), allow_nan=False)


def test_inline_core_and_conventions():
    core = {
        "name": "flat",
        "clock_hz": 1e9,
        "array": {},
        "mac": {"energy_pj": 1.0},
        "levels": [
            {"name": "dram", "kind": "dram", "operands": ["W", "I", "O"], "energy_pj_per_bit": 1}
        ],
    }
    mapping = {"loops": [[dim, size] for dim, size in CASE["layer"].items() if dim != "name"]}
    options = {"halo": "whole", "buffering": 2}
    case = build_case({**CASE, "core": core, "mapping": mapping, "conventions": options})
    assert case.core.name == "flat"
    assert case.conventions == Conventions(halo="whole", buffering=2)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["layer", "K"], 0, "layer.K: not allowed (got 0"),
        (["layer", "K"], 2.5, "layer.K: not allowed (got 2.5"),
        (["layer", "Z"], 1, "layer.Z: unknown key"),
        (["layer", "groups"], 3, "conv.groups: not allowed (got 3; allowed: a divisor of K=8)"),
        (["layer", "padding"], [[0, 0]], "layer.padding: not allowed"),
        (["core"], "nvdla", "core: no shipped core of that name, did you mean nvdla_like?"),
        (["core"], 3, "core: not allowed (got 3"),
        (["core"], {"name": "x"}, "core.clock_hz: missing"),
        (["mapping", "loops", 3], ["S", 1], "allowed: factors with a product from 3"),
        (["mapping", "loops", 0], ["X", 4], "mapping.loops.0.0: not allowed (got 'X'"),
        (["mapping", "loops", 0], ["P"], "mapping.loops.0: missing"),
        (["mapping", "loops", 0], ["P", -4], "mapping.loops.0.1: not allowed (got -4"),
        (["mapping", "spatial", "rows"], [["C", 16]], "spatial.rows: not allowed (got 16"),
        (["mapping", "spatial", "diagonal"], [["C", 1]], "diagonal"),
        (["mapping", "stored", "O", "accumulator"], 9, "an integer from 0 to 4"),
        (["mapping", "stored", "O", "scratch"], 1, "stored.O: not allowed (got 'scratch'"),
        (["conventions"], "zig", "allowed: timeloop, accelforge, zigzag"),
        (["conventions"], {"halo": "x"}, "conventions.halo: not allowed (got 'x'"),
        (["conventions"], {"helo": "x"}, "conventions.helo: unknown key, did you mean halo?"),
    ],
)
def test_a_bad_case_is_one_clear_line(tmp_path, path, value, words):
    case = copy.deepcopy(CASE)
    here: Any = case
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    file = write(tmp_path / "c.jsonl", [CASE, case])
    with pytest.raises(InputError) as caught:
        list(read_cases(file))
    message = str(caught.value)
    assert message.startswith(f"{file}:2: ")
    assert words in message, message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a mapping"),
        ('{"layer": {}, "layer": {}}', "duplicate key 'layer'"),
        ('{"layer": NaN}', "NaN is not a number"),
        ("[" * 100_000, "not JSON"),
        ("3" * 5000, "not JSON"),
        ("x" * 1_000_001, "line too long"),
    ],
)
def test_hostile_lines_are_refused(tmp_path, text, words):
    file = tmp_path / "c.jsonl"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        list(read_cases(file))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        list(read_cases(tmp_path / "none.jsonl"))
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        list(read_cases(tmp_path / "b"))


def paths_of(data, prefix=()):
    """Every place of nested data."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*prefix, key)
        if isinstance(value, dict | list):
            yield from paths_of(value, (*prefix, key))


PLACES = sorted(paths_of(CASE), key=str)
junk = st.sampled_from(
    [None, True, -1, 0, 1.5, "", "x", [], {}, [[]], 10**30, "W", ["W"], {"a": 1}]
)


@given(st.lists(st.tuples(st.sampled_from(PLACES), junk), min_size=1, max_size=3))
def test_any_mutation_is_a_case_or_one_line(changes):
    data = copy.deepcopy(CASE)
    for path, value in changes:
        here: Any = data
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
        build_case(data, "c.jsonl", 7)
    except InputError as error:
        message = str(error)
    assert "\n" not in message


def test_schema_accepts_the_example_and_names_every_key():
    schema = case_schema()
    text = json.dumps(schema)
    for key in ("capacity_bytes", "stored", "halo", "zigzag", "groups", "operands"):
        assert f'"{key}"' in text
    assert set(schema["required"]) == {"layer", "core", "mapping"}
    references = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert references <= set(schema["$defs"])
