"""Runs the phases of an experiment, step by step, so that nothing is lost when it is killed.

A phase is three pure functions of trees (`dse.state_tree`) and everything random in it derives from
the seed and the step index. The runner keeps checkpoints of the running phase and the results of
the finished ones; whatever it resumes from, the rest of the run repeats bit by bit. What is logged
when, and saved when, depends on configuration and clock; what is computed does not.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dse.checkpoint import CheckpointStore
from dse.outcomes import RunError
from dse.recovery import Start, is_step, result_names, standing, step_name
from dse.rundir import RunDir
from dse.signals import StopRequest
from dse.state_tree import HostTree, Tree, from_host, settle, to_host

_SLOW_STEP_S = 0.5  # after a step this long, a copy of its state costs nothing beside it
_SPACE_FACTOR = 3  # free disk required at the start of a phase, in states of it


class Phase(Protocol):
    """One part of a run.

    A phase may define `count(outputs) -> int` instead of a fixed `steps`, and `bind(outputs)`,
    which is called before anything else, also when a phase is continued from the middle.
    """

    @property
    def name(self) -> str:
        """Its name, unique in the run: the key of its result."""
        ...

    @property
    def steps(self) -> int:
        """How many steps it takes."""
        ...

    def init(self, outputs: dict[str, Tree]) -> Tree:
        """The state before the first step, from the results of earlier phases; deterministic."""
        ...

    def step(self, state: Tree, index: int) -> tuple[Tree, dict[str, Any] | None]:
        """One step; may donate jax arrays of `state`, must not write into its numpy arrays.

        Returns:
            The next state, and scalars to log (or None). The first that is not finite names
            the failure, so put terms before their sum.
        """
        ...

    def result(self, state: Tree) -> Tree:
        """What later phases get as `outputs[name]`."""
        ...


class View(Protocol):
    """What the runner tells whoever watches (`dse.console`)."""

    def phase(self, name: str, number: int, of: int, steps: int) -> None:
        """A phase begins: its first step compiles."""
        ...

    def progress(self, step: int, metrics: dict[str, float], seconds_left: float) -> None:
        """A step was completed."""
        ...

    def say(self, text: str) -> None:
        """A line worth keeping."""
        ...


@dataclass(frozen=True)
class Schedule:
    """When to log and to save. Never changes what is computed.

    Attributes:
        log_every: Steps between two lines of metrics.jsonl.
        checkpoint_every_s: Seconds between two checkpoints of a running phase.
        keep: Checkpoints of running phases to keep.
    """

    log_every: int = 10
    checkpoint_every_s: float = 10.0
    keep: int = 3


@dataclass(frozen=True)
class _Completed:
    """The last completed step: its state, live or copied, and what to say of it in a checkpoint."""

    phase: int
    steps_done: int
    state: Tree
    copy: HostTree | None


class Runner:
    """One run: its phases, where it stands, and its checkpoints."""

    def __init__(
        self,
        phases: Sequence[Phase],
        store: CheckpointStore,
        rundir: RunDir,
        view: View,
        *,
        schedule: Schedule,
        facts: dict[str, Any],
        stop: StopRequest,
    ) -> None:
        """Bind a run.

        Args:
            phases: What to do, in order.
            store: Where checkpoints stand.
            rundir: Where metrics and timing go.
            view: Who watches.
            schedule: When to log and save.
            facts: JSON kept in every checkpoint, such as the configuration.
            stop: Set when a signal asks to stop.
        """
        self._phases = phases
        self._store = store
        self._rundir = rundir
        self._view = view
        self._schedule = schedule
        self._facts = facts
        self._stop = stop
        self._boundary = threading.Lock()  # held at step boundaries, where the state is consistent
        self._completed: _Completed | None = None
        self._pending: tuple[int, int, dict[str, Any]] | None = None
        self._began_s = 0.0
        self._resumed_at = 0
        self._steps = 0  # of the running phase

    def run(self, start: Start) -> dict[str, Tree]:
        """Do what is left to do after `start`.

        Returns:
            The results of all phases by name.

        Raises:
            Stopped: A signal came; a checkpoint was written.
            RunError: A metric or a state became NaN.
        """
        hosts = {name: to_host(tree) for name, tree in start.outputs.items()}
        for number in range(len(hosts), len(self._phases)):
            hosts[self._phases[number].name] = self._run_phase(number, hosts, start)
        return _fresh(hosts)

    def rescue(self) -> str:
        """Checkpoint the last completed step while a step is under way (called from outside).

        A step that has begun to execute may have taken the arrays of the completed state for its
        own (donation); then the newest checkpoint on the disk is what stands.
        """
        with self._boundary:
            completed = self._completed
            if completed is not None:
                with contextlib.suppress(RuntimeError, OSError):
                    self._save_completed(completed, wait=True)
            return standing(self._store.folder)

    def _run_phase(self, number: int, hosts: dict[str, HostTree], start: Start) -> HostTree:
        phase = self._phases[number]
        bind: Callable[[dict[str, Tree]], None] | None = getattr(phase, "bind", None)
        if bind is not None:
            bind(_fresh(hosts))
        count: Callable[[dict[str, Tree]], int] | None = getattr(phase, "count", None)
        steps = phase.steps if count is None else count(_fresh(hosts))
        self._view.phase(phase.name, number + 1, len(self._phases), steps)
        self._began_s, self._steps = time.monotonic(), steps
        if start.phase == number and start.state is not None:
            state, first = settle(start.state), start.steps_done
        else:
            state, first = settle(phase.init(_fresh(hosts))), 0
            self._store.require_space(_SPACE_FACTOR * to_host(state).size_bytes)
        self._resumed_at = first
        self._rundir.log_timing(phase=phase.name, event="init", step=first, seconds=self._spent())
        with self._boundary:
            self._completed = _Completed(number, first, state, None) if first else None
        saved_at_s = time.monotonic()
        for index in range(first, steps):
            began_s = time.monotonic()
            state, metrics = phase.step(state, index)
            state = settle(state)
            if index == first:
                self._rundir.log_timing(
                    phase=phase.name, event="first step", step=index + 1, seconds=self._spent()
                )
            with self._boundary:
                self._log_pending()
                slow = time.monotonic() - began_s > _SLOW_STEP_S
                copy = to_host(state) if slow else None
                self._completed = _Completed(number, index + 1, state, copy)
                if metrics is None:
                    self._show(index + 1, {})
                else:
                    self._pending = (number, index + 1, metrics)
                if self._stop:
                    self._save_completed(self._completed, wait=True)
                    self._stop.raise_stopped(standing(self._store.folder))
                due = time.monotonic() - saved_at_s >= self._schedule.checkpoint_every_s
                if due and index + 1 < steps and not self._store.busy:
                    self._save_completed(self._completed, wait=False)
                    saved_at_s = time.monotonic()
        self._log_pending()
        result = to_host(settle(phase.result(state)))
        with self._boundary:
            self._save_result(number, result)
            self._completed = None
        self._rundir.log_timing(phase=phase.name, event="done", step=steps, seconds=self._spent())
        if self._stop:
            self._stop.raise_stopped(standing(self._store.folder))
        return result

    def _spent(self) -> float:
        return round(time.monotonic() - self._began_s, 4)

    def _log_pending(self) -> None:
        """Log the previous step's metrics, one step late: the device computes meanwhile."""
        if self._pending is None:
            return
        (number, step, metrics), self._pending = self._pending, None
        name = self._phases[number].name
        values = {key: float(value) for key, value in metrics.items()}
        for key, value in values.items():
            if not math.isfinite(value):
                self._store.finish()
                raise RunError(
                    f"phase {name}, step {step}: {key} is {value}; {standing(self._store.folder)}"
                )
        if step % self._schedule.log_every == 0 or step in (1, self._steps):
            self._rundir.log_metrics(name, step, values)
            self._rundir.log_timing(phase=name, event="step", step=step, seconds=self._spent())
        self._show(step, values)

    def _show(self, step: int, values: dict[str, float]) -> None:
        done = step - self._resumed_at
        left_s = (self._steps - step) * self._spent() / done if done > 0 else math.inf
        self._view.progress(step, values, left_s)

    def _save_completed(self, completed: _Completed, *, wait: bool) -> None:
        self._log_pending()
        name = step_name(completed.phase, self._phases[completed.phase].name, completed.steps_done)
        if name in self._store.names() and not self._store.busy:
            return
        host = completed.copy or to_host(completed.state)
        self._require_no_nan(host, completed)
        meta = self._meta(completed.phase, completed.steps_done)
        if wait:
            self._store.save(name, host, meta)
        else:
            self._store.save_async(name, host, meta)
        self._prune()

    def _save_result(self, number: int, result: HostTree) -> None:
        meta = self._meta(number, None)
        for name in result_names(number, self._phases[number].name):
            self._store.save(name, result, meta)
        self._prune()

    def _prune(self) -> None:
        steps = [name for name in self._store.names() if is_step(name)]
        for name in steps[: -self._schedule.keep]:
            self._store.remove(name)

    def _meta(self, number: int, steps_done: int | None) -> dict[str, Any]:
        return {
            "phase": self._phases[number].name,
            "number": number,
            "steps_done": steps_done,
            "metrics": self._rundir.metrics_position(),
            "facts": self._facts,
        }

    def _require_no_nan(self, host: HostTree, completed: _Completed) -> None:
        label = host.first_nan()
        if label is not None:
            raise RunError(
                f"phase {self._phases[completed.phase].name}, step {completed.steps_done}: "
                f"the state {label} has become NaN; {standing(self._store.folder)}"
            )


def _fresh(hosts: dict[str, HostTree]) -> dict[str, Tree]:
    """The results so far, in arrays of their own: who gets them may donate them."""
    return {name: from_host(host) for name, host in hosts.items()}
