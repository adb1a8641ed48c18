"""`method: insitu` and `method: skipping` as a user runs them: tables, figures, stop, resume."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from costs import strict_yaml
from dse.cli import app
from dse.config import parse_config
from dse.export_network import export_network
from dse.exported import check_export
from dse.insitu import DistillationPhase, ProjectionPhase, make_insitu_context
from dse.insitu_compare import ComparePhase
from dse.skipping import SkippingPhase, make_skipping_context
from dse.skipping_measure import MeasurePhase, make_predict
from dse.teacher import TeacherPhase, draw_batch
from models.insitu import generate
from models.skipping_count import count_kept

INSITU = """
name: tiny
seed: 1
method: insitu
data: {name: digits}
network: {name: small_cnn}
training: {batch: 32, calibration_pictures: 32}
insitu: {bases: 2-8-3-6-3, teacher_steps: 3, projection_steps: 2, steps: 4, memory_preference: 0.5}
log_every: 1
checkpoint: {every_s: 0.0}
"""
SKIPPING = """
name: tiny
seed: 1
method: skipping
data: {name: digits}
network: {name: small_cnn}
training: {batch: 32}
skipping: {blocks: [conv], base_steps: 2, steps: 4, keep: [0.5, 0.5]}
log_every: 1
"""


def config_of(text: str, **changes: object):
    document = strict_yaml.loads(text)
    section = document[document["method"]]
    section.update(changes)
    return parse_config(document)


def copied(outputs: dict) -> dict:
    """Arrays of their own, as the runner gives them: a phase may donate what it gets."""
    return jax.tree.map(lambda x: jnp.array(x) if isinstance(x, jax.Array) else x, outputs)


def run_phase(phase, outputs: dict) -> dict:
    if hasattr(phase, "bind"):
        phase.bind(copied(outputs))
    state = phase.init(copied(outputs))
    for index in range(phase.steps):
        state, _ = phase.step(state, index)
    return outputs | {phase.name: phase.result(state)}


@pytest.fixture(scope="module")
def insitu(tmp_path_factory: pytest.TempPathFactory) -> dict:
    config = config_of(INSITU, width_learning_rate=1.5, freeze_widths=0.75)
    context = make_insitu_context(config)
    folder = tmp_path_factory.mktemp("insitu")
    outputs: dict = {}
    for phase in (
        TeacherPhase(config, context.data, context.dense, config.insitu.teacher_steps),
        ProjectionPhase(context),
        DistillationPhase(context),
        ComparePhase(context, folder),
    ):
        outputs = run_phase(phase, outputs)
    with open(folder / "result.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    (folder / "config.yaml").write_text(strict_yaml.dumps(config.model_dump(mode="json")))
    return {"outputs": outputs, "rows": rows, "context": context, "folder": folder}


def test_rows_compare_dense_projected_and_generated(insitu: dict) -> None:
    dense, projected, generated = insitu["rows"]
    assert [row["id"] for row in insitu["rows"]] == ["dense", "projected", "in_situ"]
    assert float(dense["memory_ratio"]) == 1.0
    assert float(projected["memory_ratio"]) < 1.0
    for row in (projected, generated):
        assert float(row["weight_dram_bytes"]) < float(dense["weight_dram_bytes"])
        assert float(row["generation_macs"]) > 0 == float(dense["generation_macs"])
        assert row["macs"] == dense["macs"]


def test_relaxed_bases_shrink_and_the_cut_network_is_the_masked_one(insitu: dict) -> None:
    widths = insitu["outputs"]["distillation"]["widths"]
    largest = {path: f.basis[0] for path, f in insitu["context"].factors.items()}
    assert any(cross < largest[path] for path, (_, cross) in widths.items())
    _, projected, generated = insitu["rows"]
    assert float(generated["memory_ratio"]) < float(projected["memory_ratio"])


def test_the_export_holds_the_bases_as_whole_numbers(insitu: dict, tmp_path: Path) -> None:
    """Decoded by what the summary says, they give the kernels that the network computes with."""
    out = tmp_path / "out"
    export_network(insitu["folder"], out)
    assert check_export(out)["matches"]
    summary = json.loads((out / "summary.json").read_text())
    stored = load_file(out / "bases.safetensors")
    weights = load_file(out / "weights.safetensors")
    for path, (intra, cross) in summary["bases_of_kernels"].items():
        decoded, trained = {}, {}
        for name, bits in summary["bits"].items():
            codes = stored.get(f"{path}.{name}.codes")
            if codes is None:  # a level that makes this kernel no smaller
                assert name == "coefficients"
                continue
            assert codes.dtype == np.uint8
            assert codes.max() <= 2**bits - 1
            decoded[name] = stored[f"{path}.{name}.scale"] * (2 * codes / (2**bits - 1) - 1)
            trained[name] = jnp.asarray(weights[f"params/{path}.{name}"])
        inside = decoded["basis"]
        if "coefficients" in decoded:
            assert inside.shape[:2] == (cross, intra)
            inside = decoded["coefficients"] @ inside
        kernel = np.einsum("on,nct->tco", decoded["mixing"], inside)
        old = insitu["context"].factors[path]
        factors = replace(old, **{name: value.shape for name, value in decoded.items()})
        np.testing.assert_allclose(kernel, generate(factors, trained), atol=1e-6)


def test_projection_is_nearer_after_its_steps(insitu: dict) -> None:
    """Gradient steps through the quantisers improve on truncation followed by quantisation."""
    context = insitu["context"]
    phase = ProjectionPhase(context)
    phase.bind(copied(insitu["outputs"]))
    state = phase.init({})
    losses = []
    for index in range(30):
        state, metrics = phase.step(state, index % phase.steps)
        assert metrics is not None
        losses.append(float(metrics["projection_loss"]))
    assert losses[-1] < losses[0]


def test_skipping_counts_agree_with_the_formula(tmp_path: Path) -> None:
    config = config_of(SKIPPING, learned=False)
    context = make_skipping_context(config)
    outputs: dict = {}
    for phase in (
        TeacherPhase(config, context.data, context.dense, config.skipping.base_steps),
        SkippingPhase(context),
        MeasurePhase(context, tmp_path),
    ):
        outputs = run_phase(phase, outputs)
    with open(tmp_path / "result.csv", newline="") as file:
        dense, skipping = csv.DictReader(file)
    assert float(dense["macs_share_measured"]) == 1.0
    ratios, formula, measured, error = (
        float(skipping[f"macs_share_{k}"]) for k in ("ratios", "formula", "measured", "error")
    )
    kept = sum(layer.macs for name, layer in context.layers.items() if name not in context.block_of)
    for path in context.block_of:
        layer = context.layers[path]
        channels = max(1, round(0.5 * layer.C)) / layer.C
        columns = round(0.5 * layer.input_height * layer.input_width)
        kept += layer.macs * channels * columns / (layer.input_height * layer.input_width)
    assert ratios == pytest.approx(kept / context.workload.macs, rel=1e-9)
    assert measured == pytest.approx(ratios, rel=0.1)
    assert 0 < error < 0.01
    # 32 calibration pictures: their own error is larger than that of 400 test pictures
    assert measured == pytest.approx(formula, abs=4 * error * (1 + 400 / 32) ** 0.5)
    assert float(skipping["traffic_share_measured"]) == pytest.approx(
        float(skipping["traffic_share_formula"]), rel=1e-6
    )


def test_a_network_that_skips_is_exported_as_it_was_measured(tmp_path: Path) -> None:
    config = config_of(SKIPPING, base_steps=1, steps=2)
    context = make_skipping_context(config)
    outputs = run_phase(TeacherPhase(config, context.data, context.dense, 1), {})
    for phase in (SkippingPhase(context), MeasurePhase(context, tmp_path)):
        outputs = run_phase(phase, outputs)
    (tmp_path / "config.yaml").write_text(strict_yaml.dumps(config.model_dump(mode="json")))
    export_network(tmp_path, tmp_path / "out")
    found = check_export(tmp_path / "out")
    assert found["matches"]
    with open(tmp_path / "result.csv", newline="") as file:
        skipping = list(csv.DictReader(file))[1]
    assert found["correct"]["test"]["recorded"] == int(skipping["test_correct"])


def test_what_the_objective_counts_is_what_is_measured() -> None:
    """Beside targeted dropout too: what it spares is not what the network will compute."""
    text = SKIPPING.replace("{batch: 32}", "{batch: 32, shift: 0}")
    config = config_of(text, freeze_shares=0.0, dropped=[0.3, 0.3])
    context = make_skipping_context(config)
    net, _ = context.dense.init(jax.random.key(0))
    phase = SkippingPhase(context)
    state = phase.init(copied({"teacher": {"params": net, "rest": []}}))
    _, metrics = phase.step(state, 0)
    assert metrics is not None
    predict = make_predict(context, net, [], np.full((1, 2), 0.5, np.float32))
    _, masks = predict(jnp.asarray(draw_batch(config, context.data, 0)[0]))
    found = {path: count_kept(context.layers[path], *pair) for path, pair in masks.items()}
    shares = context.shares_of(found)
    assert float(metrics["macs_share"]) == pytest.approx(float(shares["macs"].mean()), rel=1e-5)
    assert float(metrics["traffic_share"]) == pytest.approx(
        float(np.mean(shares["bytes"])), rel=1e-5
    )


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        (INSITU, {"bases": "900-900-3-6-3"}, "insitu.bases"),
        (INSITU, {"bases": "2-8-3-6-77"}, "insitu qv"),
        (INSITU, {"bases": "two"}, "insitu.bases"),
        (INSITU, {"core": "nowhere"}, "nowhere"),
        (SKIPPING, {"blocks": []}, "skipping.blocks"),
        (SKIPPING, {"blocks": ["nowhere"]}, "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_two(text: str, changes: dict, said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    document = strict_yaml.loads(text)
    document[document["method"]].update(changes)
    file.write_text(strict_yaml.dumps(document))
    found = CliRunner().invoke(app, ["validate", str(file)])
    assert found.exit_code == 2
    assert said in found.output


def test_evaluate_refuses_bases_that_generate_nothing() -> None:
    result = CliRunner().invoke(app, ["evaluate", "mlp", "tpu_like", "--insitu", "2-8-3-6-3"])
    assert "no kernel of the network" in str(result.exception)


@pytest.mark.slow
def test_evaluate_shows_dense_and_generated_side_by_side() -> None:
    command = ["evaluate", "digits_resnet", "tpu_like", "--insitu", "2-8-3-6-3", "--json"]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    dense, generated = found["totals"]
    assert generated["weight_dram_bytes"] < 0.2 * dense["weight_dram_bytes"]
    assert generated["energy_by_part_pj"]["generation"] > 0
    assert sum(layer["energy_pj"] for layer in found["layers"]) == pytest.approx(
        generated["energy_pj"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("text", [INSITU, SKIPPING], ids=["insitu", "skipping"])
def test_a_stopped_run_ends_as_an_uninterrupted_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text.replace("steps: 4", "steps: 40"))
    tables = []
    for name, stops in (("whole", False), ("stopped", True)):
        run = tmp_path / name
        command = [sys.executable, "-m", "dse", "run", str(file), "--out", str(run)]
        if stops:
            process = subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            while '"step": 5' not in _read(run / "metrics.jsonl").rpartition("teacher")[2]:
                assert process.poll() is None
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
            command = [sys.executable, "-m", "dse", "resume", str(run)]
        subprocess.run(command, check=True, capture_output=True)
        assert (run / "report.html").exists()
        assert {path.name for path in (run / "figures").iterdir()} == {
            "comparison.png", "training.png",
        }  # fmt: skip
        tables.append((run / "result.csv").read_bytes())
    assert tables[0] == tables[1]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
