"""What a session refuses, and what a run directory holds afterwards; all in this process."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from costs.errors import InputError
from dse import session
from dse.config import Experiment, parse_config
from dse.lock import exclusive_lock
from dse.outcomes import RunError
from dse.rundir import RunDir, new_run_path


class Counting:
    """Adds its index to a vector; may fail at a step, or return a bad metric."""

    def __init__(self, name: str, steps: int, fail_at: int = -1, bad: float | None = None):
        self.name, self.steps, self.fail_at, self.bad = name, steps, fail_at, bad

    def init(self, outputs):
        return {"x": np.zeros(3), "before": sorted(outputs)}

    def step(self, state: dict, index: int) -> tuple[dict, dict | None]:
        bad = self.bad if self.bad is not None and index == self.fail_at else 0.0
        if index == self.fail_at and self.bad is None:
            raise RunError("fails as it was told to")
        return {**state, "x": state["x"] + index}, {"task": bad, "traffic": 1.0, "loss": bad + 1.0}

    def result(self, state):
        return {"x": state["x"]}


def settings(**changes: object) -> Experiment:
    return parse_config(
        {
            "name": "small",
            "network": {"name": "any"},
            "chip": "any",
            "checkpoint": {"every_s": 0.0},
            "log_every": 2,
            **changes,
        }
    )


def counting(*phases: Counting) -> session.MakePhases:
    def make(config: Experiment, rundir: RunDir) -> Sequence[Counting]:
        return phases

    return make


def half_a_run(path: Path) -> None:
    """A run that failed at step 7 of its second phase."""
    with pytest.raises(RunError, match="as it was told"):
        session.begin(settings(), path, counting(Counting("a", 3), Counting("b", 9, fail_at=7)))


TWO = counting(Counting("a", 3), Counting("b", 9))


def test_run_writes_every_file_and_returns_every_result(tmp_path: Path):
    outputs = session.begin(settings(), tmp_path / "run", TWO)
    np.testing.assert_array_equal(outputs["b"]["x"], np.full(3, 36.0))
    names = {entry.name for entry in (tmp_path / "run").iterdir()}
    assert names >= {"config.yaml", "environment.json", "metrics.jsonl", "timing.jsonl", "run.log"}
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in lines] == [
        ("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 4), ("b", 6), ("b", 8), ("b", 9),
    ]  # fmt: skip
    assert all(set(line) == {"phase", "step", "task", "traffic", "loss"} for line in lines)


def test_failed_run_resumes_to_the_same_files(tmp_path: Path):
    half_a_run(tmp_path / "half")
    outputs = session.resume(tmp_path / "half", [], TWO)
    whole = session.begin(settings(), tmp_path / "whole", TWO)
    np.testing.assert_array_equal(outputs["b"]["x"], whole["b"]["x"])
    for name in ("metrics.jsonl", "config.yaml"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "continues from 01-b.0000000" in (tmp_path / "half" / "run.log").read_text()


def test_finished_run_resumes_to_its_results(tmp_path: Path):
    session.begin(settings(), tmp_path / "run", TWO)
    metrics = (tmp_path / "run/metrics.jsonl").read_bytes()
    outputs = session.resume(tmp_path / "run", [], TWO)
    np.testing.assert_array_equal(outputs["b"]["x"], np.full(3, 36.0))
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == metrics


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_loss_stops_the_run_and_names_the_first_bad_term(bad: float, tmp_path: Path):
    phases = counting(Counting("a", 3), Counting("b", 9, fail_at=4, bad=bad))
    with pytest.raises(
        RunError, match=rf"phase b, step 5: task is {bad}; verified checkpoint 01-b"
    ):
        session.begin(settings(), tmp_path / "run", phases)
    text = (tmp_path / "run/metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


def test_state_that_became_nan_is_not_saved(tmp_path: Path):
    class Bad(Counting):
        def step(self, state: dict, index: int) -> tuple[dict, dict | None]:
            return {**state, "x": np.array([1.0, np.nan])}, None

    with pytest.raises(RunError, match="phase b, step 1: the state /x has become NaN"):
        session.begin(settings(), tmp_path / "run", counting(Counting("a", 3), Bad("b", 9)))


def test_changed_configuration_is_refused_with_the_difference(tmp_path: Path):
    run = tmp_path / "run"
    half_a_run(run)
    with pytest.raises(InputError, match="seed: 0 -> 4"):
        session.resume(run, ["seed=4"], TWO)
    stored = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(stored.replace("seed: 0", "seed: 5"))
    with pytest.raises(InputError, match="seed: 0 -> 5"):
        session.resume(run, [], TWO)
    (run / "config.yaml").write_text(stored)
    session.resume(run, ["checkpoint.every_s=5", "log_every=2"], TWO)


@pytest.mark.parametrize("what", ["chip", "network"])
def test_a_changed_file_of_the_users_own_is_refused(tmp_path: Path, what: str):
    own = tmp_path / {"chip": "chip.yaml", "network": "net.py"}[what]
    own.write_text("a: 1")
    named = {"chip": str(own), "network": {"name": f"{own}:Net"}}[what]
    run = tmp_path / "run"
    phases = counting(Counting("a", 3), Counting("b", 9, fail_at=7))
    with pytest.raises(RunError):
        session.begin(settings(**{what: named}), run, phases)
    own.write_text("a: 2")
    with pytest.raises(InputError, match="changed since the run began"):
        session.resume(run, [], TWO)


def test_other_environment_is_said(tmp_path: Path):
    run = tmp_path / "run"
    half_a_run(run)
    environment = json.loads((run / "environment.json").read_text())
    environment["packages"]["jax"] = "0.0.1"
    (run / "environment.json").write_text(json.dumps(environment))
    session.resume(run, [], TWO)
    assert "packages.jax: '0.0.1' -> " in (run / "run.log").read_text()


def test_directory_that_is_no_place_for_a_run_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is not empty: it holds file"):
        session.begin(settings(), tmp_path, TWO)
    with pytest.raises(InputError, match="is a file"):
        session.begin(settings(), tmp_path / "file", TWO)
    with pytest.raises(InputError, match="not a run directory"):
        session.resume(tmp_path / "absent", [], TWO)
    session.begin(settings(), tmp_path / "run", TWO)
    with pytest.raises(InputError, match="holds a run already"):
        session.begin(settings(), tmp_path / "run", TWO)


def test_locked_run_is_left_alone(tmp_path: Path):
    half_a_run(tmp_path / "run")
    with exclusive_lock(tmp_path / "run"), pytest.raises(RunError, match="in use by process"):
        session.resume(tmp_path / "run", [], TWO)


def test_signal_handlers_are_given_back(tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    session.begin(settings(), tmp_path / "run", TWO)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_run_directories_are_numbered(tmp_path: Path):
    assert new_run_path(tmp_path, "a") == tmp_path / "a"
    (tmp_path / "a").mkdir()
    (tmp_path / "a-2").mkdir()
    assert new_run_path(tmp_path, "a") == tmp_path / "a-3"
