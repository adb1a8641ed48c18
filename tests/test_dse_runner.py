"""Nothing is lost: killed, stopped, damaged or raced, a run never ends in another result.

Every process here runs the real command line (`interruptible_run.py` replaces the experiment only).
"""

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

SCRIPT = Path(__file__).with_name("interruptible_run.py")
PHASES = ("tables", "weights", "policy", "report")
CONFIG = """
name: interrupted
seed: 3
network: {name: any}
chip: any
checkpoint: {every_s: 0.1}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "config.yaml").write_text(CONFIG)
    code, said, _ = finish(begin(folder / "config.yaml", folder / "run"))
    assert code == 0, said
    return outcome(folder / "run")


def spawn(*arguments: object, **settings: object) -> subprocess.Popen:
    environment = {**os.environ, **{key: str(value) for key, value in settings.items()}}
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def begin(config: Path, run: Path, **settings: object) -> subprocess.Popen:
    return spawn("run", config, "--out", run, **settings)


def go_on(config: Path, run: Path, **settings: object) -> subprocess.Popen:
    """Resume, or begin where the run was killed before it had a configuration."""
    if (run / "config.yaml").exists():
        return spawn("resume", run, **settings)
    return begin(config, run, **settings)


def finish(process: subprocess.Popen) -> tuple[int, str, float]:
    """Exit code, what was said on stderr, seconds waited."""
    began_s = time.monotonic()
    _, said = process.communicate(timeout=120)
    return process.returncode, said, time.monotonic() - began_s


def wait_for(run: Path, event: str, phase: str, step: int = 0, timeout_s: float = 60.0) -> None:
    """Wait until timing.jsonl says that an event of a phase was reached."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        for line in _lines(run / "timing.jsonl"):
            if line["event"] == event and line["phase"] == phase and line["step"] >= step:
                return
        time.sleep(0.02)
    raise TimeoutError(f"{phase} never reached {event} {step}")


def _lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def outcome(run: Path) -> dict:
    """Everything that must be equal, bit by bit."""
    store = CheckpointStore(run / "checkpoints")
    results = {
        phase: to_host(store.load(f"{number:02d}-{phase}.result")[0]).digest()
        for number, phase in enumerate(PHASES)
    }
    files = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "front.csv")}
    return {**results, **files, "config": (run / "config.yaml").read_bytes()}


def kill_until_done(config: Path, run: Path, seed: int, kills: int) -> tuple[int, list[str]]:
    """Kill at random moments, then let it end; returns the kills that hit and complaints."""
    moments = random.Random(seed)
    hit, complaints = 0, []
    for _ in range(kills):
        process = go_on(config, run, STEP_S=0.01)
        try:
            process.wait(moments.uniform(0.2, 5.0))
        except subprocess.TimeoutExpired:
            process.kill()
            hit += 1
        code, said, _ = finish(process)
        if code not in (0, -signal.SIGKILL):
            complaints.append(said)
    code, said, _ = finish(go_on(config, run))
    return hit, complaints + ([] if code == 0 else [said])


def test_killed_run_ends_as_if_uninterrupted(config: Path, tmp_path: Path, uninterrupted: dict):
    hit, complaints = kill_until_done(config, tmp_path / "run", seed=1, kills=4)
    assert complaints == []
    assert hit >= 2
    assert outcome(tmp_path / "run") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_fifty_kills(seed: int, config: Path, tmp_path: Path, uninterrupted: dict):
    _, complaints = kill_until_done(config, tmp_path / "run", seed=seed + 100, kills=5)
    assert complaints == []
    assert outcome(tmp_path / "run") == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["weights", "policy"])
def test_kill_in_a_phase_of_choice(phase: str, config: Path, tmp_path: Path, uninterrupted: dict):
    run = tmp_path / "run"
    process = begin(config, run, STEP_S=0.03)
    wait_for(run, "step", phase, 10)
    process.kill()
    finish(process)
    code, said, _ = finish(spawn("resume", run))
    assert code == 0, said
    assert f"({phase}, step" in said
    assert outcome(run) == uninterrupted


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_signal_at_a_step_leaves_its_checkpoint(
    signum: int, code: int, config: Path, tmp_path: Path, uninterrupted: dict
):
    run = tmp_path / "run"
    process = begin(config, run, STEP_S=0.05)
    wait_for(run, "step", "weights", 20)
    process.send_signal(signum)
    exit_code, said, waited_s = finish(process)
    assert exit_code == code
    assert waited_s < 5.0
    assert "verified checkpoint 01-weights." in said
    assert "Traceback" not in said
    done, said, _ = finish(spawn("resume", run))
    assert done == 0, said
    assert outcome(run) == uninterrupted


def test_signal_during_compilation_saves_the_last_completed_step(
    config: Path, tmp_path: Path, uninterrupted: dict
):
    run = tmp_path / "run"
    process = begin(config, run, COMPILE_AT=30, STEP_S=0.01)
    wait_for(run, "step", "weights", 20)
    time.sleep(1.5)  # well into the compilation
    process.send_signal(signal.SIGTERM)
    code, said, waited_s = finish(process)
    assert code == 143
    assert waited_s < 5.0
    assert "verified checkpoint 01-weights.00000030 (weights, step 30) stands" in said
    done, said, _ = finish(spawn("resume", run))
    assert done == 0, said
    assert outcome(run) == uninterrupted


def test_signal_during_first_compilation_of_a_phase_names_the_phase_before(
    config: Path, tmp_path: Path
):
    run = tmp_path / "run"
    process = begin(config, run, COMPILE_AT=0)
    wait_for(run, "init", "weights")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    code, said, waited_s = finish(process)
    assert code == 130
    assert waited_s < 5.0
    assert "(tables, finished) stands" in said


def test_second_signal_ends_at_once(config: Path, tmp_path: Path):
    run = tmp_path / "run"
    process = begin(config, run, COMPILE_AT=0)
    wait_for(run, "init", "weights")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, _, waited_s = finish(process)
    assert code == 143
    assert waited_s < 1.0


def test_signal_before_any_step_says_that_there_is_no_checkpoint(config: Path, tmp_path: Path):
    run = tmp_path / "run"
    process = begin(config, run, STEP_S=1.5)
    wait_for(run, "init", "tables")
    process.send_signal(signal.SIGTERM)
    code, said, waited_s = finish(process)
    assert code == 143
    assert waited_s < 5.0
    assert "no checkpoint was written yet" in said


@pytest.mark.slow
def test_two_processes_have_one_winner(config: Path, tmp_path: Path):
    run = tmp_path / "run"
    first = begin(config, run, STEP_S=0.2)
    wait_for(run, "init", "tables")
    code, said, _ = finish(spawn("resume", run))
    first.kill()
    finish(first)
    assert code == 1
    assert f"process {first.pid} on " in said


def test_full_disk_keeps_the_previous_checkpoint(config: Path, tmp_path: Path, uninterrupted: dict):
    run = tmp_path / "run"
    code, said, _ = finish(begin(config, run, STEP_S=0.01, FILE_LIMIT_AT=60))
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "could not be written" in last
    assert "earlier ones are untouched" in last
    code, said, _ = finish(spawn("resume", run))
    assert code == 0, said
    assert outcome(run) == uninterrupted
