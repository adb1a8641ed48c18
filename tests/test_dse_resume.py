"""The real experiment, killed once in every one of its phases, ends bit by bit as if it was not."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dse.checkpoint import CheckpointStore
from dse.state_tree import to_host

CONFIG = """
name: small
seed: 3
network: {name: digits_resnet, bottlenecks: [stem.out, stage2.block0.out]}
chip: quad_big_little
hardware: {mode: fixed}
surface:
  weights: {steps: 24}
  predictor: {designs: 16}
  policy: {steps: 20, batch: 4}
  selection: {candidates: 8, designs: 3}
  finetune: {steps: 4}
joint: {steps: 20}
checkpoint: {every_s: 0.2}
log_every: 2
"""
PHASES = {
    "surface": (
        "tables", "weights", "predictor", "policy", "selection", "finetune", "front", "report",
    ),
    "joint": ("tables", "joint"),
}  # fmt: skip


def spawn(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "dse", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def begins(process: subprocess.Popen, run: Path, phase: str) -> bool:
    """Wait until a phase has begun; False if the process ended before."""
    log = run / "timing.jsonl"
    while process.poll() is None:
        lines = log.read_text().splitlines() if log.exists() else []
        if any(json.loads(line)["phase"] == phase for line in lines if line.endswith("}")):
            return True
        time.sleep(0.05)
    return False


def outcome(run: Path) -> dict[str, object]:
    """Everything that must be equal: results of all phases, metrics, front, designs."""
    store = CheckpointStore(run / "checkpoints")
    results = {
        name: to_host(store.load(name)[0]).digest()
        for name in store.names()
        if name.endswith(".result")
    }
    files = [run / "metrics.jsonl", run / "front.csv", *sorted((run / "designs").iterdir())]
    return {**results, **{str(file.relative_to(run)): file.read_bytes() for file in files}}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["surface", "joint"])
def test_killed_in_every_phase(method: str, tmp_path: Path):
    config = tmp_path / "small.yaml"
    config.write_text(CONFIG + f"method: {method}\n")
    whole = spawn("run", config, "--out", tmp_path / "whole")
    _, said = whole.communicate()
    assert whole.returncode == 0, said
    moments = random.Random(0)
    run = tmp_path / "killed"
    process = spawn("run", config, "--out", run)
    for phase in PHASES[method]:
        if not begins(process, run, phase):
            break  # the last phase can be over before it is seen
        time.sleep(moments.uniform(0.0, 3.0))
        process.kill()
        _, said = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), said
        process = spawn("resume", run)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert outcome(run) == outcome(tmp_path / "whole")
