"""Configuration: typed, strict, and every error one line that names file, key, value, allowed."""

import json
import random
from pathlib import Path

import pytest

from costs import strict_yaml
from costs.errors import InputError
from dse.config import (
    Experiment,
    differences,
    forbidden_changes,
    load_config,
    parse_config,
    resolved,
)

VALID = """\
# a valid experiment
name: fuzzed
question: does it load?
seed: 7
method: surface
data: {name: digits}
network:
  name: digits_resnet
  bottlenecks: [stem.out, stage1.block0.out]
  bits: 8
  width_multiplier: 1.5
  largest_width: {stem.out: 4}
chip: quad_big_little
hardware: {mode: per_design, area_budget_mm2: 2.0}
surface:
  weights: {steps: 1500}
  policy: {steps: 800, batch: 16, learning_rate: 3e-3}
joint:
  preference: {io_bytes: 0.2, energy: 0.2}
  budget: {energy: 1e6}
log_every: 5
checkpoint: {every_s: 2.5, keep: 2}
"""


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    path = tmp_path / "valid.yaml"
    path.write_text(VALID)
    return path


def rejected(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(InputError) as error:
        load_config(path, overrides)
    text = str(error.value)
    assert "\n" not in text
    return text


def test_resolved_configuration_reads_back_as_itself(valid: Path, tmp_path: Path):
    config = load_config(valid)
    again = tmp_path / "again.yaml"
    strict_yaml.dump(resolved(config), again)
    assert load_config(again) == config
    assert resolved(load_config(again)) == resolved(config)


def test_exponents_are_numbers_and_whole_numbers_are_reals(valid: Path):
    config = load_config(valid)
    assert config.surface.policy.learning_rate == 3e-3
    assert config.joint.budget.energy == 1e6
    override = load_config(valid, ["hardware.area_budget_mm2=3"])
    assert override.hardware.area_budget_mm2 == 3.0


def test_set_changes_one_key_and_types_it_as_yaml_does(valid: Path):
    changed = load_config(valid, ["seed=9", "method=joint", "network.bottlenecks=[a, b]"])
    assert (changed.seed, changed.method, changed.network.bottlenecks) == (9, "joint", ["a", "b"])
    assert differences(resolved(load_config(valid)), resolved(changed)) == [
        "seed: 7 -> 9",
        "method: 'surface' -> 'joint'",
        "network.bottlenecks: ['stem.out', 'stage1.block0.out'] -> ['a', 'b']",
    ]


def test_only_logging_and_saving_may_change_on_resume(valid: Path):
    old = resolved(load_config(valid))
    harmless = resolved(load_config(valid, ["log_every=50", "checkpoint.every_s=60"]))
    assert len(differences(old, harmless)) == 2
    assert forbidden_changes(old, harmless) == []
    assert forbidden_changes(old, resolved(load_config(valid, ["seed=8"]))) == ["seed: 7 -> 8"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("seed: 7", "sed: 7", ["valid.yaml", "sed", "did you mean seed?"]),
        ("seed: 7", "seed: seven", ["seed", "'seven'", "0 to 2147483647"]),
        ("seed: 7", "seed: -1", ["seed", "got -1", "from 0"]),
        ("seed: 7", "seed: 7.0", ["seed", "got 7.0"]),
        ("seed: 7", "seed: 7\nseed: 8", ["valid.yaml:5", "seed"]),
        ("name: fuzzed", "name: ../up", ["name", "'../up'"]),
        ("name: fuzzed", "", ["name", "is required"]),
        ("method: surface", "method: surfaces", ["method", "did you mean surface?", "'joint'"]),
        ("bits: 8", "bits: 99", ["network.bits", "got 99", "from 2 to 16"]),
        ("bits: 8", "bits: yes", ["network.bits", "'yes'"]),
        ("area_budget_mm2: 2.0", "area_budget_mm2: -2", ["hardware.area_budget_mm2", "got -2"]),
        ("area_budget_mm2: 2.0", "area_budget_mm2: .inf", ["hardware.area_budget_mm2", "finite"]),
        ("policy: {steps: 800", "policy: {stepz: 800", ["surface.policy.stepz", "steps"]),
        ("data: {name: digits}", "data: digits", ["data", "mapping", "'digits'"]),
        ("data: {name: digits}", "data: &a {name: digits}", ["valid.yaml:6", "alias"]),
        ("energy: 0.2}", "energy: 0.9}", ["joint.preference", "sum to less than 1"]),
        ("stem.out: 4", "stem.out: 0", ["network.largest_width"]),
        (
            "data: {name: digits}",
            "assignment: {relaxation: cuts}",
            ["assignment.relaxation", "method: surface would ignore it", "'cuts'", "method: joint"],
        ),
    ],
)
def test_error_names_file_key_value_and_what_is_allowed(
    old: str, new: str, expected: list[str], valid: Path
):
    assert old in VALID
    valid.write_text(VALID.replace(old, new))
    text = rejected(valid)
    for part in [str(valid), *expected]:
        assert part in text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", ["--set", "a.b=value"]),
        ("=3", ["--set", "a.b=value"]),
        ("seed=x", ["--set", "seed", "'x'"]),
        ("sede=3", ["--set", "sede", "did you mean seed?"]),
        ("seed.deep=3", ["--set", "seed"]),
        ("surface.weights.steps=0", ["--set", "surface.weights.steps", "from 1"]),
        ("data={name: [", ["--set"]),
        ("assignment.relaxation=cuts", ["--set", "assignment.relaxation", "'cuts'"]),
    ],
)
def test_error_of_an_override_names_set(override: str, expected: list[str], valid: Path):
    text = rejected(valid, [override])
    for part in expected:
        assert part in text


