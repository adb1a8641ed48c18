"""Stopping on SIGTERM and Ctrl-C within five seconds, whatever the work is doing.

Python runs a signal handler in the main thread between two bytecodes, so a main thread inside an
XLA compilation would not notice for minutes. The work therefore runs in a thread of its own and the
main thread only waits. After a signal it gives the work a moment to reach a step boundary, where a
checkpoint is written; if the work does not get there, the checkpoint of the last completed step is
written from outside; if that is not possible either, what stands on the disk is stated. The process
then ends, for a thread that compiles cannot be asked to return.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from dse.outcomes import EXIT_SIGNAL_BASE, Stopped

T = TypeVar("T")

BOUNDARY_S = 1.5  # how long the work may take to reach a step boundary before it is helped
DEADLINE_S = 4.3  # when the process ends at the latest, leaving time to say so within five seconds
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether a signal asked the work to stop; set by the main thread, read by the work."""

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self.signum: int | None = None
        self.asked_at_s = 0.0

    def __bool__(self) -> bool:
        """True once a signal came."""
        return self.signum is not None

    def raise_stopped(self, message: str) -> None:
        """End the work at a step boundary."""
        assert self.signum is not None
        raise Stopped(self.signum, message)


class _Worker(threading.Thread, Generic[T]):
    """Runs the work and keeps what it returned or raised."""

    def __init__(self, work: Callable[[StopRequest], T], stop: StopRequest) -> None:
        super().__init__(name="work", daemon=True)
        self._work = work
        self._stop_request = stop
        self.value: T | None = None
        self.error: BaseException | None = None
        self.finished = threading.Event()

    def run(self) -> None:
        try:
            self.value = self._work(self._stop_request)
        except BaseException as error:  # handed to the main thread, which raises it
            self.error = error
        finally:
            self.finished.set()


def supervise(
    work: Callable[[StopRequest], T],
    *,
    rescue: Callable[[], str],
    standing: Callable[[], str],
    say: Callable[[str], None],
    close: Callable[[], None],
) -> T:
    """Run `work` in a thread and return its value; end the process in time after a signal.

    Args:
        work: Does everything; polls its argument at step boundaries and raises Stopped there.
        rescue: Writes a checkpoint of the last completed step from outside; a sentence about it.
        standing: A sentence about the newest verified checkpoint, or that there is none.
        say: Prints a line.
        close: Restores the terminal.

    Raises:
        Whatever `work` raised.
    """
    stop = StopRequest()

    def on_signal(signum: int, _frame: object) -> None:
        if stop:
            close()
            os._exit(EXIT_SIGNAL_BASE + signum)
        stop.asked_at_s = time.monotonic()
        stop.signum = signum

    previous = {signum: signal.signal(signum, on_signal) for signum in _SIGNALS}
    worker = _Worker(work, stop)
    try:
        worker.start()
        while not worker.finished.wait(0.1):
            if stop and time.monotonic() - stop.asked_at_s > BOUNDARY_S:
                _end_from_outside(worker, stop, rescue, standing, say, close)
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
    if worker.error is not None:
        raise worker.error
    return worker.value  # pyright: ignore[reportReturnType] - set whenever there was no error


def _end_from_outside(
    worker: _Worker,
    stop: StopRequest,
    rescue: Callable[[], str],
    standing: Callable[[], str],
    say: Callable[[str], None],
    close: Callable[[], None],
) -> None:
    """Write what can be written, then end the process; return only if the work finished."""
    outcome: list[str] = []
    helper = threading.Thread(target=lambda: outcome.append(rescue()), daemon=True)
    helper.start()
    while time.monotonic() - stop.asked_at_s < DEADLINE_S:
        if worker.finished.wait(0.05):
            return
        if not helper.is_alive():
            break
    close()
    assert stop.signum is not None
    say(f"stopped by {signal.Signals(stop.signum).name}: {outcome[0] if outcome else standing()}")
    os._exit(EXIT_SIGNAL_BASE + stop.signum)
