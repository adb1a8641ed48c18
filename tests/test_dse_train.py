"""`method: train` through the command line: its files, and that a kill changes none of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from dse import cli
from dse.context import plain_network
from dse.data import load_data
from dse.rundir import RunDir
from dse.session import load_config_of

EXPERIMENT = """
name: plain
method: train
data: {name: digits}
network: {name: digits_resnet, width_multiplier: 0.5}
training:
  {batch: 64, optimizer: sgd, learning_rate: 0.1, shift: 1, flip: true, cutout: 2,
   label_smoothing: 0.0}
train: {epochs: 4}
log_every: 3
checkpoint: {every_s: 0.0}
"""
FILES = ("epochs.csv", "result.csv", "weights.safetensors", "metrics.jsonl")


def call(*arguments: object) -> int:
    previous, sys.argv = sys.argv, ["dse", *map(str, arguments)]
    try:
        return cli.run_app()
    finally:
        sys.argv = previous


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("train") / "plain.yaml"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def whole(experiment) -> Path:
    """An uninterrupted run."""
    run = experiment.parent / "whole"
    assert call("run", experiment, "--out", run) == 0
    return run


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_one_row_for_each_epoch_and_accuracy_rises(whole):
    epochs = rows(whole / "epochs.csv")
    assert [float(row["epoch"]) for row in epochs] == [1, 2, 3, 4]
    assert [float(row["step"]) for row in epochs] == [15, 30, 45, 60]
    assert float(epochs[-1]["validation_accuracy"]) > 0.6
    assert float(epochs[-1]["train_loss"]) < float(epochs[0]["train_loss"])


def test_the_result_is_that_of_the_weights_on_disk(whole):
    """Predicted here from the weights alone, with the statistics that stand beside them."""
    (result,) = rows(whole / "result.csv")
    config = load_config_of(RunDir(whole))
    data = load_data("digits")
    net = plain_network(config, data)
    flat = load_file(whole / "weights.safetensors")
    params, stats = (
        {k.removeprefix(part): jnp.asarray(v) for k, v in flat.items() if k.startswith(part)}
        for part in ("params/", "stats/")
    )
    for name, split in (("validation", data.validation), ("test", data.test)):
        logits = net.apply(params, stats, jnp.asarray(split.inputs()))[0]
        correct = int(np.sum(np.argmax(logits, 1) == split.labels))
        assert int(result[f"{name}_correct"]) == correct
        assert float(result[f"{name}_accuracy"]) == correct / len(split)
    assert int(result["parameters"]) == sum(value.size for value in params.values())
    last = rows(whole / "epochs.csv")[-1]
    assert last["validation_accuracy"] == result["validation_accuracy"]


def test_the_report_stands_alone_and_is_drawn_again(whole, capsys):
    page = (whole / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert 'src="http' not in page
    assert "href" not in page
    (whole / "report.html").unlink()
    assert call("report", whole) == 0
    assert (whole / "report.html").read_text() == page
    assert "report.html" in capsys.readouterr().out


def test_json_for_a_program(whole, capsys):
    assert call("resume", whole, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["result"]["network"] == "digits_resnet"
    assert shown["result"]["pictures_per_s"] > 0


def test_killed_and_resumed_it_writes_the_same_bytes(experiment, whole):
    run = experiment.parent / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "dse", "run", str(experiment), "--out", str(run)],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(run.glob("checkpoints/*train*")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "result.csv").exists()
    assert call("resume", run) == 0
    for name in FILES:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_chunks_change_when_it_may_stop_and_not_what_it_computes(experiment, whole):
    run = experiment.parent / "chunks"
    assert call("run", experiment, "--out", run, "--set", "train.chunk=5") == 0
    for name in ("epochs.csv", "result.csv", "weights.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("method=surface", "chip"),
        ("network.name=none_such", "none_such"),
        ("train.epochs=0", "train.epochs"),
        ("data.name=none_such", "data.name"),
        ("training.optimizer=adam", "training.optimizer"),
    ],
)
def test_a_bad_key_is_one_line_and_leaves_nothing(experiment, override, key, capsys):
    run = experiment.parent / "bad"
    assert call("run", experiment, "--out", run, "--set", override) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert key in line
    assert not run.exists()


def test_its_network_is_exported_and_checked(whole, tmp_path, capsys):
    out = tmp_path / "out"
    assert call("export", whole, "--pick", "knee", "--out", out) == 2
    assert "--pick" in capsys.readouterr().err
    assert not out.exists()
    assert call("export", whole, "--out", out) == 0
    capsys.readouterr()
    assert call("evaluate", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (result,) = rows(whole / "result.csv")
    for split in ("validation", "test"):
        counted = found["correct"][split]
        assert counted["recorded"] == counted["stablehlo"] == int(result[f"{split}_correct"])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["comparison"]["equal_predictions_with_quantisers"] == 1.0
    assert {"model.onnx", "model.stablehlo", "weights.safetensors"} <= set(summary["files"])
    damaged = bytearray((out / "weights.safetensors").read_bytes())
    damaged[-1] ^= 1
    (out / "weights.safetensors").write_bytes(damaged)
    assert call("evaluate", out) == 2
    assert "SHA-256" in capsys.readouterr().err


def test_pictures_that_changed_since_the_run_began_are_refused(tmp_path, capsys):
    """Nothing is continued on other pictures, wherever they lie."""
    from dse.data import catalogue

    pictures = np.random.default_rng(0).integers(0, 256, (80, 8, 8), np.uint8)
    for name in ("train", "test"):
        np.savez(tmp_path / f"{name}.npz", pictures=pictures, labels=np.arange(80) % 10)
    (tmp_path / "e.yaml").write_text(EXPERIMENT.replace("digits}", f"{tmp_path}}}"))
    run = tmp_path / "run"
    assert call("run", tmp_path / "e.yaml", "--out", run, "--set", "train.epochs=1") == 0
    capsys.readouterr()
    pictures[3, 2, 1] ^= 1
    np.savez(tmp_path / "test.npz", pictures=pictures, labels=np.arange(80) % 10)
    catalogue._load.cache_clear()
    assert call("resume", run) == 2
    assert "changed since the run began" in capsys.readouterr().err
