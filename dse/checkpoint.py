"""Checkpoints that are verified or refused: Orbax for the arrays, a SHA-256 manifest over all.

Orbax restores flipped bits without a word (62 of 62 when tried), so nothing of a checkpoint is
believed until every file in it has the size and SHA-256 that `manifest.json` states. The manifest
is written last (`dse.manifest`). A checkpoint is

    checkpoints/<name>/meta.json       what it is, the shape of the tree, its plain values
                       arrays/...      the arrays, written by Orbax
                       manifest.json   size and SHA-256 of every other file, schema version

This is the only module that imports orbax. When to save and what to resume from is `dse.runner`'s.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

from dse import manifest
from dse.outcomes import RunError
from dse.state_tree import HostTree, Tree, array_entries, from_host

META = "meta.json"
ARRAYS = "arrays"
_DISK_MARGIN_BYTES = 1 << 20  # Orbax's own metadata and the manifest


class CheckpointStore:
    """The checkpoints of one run directory. Its methods may be called from any thread.

    At most one write is under way; the next one waits for it. A failed background write is
    raised by the next call of `save`, `save_async` or `wait`.
    """

    def __init__(self, folder: Path, *, before_commit: Callable[[], None] | None = None) -> None:
        """Open (and create) a folder of checkpoints.

        Args:
            folder: Where the checkpoints stand.
            before_commit: Called before each manifest is written: flushes what the checkpoint
                refers to, such as the metrics file.
        """
        self.folder = folder.resolve()
        self._before_commit = before_commit
        self._lock = threading.RLock()
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        # Orbax also logs, with its stack, what it raises
        logging.getLogger("absl").setLevel(logging.CRITICAL)

    def names(self) -> list[str]:
        """All checkpoints by name, sound or damaged, in the order of their names."""
        return manifest.names(self.folder)

    def save(self, name: str, host: HostTree, meta: dict[str, Any]) -> None:
        """Write a checkpoint and return when it is verified and on the disk.

        Raises:
            RunError: The disk is full or not writable; earlier checkpoints are untouched.
        """
        with self._lock:
            self.wait()
            if not (self.folder / name).exists():
                self._write(name, host, meta)

    def save_async(self, name: str, host: HostTree, meta: dict[str, Any]) -> None:
        """Write a checkpoint in the background; `host` must not be shared with donated buffers."""
        with self._lock:
            self.wait()
            if (self.folder / name).exists():
                return
            self._writer = threading.Thread(
                target=self._write_in_background, args=(name, host, meta), daemon=True
            )
            self._writer.start()

    @property
    def busy(self) -> bool:
        """Whether a background write is under way."""
        return self._writer is not None and self._writer.is_alive()

    def wait(self) -> None:
        """Wait for the background write; raise what it raised."""
        with self._lock:
            if self._writer is not None:
                self._writer.join()
                self._writer = None
            if self._error is not None:
                error, self._error = self._error, None
                raise error

    def finish(self) -> None:
        """Let the background write end, well or not, before the process does."""
        with contextlib.suppress(RunError):
            self.wait()

    def load(self, name: str) -> tuple[Tree, dict[str, Any]]:
        """The verified tree and meta data of a checkpoint.

        Raises:
            DamagedCheckpoint: Anything in it differs from what was written.
        """
        folder = self.folder / name
        manifest.verify(folder)
        meta = json.loads((folder / META).read_bytes())
        host = HostTree(meta.pop("tree"), {})
        entries = array_entries(host.skeleton)
        stored = _without_empty(
            {
                entry["array"]: np.empty(entry["shape"], jnp.dtype(entry["dtype"]))
                for entry in entries
            }
        )
        if stored:
            labels = list(stored)
            loaded = ocp.load(
                str(folder / ARRAYS), {str(i): stored[k] for i, k in enumerate(labels)}
            )
            host.arrays.update({label: loaded[str(i)] for i, label in enumerate(labels)})
        for entry in entries:
            if entry["array"] not in host.arrays:
                host.arrays[entry["array"]] = np.empty(entry["shape"], jnp.dtype(entry["dtype"]))
        return from_host(host), meta

    def remove(self, name: str) -> None:
        """Delete a checkpoint; it loses its name first, so that no half of it is ever seen."""
        with self._lock:
            doomed = self.folder / f"{manifest.TEMPORARY}{name}"
            shutil.rmtree(doomed, ignore_errors=True)
            os.rename(self.folder / name, doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def set_aside(self, name: str) -> None:
        """Take a damaged checkpoint out of the way of its successor, deleting nothing."""
        with self._lock:
            target, number = self.folder / f"{manifest.DAMAGED}{name}", 1
            while target.exists():
                number += 1
                target = self.folder / f"{manifest.DAMAGED}{name}-{number}"
            os.rename(self.folder / name, target)

    def clear_unfinished(self) -> None:
        """Delete what a killed process was still writing."""
        with self._lock:
            for entry in self.folder.glob(f"{manifest.TEMPORARY}*"):
                shutil.rmtree(entry, ignore_errors=True)

    def require_space(self, needed_bytes: int) -> None:
        """Refuse to start what the disk cannot hold.

        Raises:
            RunError: Fewer than `needed_bytes` are free where the checkpoints stand.
        """
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < needed_bytes:
            raise RunError(
                f"{self.folder}: the disk has {free_bytes:,} bytes free, "
                f"checkpoints of this run need {needed_bytes:,}"
            )

    def _write_in_background(self, name: str, host: HostTree, meta: dict[str, Any]) -> None:
        try:
            self._write(name, host, meta)
        except BaseException as error:  # raised by the next call
            self._error = error

    def _write(self, name: str, host: HostTree, meta: dict[str, Any]) -> None:
        self.require_space(host.size_bytes + _DISK_MARGIN_BYTES)
        building = self.folder / f"{manifest.TEMPORARY}{name}"
        shutil.rmtree(building, ignore_errors=True)
        try:
            building.mkdir()
            _reserve(building, host.size_bytes + _DISK_MARGIN_BYTES)
            arrays = _without_empty(host.arrays)
            if arrays:
                response = ocp.save_async(
                    str(building / ARRAYS),
                    {str(i): array for i, array in enumerate(arrays.values())},
                )
                response.result()
            (building / META).write_text(json.dumps({**meta, "tree": host.skeleton}))
            if self._before_commit is not None:
                self._before_commit()
            manifest.commit(building, self.folder / name)
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            raise RunError(
                f"{self.folder}: checkpoint {name} could not be written: {reason}; "
                "earlier ones are untouched"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _reserve(folder: Path, size_bytes: int) -> None:
    """Find out whether disk and quota hold a checkpoint before Orbax is half through it.

    Raises:
        OSError: They do not.
    """
    path = folder / "reserved"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # anything else: a file system that cannot reserve
    finally:
        os.close(descriptor)
        path.unlink()


def _without_empty(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Orbax refuses arrays of no elements; their shape in the meta data says all there is."""
    return {label: array for label, array in arrays.items() if array.size}
