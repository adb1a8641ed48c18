"""How a command ends: exit codes, and the exceptions that carry them."""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_SIGNAL_BASE = 128  # + signal number, as shells report it: 130 for Ctrl-C, 143 for SIGTERM


class RunError(RuntimeError):
    """A run cannot go on for a reason its user can act on: one line, exit code 1."""


class Stopped(RuntimeError):
    """A signal stopped the run at a step boundary.

    Attributes:
        signum: The signal that asked for it.
    """

    def __init__(self, signum: int, message: str) -> None:
        """Remember the signal; `message` says which checkpoint stands."""
        super().__init__(message)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return EXIT_SIGNAL_BASE + self.signum
