"""A run is a directory in which every file is open.

config.yaml        the resolved configuration
environment.json   versions, device, threads
metrics.jsonl      one line per logged step; nothing in it depends on the clock
timing.jsonl       all wall-clock figures
run.log            what was said while it ran
checkpoints/  designs/  figures/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from costs.errors import InputError

CONFIG_FILE = "config.yaml"
ENVIRONMENT_FILE = "environment.json"
METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"
LOG_FILE = "run.log"
CHECKPOINTS = "checkpoints"
DESIGNS = "designs"
FIGURES = "figures"
LOCK_FILE = "lock"
FRONT_FILE = "front.csv"
ANSWERS_FILE = "answers.csv"
REPORT_FILE = "report.html"
RESULT_FILE = "result.csv"  # of the methods that have no front
EPOCHS_FILE = "epochs.csv"
WEIGHTS_FILE = "weights.safetensors"
KNOWN_FILES = frozenset(
    {CONFIG_FILE, ENVIRONMENT_FILE, METRICS_FILE, TIMING_FILE, LOG_FILE, LOCK_FILE}
    | {CHECKPOINTS, DESIGNS, FIGURES}
)
"""What may stand in a directory in which a run is begun."""


class RunDir:
    """The paths of one run, and its growing files.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: Path) -> None:
        """Refer to a run directory, which need not exist yet."""
        self.path = path
        self._metrics = _GrowingFile(path / METRICS_FILE)
        self._started_s = time.monotonic()

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / CONFIG_FILE

    @property
    def environment_file(self) -> Path:
        """Versions and device of the process that started the run."""
        return self.path / ENVIRONMENT_FILE

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS

    @property
    def designs(self) -> Path:
        """The folder of designs, one YAML file each."""
        return self.path / DESIGNS

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.path / FIGURES

    def create(self) -> None:
        """Make the directory and its folders; existing ones are kept."""
        for folder in (self.path, self.checkpoints, self.designs, self.figures):
            folder.mkdir(parents=True, exist_ok=True)

    def require_run(self) -> None:
        """Raise InputError unless this is a run directory."""
        if not self.config_file.is_file():
            raise InputError(f"no {CONFIG_FILE} in it: not a run directory", file=self.path)

    def discard_unless_begun(self) -> None:
        """Remove a directory whose run never began, with the little that `create` put there."""
        if self.config_file.exists():
            return
        for name in (LOCK_FILE, LOG_FILE):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.checkpoints, self.designs, self.figures, self.path):
            with contextlib.suppress(OSError):  # not empty: somebody else's
                folder.rmdir()

    def log_metrics(self, phase: str, step: int, values: dict[str, float]) -> None:
        """Append one step's metrics: `{"phase": .., "step": .., name: value, ..}`."""
        line = {"phase": phase, "step": step, **values}
        self._metrics.append((json.dumps(line, allow_nan=False) + "\n").encode())

    def metrics_position(self) -> dict[str, Any]:
        """Length and SHA-256 of metrics.jsonl as it stands, for a checkpoint."""
        return self._metrics.position()

    def matches_metrics(self, position: dict[str, Any]) -> bool:
        """Whether metrics.jsonl still begins with what a checkpoint recorded."""
        return self._metrics.begins_with(position)

    def rewind_metrics(self, position: dict[str, Any] | None) -> None:
        """Cut metrics.jsonl back to a checkpoint's position; None empties it."""
        self._metrics.open_at(0 if position is None else position["bytes"])

    def flush_metrics(self) -> None:
        """Bring metrics.jsonl to the disk."""
        self._metrics.flush()

    def close_metrics(self) -> None:
        """Nothing more is logged by this process."""
        self._metrics.close()

    def log_timing(self, **values: Any) -> None:
        """Append one line of wall-clock figures, with the seconds since this process began."""
        values["process_s"] = round(time.monotonic() - self._started_s, 4)
        with open(self.path / TIMING_FILE, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def log_text(self, text: str) -> None:
        """Append a line to run.log."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with open(self.path / LOG_FILE, "a", encoding="utf-8") as file:
            file.write(f"{stamp} {text}\n")


def new_run_path(parent: Path, name: str) -> Path:
    """The first of `parent/name`, `parent/name-2`, ... that does not exist."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that readers and crashes see the old content or the new, never a part."""
    building = path.with_name(f".{path.name}.{os.getpid()}")
    with open(building, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(building, path)


class _GrowingFile:
    """An append-only file with the SHA-256 of all it holds, which can be cut back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self._sha = hashlib.sha256()
        self._bytes = 0

    def open_at(self, length: int) -> None:
        self.close()
        self._path.touch()
        self._file = open(self._path, "r+b")  # noqa: SIM115 - held for the whole run
        self._file.truncate(length)
        content = self._file.read()
        self._sha, self._bytes = hashlib.sha256(content), len(content)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, line: bytes) -> None:
        if self._file is None:
            raise RuntimeError("metrics are logged before the run decided where to resume")
        self._file.write(line)
        self._file.flush()
        self._sha.update(line)
        self._bytes += len(line)

    def position(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "sha256": self._sha.hexdigest()}

    def begins_with(self, position: dict[str, Any]) -> bool:
        if not self._path.exists():
            return position["bytes"] == 0
        with open(self._path, "rb") as file:
            content = file.read(position["bytes"])
        found = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return found == position

    def flush(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
