"""Whole runs of a small experiment: what they write, that nothing is lost, that costs are exact."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from costs import strict_yaml
from dse.design import evaluate_design, load_design

CHIP = """
name: two_by_two
core_types:
  narrow:
    core: narrow_tile
    knobs:
      array: {values: [4, 8], default: 4}
      weight_buffer: {values: [2048, 4096], default: 2048}
  wide:
    core: wide_tile
    knobs:
      array: {values: [4, 8], default: 8}
      weight_buffer: {values: [2048, 4096], default: 4096}
cores: {n0: narrow, n1: narrow, w0: wide, w1: wide}
links:
  - {name: bus, cores: [n0, n1, w0, w1], bandwidth_bytes_per_s: 2.0e+8, energy_pj_per_bit: 2.0}
dram: {bandwidth_bytes_per_s: 1.6e+9, energy_pj_per_bit: lpddr4}
"""

EXPERIMENT = """
name: small
network:
  name: digits_resnet
  width_multiplier: 0.25
  bottlenecks: [stem.out, stage1.block0.out, stage2.block1.out]
  bits: 4
chip: CHIP
hardware: {area_budget_mm2: 2.0}
training: {batch: 64, calibration_pictures: 64}
surface:
  weights: {steps: 60}
  predictor: {designs: 16}
  policy: {steps: 40, batch: 4}
  selection: {candidates: 8, designs: 5}
  finetune: {steps: 4}
joint: {steps: 40, preference: {io_bytes: 0.3, energy: 0.2}}
checkpoint: {every_s: 0.3}
log_every: 5
"""

REQUESTS = (
    "requests=[{budget: {io_bytes: 300}}, {preference: {energy: 0.5}}, {budget: {io_bytes: 70}}]"
)
"""The input and the output alone are 74 bytes, so the last cannot be met."""


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Path:
    """The experiment's file."""
    folder = tmp_path_factory.mktemp("experiment")
    (folder / "chip.yaml").write_text(CHIP)
    path = folder / "small.yaml"
    path.write_text(EXPERIMENT.replace("CHIP", str(folder / "chip.yaml")))
    return path


