"""One process's share of a run: takes the lock, finds where to go on, works, stops on signals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costs import strict_yaml
from costs.errors import InputError
from dse.config import Experiment, differences, forbidden_changes, load_config, resolved
from dse.console import Monitor
from dse.lock import exclusive_lock
from dse.outcomes import RunError
from dse.recovery import Start, choose_start, describe, standing
from dse.rundir import KNOWN_FILES, RunDir, write_atomically
from dse.signals import StopRequest, supervise
from models.registry import is_user_network

if TYPE_CHECKING:
    from dse.runner import Phase, Runner
    from dse.state_tree import Tree

MakePhases = Callable[[Experiment, RunDir], "Sequence[Phase]"]


def begin(config: Experiment, path: Path, make_phases: MakePhases) -> dict[str, Tree]:
    """Make a run directory and work until the run is done.

    Args:
        config: What to do.
        path: The directory, new or empty.
        make_phases: Builds the phases; called in the working thread.

    Returns:
        The results of all phases by name.
    """
    rundir = RunDir(path)
    if rundir.config_file.exists():
        raise InputError(f"holds a run already; `dse resume {path}` continues it", file=path)
    if path.exists() and not path.is_dir():
        raise InputError("is a file; a run needs a directory", file=path)
    if path.is_dir() and (foreign := sorted(set(_listed(path)) - KNOWN_FILES)):
        raise InputError(f"is not empty: it holds {foreign[0]}", file=path)
    rundir.create()
    with exclusive_lock(path):
        try:
            return _work(config, rundir, make_phases)
        except InputError:
            rundir.discard_unless_begun()
            raise


def resume(path: Path, overrides: Sequence[str], make_phases: MakePhases) -> dict[str, Tree]:
    """Continue a run from its newest sound checkpoint; arguments and result as for `begin`.

    Args:
        path: The run directory.
        overrides: `a.b=c` each; only keys that never change what is computed.
        make_phases: Builds the phases.
    """
    rundir = RunDir(path)
    rundir.require_run()
    with exclusive_lock(path) as stale:
        rundir.create()
        stored = load_config_of(rundir)
        config = load_config_of(rundir, overrides)
        _refuse_changes(resolved(stored), config, "--set")
        return _work(config, rundir, make_phases, stale)


def load_config_of(rundir: RunDir, overrides: Sequence[str] = ()) -> Experiment:
    """The configuration stored in a run directory, with overrides."""
    return load_config(rundir.config_file, list(overrides))


def _work(
    config: Experiment, rundir: RunDir, make_phases: MakePhases, stale: str | None = None
) -> dict[str, Tree]:
    monitor = Monitor(rundir.log_text)
    running: list[Runner] = []

    def work(stop: StopRequest) -> dict[str, Tree]:
        from dse.checkpoint import CheckpointStore
        from dse.runner import Runner, Schedule

        if stale is not None:
            monitor.say(f"the lock that {stale} left behind was taken over")
        phases = make_phases(config, rundir)
        if not rundir.config_file.exists():  # from here on it is a run
            text = strict_yaml.dumps(resolved(config))
            write_atomically(rundir.config_file, text.encode())
        _record_environment(rundir, monitor)
        store = CheckpointStore(rundir.checkpoints, before_commit=rundir.flush_metrics)
        start = choose_start([phase.name for phase in phases], store, rundir, monitor.say)
        facts = {"config": resolved(config), "inputs": _input_digests(config)}
        _check_facts(start, config, facts["inputs"], rundir)
        _announce(start, rundir, monitor)
        rundir.rewind_metrics(start.metrics)
        store.clear_unfinished()
        schedule = Schedule(config.log_every, config.checkpoint.every_s, config.checkpoint.keep)
        runner = Runner(phases, store, rundir, monitor, schedule=schedule, facts=facts, stop=stop)
        running.append(runner)
        try:
            return runner.run(start)
        finally:
            store.finish()
            rundir.close_metrics()

    def rescue() -> str:
        return running[0].rescue() if running else standing(rundir.checkpoints)

    try:
        return supervise(
            work,
            rescue=rescue,
            standing=lambda: standing(rundir.checkpoints),
            say=monitor.say,
            close=monitor.close,
        )
    except OSError as error:
        raise RunError(f"{error}; {standing(rundir.checkpoints)}") from error
    finally:
        monitor.close()


def _announce(start: Start, rundir: RunDir, monitor: Monitor) -> None:
    if start.checkpoint is not None:
        monitor.say(f"{rundir.path}: continues from {describe(start.checkpoint)}")
    else:
        monitor.say(f"{rundir.path}: starts from the beginning")


def _check_facts(start: Start, config: Experiment, inputs: dict[str, str], rundir: RunDir) -> None:
    """Refuse to continue what was begun with another configuration or other input files."""
    if start.facts is None:
        return
    _refuse_changes(start.facts["config"], config, rundir.config_file)
    changed = [name for name, digest in start.facts["inputs"].items() if inputs.get(name) != digest]
    if changed:
        raise InputError(
            "changed since the run began; restore it or start a new run", file=changed[0]
        )


def _refuse_changes(old: dict[str, Any], config: Experiment, origin: object) -> None:
    changes = forbidden_changes(old, resolved(config))
    if changes:
        raise InputError(
            f"a run cannot be resumed with another configuration: {'; '.join(changes)}", file=origin
        )


def _input_digests(config: Experiment) -> dict[str, str]:
    """SHA-256 of the pictures, and of the user's own files that the configuration names."""
    from dse.data import load_data

    digests = {f"data: {config.data.name}": load_data(config.data.name).digest}
    own = config.network.name
    network = own.rpartition(":")[0] if is_user_network(own) else ""
    for path in (Path(config.chip or ""), Path(network)):
        if path.is_file():
            digests[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _record_environment(rundir: RunDir, monitor: Monitor) -> None:
    """Write environment.json, or say in what this process differs from the one that began."""
    from dse.environment import read_environment

    now = read_environment()
    if not rundir.environment_file.exists():
        write_atomically(rundir.environment_file, json.dumps(now, indent=2).encode())
        return
    try:
        then = json.loads(rundir.environment_file.read_bytes())
    except ValueError:
        raise RunError(f"{rundir.environment_file} is damaged; delete it to go on") from None
    changes = differences(then, now)
    if changes:
        monitor.say(
            "warning: not the environment the run began in, so the last bits may differ: "
            + "; ".join(changes)
        )


def _listed(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]
