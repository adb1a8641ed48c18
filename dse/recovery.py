"""Where a run stands: the names of its checkpoints, and the point from which it is continued.

Results of finished phases are kept twice, checkpoints of the running phase a few times; a
checkpoint of phase n needs the results of the phases before it. A damaged one is named and the
previous good one is used, back to the start of a phase whose predecessors are sound. If checkpoints
exist and none of them leads anywhere, the run is not started over: that is the user's decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse import manifest
from dse.manifest import DamagedCheckpoint
from dse.outcomes import RunError
from dse.rundir import RunDir

if TYPE_CHECKING:  # orbax and jax take a second to import, which saying what stands must not need
    from dse.checkpoint import CheckpointStore
    from dse.state_tree import Tree

_RESULT = "result"
_COPY = "result-copy"


@dataclass(frozen=True)
class Start:
    """Where to go on.

    Attributes:
        outputs: Results of the finished phases by name.
        phase: Number of the phase to continue or begin.
        steps_done: Completed steps of it.
        state: Its state, or None to begin it.
        metrics: Position of metrics.jsonl at that point; None at the very beginning.
        checkpoint: Name of the checkpoint used, if any.
        facts: What the runner was given as `facts` when it wrote that checkpoint.
    """

    outputs: dict[str, Tree]
    phase: int = 0
    steps_done: int = 0
    state: Tree | None = None
    metrics: dict[str, Any] | None = None
    checkpoint: str | None = None
    facts: dict[str, Any] | None = None


def step_name(number: int, phase: str, steps_done: int) -> str:
    """Name of a checkpoint inside a phase, such as `01-weights.00000120`."""
    return f"{number:02d}-{phase}.{steps_done:08d}"


def result_names(number: int, phase: str) -> tuple[str, str]:
    """Names of the two copies of a phase's result."""
    return f"{number:02d}-{phase}.{_RESULT}", f"{number:02d}-{phase}.{_COPY}"


def is_step(name: str) -> bool:
    """Whether a name is that of a checkpoint inside a phase."""
    return name.rpartition(".")[2].isdigit()


def standing(checkpoints: Path) -> str:
    """A sentence that names the newest verified checkpoint, or says that there is none."""
    for name in sorted(manifest.names(checkpoints), key=_age, reverse=True):
        try:
            manifest.verify(checkpoints / name)
        except DamagedCheckpoint:
            continue
        return f"verified checkpoint {describe(name)} stands"
    if manifest.names(checkpoints):
        return "none of the checkpoints is sound"
    return "no checkpoint was written yet"


def describe(name: str) -> str:
    """A checkpoint's name in words: `weights, step 120` or `weights, finished`."""
    phase, _, point = name.partition("-")[2].rpartition(".")
    return (
        f"{name} ({phase}, step {int(point)})" if is_step(name) else f"{name} ({phase}, finished)"
    )


def choose_start(
    phase_names: Sequence[str], store: CheckpointStore, rundir: RunDir, warn: Callable[[str], None]
) -> Start:
    """The newest point that is sound in every bit.

    Args:
        phase_names: The phases of the run, in order.
        store: Its checkpoints.
        rundir: Whose metrics.jsonl must begin as each checkpoint recorded.
        warn: Told of every checkpoint that is passed over.

    Raises:
        RunError: There are checkpoints, and none can be used; nothing was deleted.
    """
    damaged: list[str] = []

    def sound(name: str) -> tuple[Tree, dict[str, Any]] | None:
        try:
            tree, meta = store.load(name)
            if not rundir.matches_metrics(meta["metrics"]):
                raise DamagedCheckpoint(
                    f"checkpoint {name}: metrics.jsonl does not begin as it did when it was written"
                )
        except DamagedCheckpoint as error:
            warn(f"warning: {error}; it is not used")
            damaged.append(name)
            return None
        return tree, meta

    present = set(store.names())
    start = Start({})
    for number, phase in enumerate(phase_names):
        copies = [name for name in result_names(number, phase) if name in present]
        found = next(filter(None, map(sound, copies)), None)
        if found is None:
            break
        tree, meta = found
        outputs = {**start.outputs, phase: tree}
        start = Start(outputs, number + 1, 0, None, meta["metrics"], copies[0], meta["facts"])
    if start.phase < len(phase_names):
        start = _newest_step(start, phase_names[start.phase], present, sound)
    if start.checkpoint is None and damaged:
        raise RunError(
            f"{store.folder}: none of the {len(damaged)} checkpoints is sound; "
            "nothing was deleted. Restore one from a backup, or start a new run"
        )
    for name in damaged:
        store.set_aside(name)
    return start


def _newest_step(
    start: Start,
    phase: str,
    present: set[str],
    sound: Callable[[str], tuple[Tree, dict[str, Any]] | None],
) -> Start:
    """Continue inside the phase that `start` would begin, where a checkpoint allows it."""
    prefix = step_name(start.phase, phase, 0).rpartition(".")[0]
    names = [name for name in present if is_step(name) and name.rpartition(".")[0] == prefix]
    for name in sorted(names, reverse=True):
        found = sound(name)
        if found is not None:
            tree, meta = found
            return Start(
                start.outputs,
                start.phase,
                meta["steps_done"],
                tree,
                meta["metrics"],
                name,
                meta["facts"],
            )
    return start


def _age(name: str) -> tuple[str, bool, str]:
    """Sorts checkpoints as they were written: by phase, steps before results."""
    phase, _, point = name.rpartition(".")
    return phase, not is_step(name), point
