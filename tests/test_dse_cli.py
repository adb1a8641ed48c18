"""The command line: exit codes, one line for what is wrong, tables and JSON."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from costs import strict_yaml
from dse import cli, console

ROOT = Path(__file__).resolve().parent.parent
CHIP = ROOT / "costs" / "hardware" / "chips" / "quad_big_little.yaml"
CORE = ROOT / "costs" / "hardware" / "cores" / "tpu_like.yaml"


@pytest.fixture
def dse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Runs the command line in this process: arguments -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dse", *map(str, arguments)])
        code = cli.run_app()
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_bad_arguments_exit_2(dse):
    assert dse("nonsense")[0] == 2
    assert dse("run")[0] == 2
    assert dse("evaluate")[0] == 2
    assert dse("evaluate", "resnet18")[0] == 2
    assert dse("--help")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "absent.yaml"),
        ("resume", "absent"),
        ("report", "absent"),
        ("export", "absent", "--pick", "knee", "--out", "x"),
        ("evaluate", "absent.yaml"),
        ("evaluate", "absent", "tpu_like"),
        ("evaluate", "mlp", "absent"),
        ("evaluate", "mlp", "tpu_like", "--objective", "beauty"),
        ("evaluate", "--case", "absent.jsonl"),
        ("validate", "absent.yaml"),
        ("list", "nonsense"),
        ("schema", "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(arguments: tuple[str, ...], dse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = dse(*arguments)
    assert code == 2
    assert said.startswith("error: ")
    assert len(said.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def with_unknown_key(chip: dict) -> str:
    chip["drum"] = chip.pop("dram")
    return "drum"


def with_value_off_the_grid(chip: dict) -> str:
    chip["core_types"]["narrow"]["knobs"]["array"]["default"] = 5
    return "core_types.narrow.knobs.array.default"


def with_unreached_core(chip: dict) -> str:
    chip["cores"]["lonely"] = "narrow"
    return "lonely"


def with_link_to_nowhere(chip: dict) -> str:
    chip["links"][0]["cores"][0] = "nobody"
    return "nobody"


def with_negative_bandwidth(chip: dict) -> str:
    chip["dram"]["bandwidth_bytes_per_s"] = -1
    return "dram.bandwidth_bytes_per_s"


@pytest.mark.parametrize(
    "spoil",
    [
        with_unknown_key,
        with_value_off_the_grid,
        with_unreached_core,
        with_link_to_nowhere,
        with_negative_bandwidth,
    ],
)
def test_bad_chip_is_one_line(spoil: Callable[[dict], str], dse, tmp_path: Path):
    chip = strict_yaml.load(CHIP)
    expected = spoil(chip)
    file = tmp_path / "chip.yaml"
    strict_yaml.dump(chip, file)
    code, _, said = dse("validate", file)
    assert code == 2
    assert str(file) in said
    assert expected in said
    assert len(said.strip().splitlines()) == 1


def test_experiment_that_does_not_fit_its_network_is_one_line(dse, tmp_path: Path):
    text = (ROOT / "experiments" / "quickstart.yaml").read_text()
    file = tmp_path / "experiment.yaml"
    for old, new in (("stem.out", "stem.cout"), ("quad_big_little", "quad_bigger_little")):
        assert old in text
        file.write_text(text.replace(old, new))
        out = tmp_path / "run"
        code, _, said = dse("run", file, "--out", out)
        assert code == 2
        assert str(file) in said
        assert new in said
        assert len(said.strip().splitlines()) == 1
        assert not out.exists()


def test_validate_tells_the_kind_of_each_file(dse, tmp_path: Path):
    code, said, _ = dse("validate", CHIP, CORE)
    assert code == 0
    assert "valid chip quad_big_little" in said
    assert "valid core tpu_like" in said
    strange = tmp_path / "strange.yaml"
    strange.write_text("a: 1\n")
    code, said, _ = dse("validate", CHIP, strange, "--json")
    assert code == 2
    results = json.loads(said)
    assert [result["valid"] for result in results] == [True, False]
    assert "cannot tell what this describes" in results[1]["error"]


@pytest.mark.parametrize(
    "what", ["networks", "cores", "chips", "data", "technologies", "experiments"]
)
def test_list_prints_the_same_names_to_people_and_programs(what: str, dse, monkeypatch):
    monkeypatch.chdir(ROOT)
    code, said, _ = dse("list", what, "--json")
    assert code == 0
    names = [row["name"] for row in json.loads(said)]
    assert names
    code, table, _ = dse("list", what)
    assert code == 0
    assert all(name in table for name in names)
    assert json.loads(dse("list", "--json")[1])[what] == names


@pytest.mark.parametrize("what", ["experiment", "chip", "core", "case"])
def test_schema_is_a_json_schema(what: str, dse):
    code, said, _ = dse("schema", what)
    assert code == 0
    assert json.loads(said)["type"] == "object"


def test_evaluate_prints_layers_that_sum_to_the_total(dse, tmp_path: Path):
    figure = tmp_path / "layers.png"
    code, said, _ = dse("evaluate", "digits_resnet", "narrow_tile", "--json", "--figure", figure)
    assert code == 0
    found = json.loads(said)
    layers, total = found["layers"], found["total"]
    assert sum(layer["macs"] for layer in layers) == total["macs"]
    for key in ("energy_pj", "cycles", "dram_bytes"):
        assert sum(layer[key] for layer in layers) == pytest.approx(total[key], rel=1e-12)
    assert all(layer["distance_to_bound"] >= 1.0 for layer in layers)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_bounds_are_the_published_ones(dse):
    code, said, _ = dse(
        "evaluate", "vgg16", "communication_optimal", "--bounds", "--batch", 3, "--json"
    )
    assert code == 0
    found = json.loads(said)
    total = found["layers"][-1]
    assert found["onchip_bytes"] == [131.625 * 1024]
    # Chen, Han, Wang, HPCA 2020, recomputed: 165.2 and 317.8 MB
    assert total["compulsory_bytes"] / 1e6 == pytest.approx(165.2, abs=0.05)
    assert total["formula_bytes"][0] / 1e6 == pytest.approx(317.8, abs=0.06)
    assert total["macs"] == pytest.approx(46.040e9, rel=1e-4)


def test_module_and_command_are_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "dse", "list", "nonsense"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_reader_that_leaves_early_is_no_traceback():
    done = subprocess.run(
        f"{sys.executable} -m dse schema experiment | head -1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "{\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("io_bytes", 12_345, "12.3 kB"),
        ("energy_pj", 8.27e6, "8.27 uJ"),
        ("energy_pj", 0.5, "0.5 pJ"),
        ("latency_s", 3.2e-6, "3.2 us"),
        ("throughput_per_s", 2000.0, "2000"),
        ("validation_accuracy", 0.97251, "97.25 %"),
        ("macs", 1_234_567, "1,234,567"),
        ("cycles", 123_456.7, "123,457"),
        ("loss", float("nan"), "nan"),
        ("name", "a", "a"),
    ],
)
def test_values_are_short_and_have_their_unit(name: str, value: object, text: str):
    assert console.format_value(name, value) == text


def test_monitor_writes_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture):
    kept: list[str] = []
    monitor = console.Monitor(kept.append)
    monitor.phase("weights", 2, 7, 100)
    for step in range(1, 101):
        monitor.progress(step, {"loss": 0.5, "energy_pj": 2e6}, 61.0)
    monitor.close()
    monitor.close()
    assert kept == [
        "2/7 weights: 100 steps, preparing and compiling",
        "2/7 weights: step 1/100  1:01 left  loss 0.5  energy 2 uJ",
        "2/7 weights: step 100/100  done  loss 0.5  energy 2 uJ",
    ]
    assert capsys.readouterr().err.splitlines() == kept