def test_missing_and_foreign_files_are_input_errors(tmp_path: Path):
    assert "cannot be read" in rejected(tmp_path / "absent.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(256)))
    rejected(binary)
    binary.write_text("- a\n- b\n")
    assert "mapping of keys" in rejected(binary)


def test_every_key_of_the_schema_is_documented():
    schema = Experiment.model_json_schema()
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for key, field in section["properties"].items():
            assert "description" in field or "$ref" in field, f"{section['title']}.{key}"


def mutate(text: str, chance: random.Random) -> str:
    """One to three random changes of bytes, lines, tokens or values."""
    for _ in range(chance.randint(1, 3)):
        lines = text.split("\n")
        line = chance.randrange(len(lines))
        place = chance.randrange(len(text) + 1)
        tokens = text.replace("{", " { ").replace(",", " , ").split(" ")
        values = ("", "null", "1e999", "-1", "[]", "{}", "&a b", "*a", "!!python/none", "0x1F", "~")
        change = chance.randrange(7)
        if change == 0:
            text = text[:place] + chr(chance.randrange(1, 0x500)) + text[place:]
        elif change == 1:
            text = text[:place] + text[place + chance.randint(1, 9) :]
        elif change == 2:
            text = "\n".join(lines[:line] + lines[line + 1 :])
        elif change == 3:
            text = "\n".join([*lines, lines[line]])
        elif change == 4:
            key, colon, _ = lines[line].partition(":")
            lines[line] = f"{key}{colon} {chance.choice(values)}"
            text = "\n".join(lines)
        elif change == 5:
            chance.shuffle(tokens)
            text = " ".join(tokens) if chance.random() < 0.1 else text
        else:
            lines[line] = " " * chance.randint(0, 6) + lines[line].lstrip()
            text = "\n".join(lines)
        text = text or "x"
    return text


def test_a_thousand_mutated_files_give_a_configuration_or_one_line(tmp_path: Path):
    chance = random.Random(0)
    path = tmp_path / "mutated.yaml"
    accepted = 0
    for _ in range(1000):
        path.write_text(mutate(VALID, chance), encoding="utf-8", errors="surrogatepass")
        config, problem = None, ""
        try:
            config = load_config(path)
        except InputError as error:
            problem = str(error)
        if config is None:
            assert "\n" not in problem
            assert str(path) in problem
        else:
            accepted += 1
            json.dumps(resolved(config), allow_nan=False)
            assert parse_config(resolved(config)) == config
    assert 50 < accepted < 900


def test_a_chip_file_beside_its_experiment_is_found_from_anywhere(tmp_path, monkeypatch):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "mine.yaml").write_text("{}")
    (folder / "e.yaml").write_text("name: e\nnetwork: {name: digits_resnet}\nchip: mine.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert load_config(folder / "e.yaml").chip == str(folder / "mine.yaml")
    (folder / "mine.yaml").unlink()  # then it is relative to the working directory
    assert load_config(folder / "e.yaml").chip == "mine.yaml"
    assert load_config(folder / "e.yaml", ["chip=quad_equal"]).chip == "quad_equal"


def test_a_network_file_beside_its_experiment_is_found_from_anywhere(tmp_path, monkeypatch):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "net.py").write_text("")
    (folder / "e.yaml").write_text('name: e\nnetwork: {name: "net.py:Net"}\n')
    monkeypatch.chdir(tmp_path)
    assert load_config(folder / "e.yaml").network.name == f"{folder / 'net.py'}:Net"
    assert load_config(folder / "e.yaml", ["network.name=net.py:Net"]).network.name == "net.py:Net"
    (folder / "net.py").unlink()  # then it is relative to the working directory
    assert load_config(folder / "e.yaml").network.name == "net.py:Net"
