"""One process at a time in a run directory.

The lock is the kernel's (`flock`), which a dying process cannot leave behind; the file's text only
says who holds it. Text found in a file that could be locked is the trace of a killed process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from dse.outcomes import RunError
from dse.rundir import LOCK_FILE

_NAMING_S = 0.05  # the winner of a race needs a moment to write its name


@contextlib.contextmanager
def exclusive_lock(run_dir: Path) -> Iterator[str | None]:
    """Hold the run directory, or fail at once naming the process that does.

    Args:
        run_dir: An existing run directory.

    Yields:
        Who left a stale lock behind (a killed process), or None.

    Raises:
        RunError: Another process holds it.
    """
    with open(run_dir / LOCK_FILE, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_NAMING_S)
            holder = _holder_text(file.fileno()) or "another process"
            raise RunError(f"{run_dir} is in use by {holder}; wait for it or stop it") from None
        stale = _holder_text(file.fileno())
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": int(time.time())}
        _rewrite(file.fileno(), json.dumps(owner))
        try:
            yield stale
        finally:
            # emptied, never deleted: a deleted file could be locked twice, once by each inode
            _rewrite(file.fileno(), "")


def _rewrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def _holder_text(descriptor: int) -> str | None:
    content = os.pread(descriptor, 4096, 0)
    if not content.strip():
        return None
    try:
        owner = json.loads(content)
        return f"process {owner['pid']} on {owner['host']}"
    except (ValueError, KeyError, TypeError):
        return "a process that left no readable name"