def start(arguments: list, folder: Path) -> subprocess.Popen:
    """`dse` in a process of its own, its cost tables cached beside the experiment."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "dse", *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(arguments: list, folder: Path) -> str:
    """Run `dse` to its end; what it printed."""
    process = start(arguments, folder)
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == 0, printed
    return printed


@pytest.fixture(scope="session")
def told(experiment) -> tuple[Path, str]:
    """An uninterrupted run with requests, and what it printed."""
    out = experiment.parent / "surface"
    return out, finish(["run", experiment, "--out", out, "--set", REQUESTS], experiment.parent)


@pytest.fixture(scope="session")
def surface_run(told) -> Path:
    """That run."""
    return told[0]


def rows_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "front.csv").read_text().splitlines()))


def answers_of(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "answers.csv").read_text().splitlines()))


def check_answers(run: Path, printed: str) -> None:
    """The budget is kept by the most accurate, the preference has its own, no budget is bent."""
    rows, answers = rows_of(run), answers_of(run)
    assert [row["request"] for row in answers] == [
        "io_bytes <= 300", "prefer energy 0.5", "io_bytes <= 70",
    ]  # fmt: skip
    by_id = {row["id"]: row for row in rows}
    met = [row for row in rows if float(row["io_bytes"]) <= 300]
    best = max(float(row["validation_accuracy"]) for row in met)
    assert float(by_id[answers[0]["id"]]["io_bytes"]) <= 300
    assert float(by_id[answers[0]["id"]]["validation_accuracy"]) == best
    assert float(by_id[answers[1]["id"]]["preference_energy"]) == 0.5
    assert answers[2]["id"] == ""
    name, nearest = answers[2]["nearest"].split()
    assert name == "io_bytes"
    assert 74 < float(nearest) <= min(float(row["io_bytes"]) for row in rows)
    none = f"no design that was found keeps it, the nearest has io_bytes {nearest}"
    assert f"io_bytes <= 70: {none}" in printed
    assert none in (run / "report.html").read_text()


def test_requests_are_answered_by_the_run(told):
    check_answers(*told)


def test_front_is_mutually_nondominated_and_complete(surface_run):
    rows = rows_of(surface_run)
    points = np.array(
        [
            [-float(r["validation_accuracy"]), float(r["io_bytes"]), float(r["energy_pj"])]
            for r in rows
        ]
    )
    asked = {row["id"] for row in answers_of(surface_run)}  # these stay in any case
    for i, row in enumerate(points):
        others = np.delete(points, i, axis=0)
        dominated = ((others <= row).all(axis=1) & (others < row).any(axis=1)).any()
        assert not dominated or rows[i]["id"] in asked
    for row in rows:
        assert float(row["io_bytes"]) == float(row["link_bytes"]) + float(row["dram_bytes"])
        parts = [float(v) for k, v in row.items() if k.startswith("energy_") and k != "energy_pj"]
        assert sum(parts) == pytest.approx(float(row["energy_pj"]), rel=1e-12)
        for part in ("validation", "test"):
            low, high = float(row[f"{part}_low"]), float(row[f"{part}_high"])
            assert low <= float(row[f"{part}_accuracy"]) <= high
        assert float(row["area_mm2"]) <= 2.0
        assert (surface_run / "designs" / f"{row['id']}.safetensors").is_file()
    assert (surface_run / "report.html").is_file()


def test_every_cost_equals_that_of_the_design_alone(surface_run):
    """From designs/<id>.yaml only, tables made anew for that design: the same to the last bit."""
    for row in rows_of(surface_run):
        alone = evaluate_design(surface_run / "designs" / f"{row['id']}.yaml")
        for name, value in alone["costs"].items():
            assert float(row[name]) == value, name


def test_design_files_name_widths_cores_and_sizes(surface_run):
    for row in rows_of(surface_run):
        design = load_design(surface_run / "designs" / f"{row['id']}.yaml")
        for boundary, width in design.widths.items():
            assert int(row[f"width_{boundary}"]) == width
        for layer, core in design.assignment.items():
            assert row[f"core_{layer}"] == core
        assert sum(design.preference.values()) == pytest.approx(1.0, abs=1e-6)


def test_metrics_have_every_phase_and_no_clock(surface_run):
    lines = [json.loads(line) for line in (surface_run / "metrics.jsonl").read_text().splitlines()]
    assert {line["phase"] for line in lines} >= {"weights", "predictor", "policy", "selection"}
    assert not any("second" in key for line in lines for key in line)


def compare_runs(run: Path, reference: Path) -> None:
    """Two runs hold the same bytes in everything that is not a wall-clock figure."""
    names = ["front.csv", "metrics.jsonl"]  # the report also shows how long each phase took
    names += sorted(str(p.relative_to(reference)) for p in (reference / "designs").iterdir())
    for name in names:
        assert (run / name).read_bytes() == (reference / name).read_bytes(), name


def test_killed_and_resumed_run_is_bit_identical(experiment, surface_run):
    """Killed in the weights phase; `test_dse_resume.py` kills in every phase, many times."""
    out = experiment.parent / "killed"
    process = start(["run", experiment, "--out", out, "--set", REQUESTS], experiment.parent)
    metrics = out / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finish(["resume", out], experiment.parent)
    compare_runs(out, surface_run)


@pytest.mark.slow
def test_one_chip_and_requests_killed_in_the_policy_and_resumed(experiment):
    """`hardware.mode: shared` with requests: one chip in all rows, every request answered."""
    options = ["--set", "hardware.mode=shared", "--set", REQUESTS]
    options += ["--set", "surface.policy.steps=400"]
    whole, killed = (experiment.parent / name for name in ("shared", "shared_killed"))
    printed = finish(["run", experiment, "--out", whole, *options], experiment.parent)
    process = start(["run", experiment, "--out", killed, *options], experiment.parent)
    metrics = killed / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and '"policy"' in metrics.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    finish(["resume", killed], experiment.parent)
    compare_runs(killed, whole)

    rows = rows_of(whole)
    for name in rows[0]:
        if name.startswith("knob_") or name in ("area_mm2", "hardware_gap"):
            assert len({row[name] for row in rows}) == 1, name
    check_answers(whole, printed)
    less = ["ask", whole, "--budget", "io_bytes=200", "--json"]
    found = json.loads(finish(less, experiment.parent))
    for kind, sizes in found["hardware"].items():
        assert {f"knob_{kind}_{knob}": str(size) for knob, size in sizes.items()}.items() <= (
            rows[0].items()
        )


def test_sigterm_leaves_a_verified_checkpoint(experiment):
    out = experiment.parent / "stopped"
    process = start(["run", experiment, "--out", out], experiment.parent)
    time.sleep(10)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(timeout=60)[0]
    assert time.monotonic() - began < 5
    assert process.returncode == 143, printed
    assert "checkpoint" in printed


def test_joint_run_optimizes_one_design_and_keeps_its_budget(experiment):
    out = experiment.parent / "joint"
    budget = ["--set", "method=joint", "--set", "joint.budget.io_bytes=400"]
    finish(["run", experiment, "--out", out, *budget], experiment.parent)
    rows = rows_of(out)
    assert len(rows) == 1
    assert float(rows[0]["io_bytes"]) <= 400
    alone = evaluate_design(out / "designs" / "d00.yaml")
    assert float(rows[0]["energy_pj"]) == alone["costs"]["energy_pj"]


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", ["softmax", "gumbel", "cuts", "perturbed"])
def test_joint_run_by_any_relaxation_prices_what_it_reports(experiment, relaxation):
    out = experiment.parent / f"joint_{relaxation}"
    chosen = ["--set", "method=joint", "--set", f"assignment.relaxation={relaxation}"]
    finish(["run", experiment, "--out", out, *chosen], experiment.parent)
    (row,) = rows_of(out)
    alone = evaluate_design(out / "designs" / "d00.yaml")
    assert float(row["energy_pj"]) == alone["costs"]["energy_pj"]
    assert float(row["assignment_gap_after"]) <= float(row["assignment_gap_before"])


def test_budget_that_nothing_keeps_fails_in_one_line(experiment):
    """The input and the output alone are 74 bytes."""
    out = experiment.parent / "impossible"
    budget = ["--set", "method=joint", "--set", "joint.budget.io_bytes=70"]
    process = start(["run", experiment, "--out", out, *budget], experiment.parent)
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == 1
    assert "no design that was found keeps the budgets" in printed.splitlines()[-1]
    assert "Traceback" not in printed


def test_bottleneck_wider_than_its_boundary_is_one_line(experiment, tmp_path):
    out = tmp_path / "refused"
    wide = ["--set", "network.largest_width=99"]
    process = start(["run", experiment, "--out", out, *wide], experiment.parent)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 2
    assert len(printed.strip().splitlines()) == 1
    assert "network.largest_width" in printed
    assert "99" in printed
    assert not out.exists()


def test_fixed_hardware_stays_as_described(experiment):
    from dse.config import load_config
    from dse.context import make_context

    context = make_context(load_config(experiment, ["hardware.mode=fixed"]))
    assert all(t.shape == (1, 1, 1) for t in context.chip.types)
    sizes = [t.knobs[0][1][0] for t in context.chip.types]
    assert sizes == [4, 8]


def test_design_with_a_foreign_width_is_refused(surface_run, tmp_path):
    from costs.errors import InputError

    path = surface_run / "designs" / "d00.yaml"
    document = strict_yaml.load(path)
    document["widths"]["stem.out"] = 99
    strict_yaml.dump(document, tmp_path / "bad.yaml")
    with pytest.raises(InputError, match=r"widths\.stem\.out"):
        evaluate_design(tmp_path / "bad.yaml")


def test_a_finished_surface_answers_preferences_and_budgets(surface_run, tmp_path):
    folder = surface_run.parent
    file = tmp_path / "asked.yaml"
    asked = ["ask", surface_run, "--prefer", "io_bytes=0.5", "--out", file, "--json"]
    found = json.loads(finish(asked, folder))
    assert set(found["widths"]) == {"stem.out", "stage1.block0.out", "stage2.block1.out"}
    again = evaluate_design(file)["costs"]
    assert again == found["costs"]

    limit = 0.8 * found["costs"]["io_bytes"]
    less = json.loads(
        finish(["ask", surface_run, "--budget", f"io_bytes={limit}", "--json"], folder)
    )
    assert less["costs"]["io_bytes"] <= limit

    process = start(["ask", surface_run, "--budget", "io_bytes=70"], folder)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert re.search(r"keeps the budgets: .*io_bytes 70 \(found [\d.]+\)", printed)
    assert "Traceback" not in printed


def test_bottlenecks_pay_where_links_are_dear(surface_run, tmp_path):
    out = tmp_path / "diagram"
    finish(["break-even", surface_run, "--out", out, "--tolerance", "0.5"], surface_run.parent)
    rows = [
        {name: float(value) for name, value in row.items()}
        for row in csv.DictReader((out / "break_even.csv").read_text().splitlines())
    ]
    saved = {(r["mac_pj"], r["link_pj_per_bit"]): r["saved"] for r in rows}
    macs, links = (sorted({r[name] for r in rows}) for name in ("mac_pj", "link_pj_per_bit"))
    assert all(value >= 0 for value in saved.values())
    assert saved[macs[0], links[-1]] > saved[macs[-1], links[0]]
    for mac in macs:
        along = [saved[mac, link] for link in links]
        assert along == sorted(along)  # the rest of the energy weighs ever less
    assert all(r["ratio"] == 1.0 for r in rows if r["saved"] == 0.0)
    assert (out / "break_even.png").stat().st_size > 10_000
