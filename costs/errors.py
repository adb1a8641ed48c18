"""What a user's file or argument did wrong, said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MAX_VALUE_CHARS = 80


class InputError(ValueError):
    """Bad input: the command line prints it as one line and exits with code 2.

    Attributes:
        file: The file (or other origin, such as ``--set``) the value came from, if any.
        key: The dotted key inside that file, if any.
        value: The offending value, if any.
        allowed: What would have been accepted, as a sentence fragment, if known.
        message: What is wrong, as a sentence fragment.
        line: The line of the file [1-based], if known.
    """

    def __init__(
        self,
        message: str = "not allowed",
        *,
        file: object = None,
        key: object = None,
        value: object = None,
        allowed: object = None,
        line: int | None = None,
    ) -> None:
        """Keep the parts and compose the line ``file:line: key: message (got ..; allowed: ..)``."""
        self.file = None if file is None else str(file)
        self.key = None if key is None else str(key)
        self.value = value
        self.allowed = None if allowed is None else _as_text(allowed)
        self.message = message
        self.line = line
        super().__init__(self.one_line())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by parts, so that the error crosses process boundaries whole."""
        parts = {
            "file": self.file,
            "key": self.key,
            "value": self.value,
            "allowed": self.allowed,
            "line": self.line,
        }
        return _rebuild, (self.message, parts)

    def one_line(self) -> str:
        """The whole error as one readable line without control characters."""
        where = self.file or ""
        if self.line is not None:
            where = f"{where or 'line'}:{self.line}"
        text = ": ".join(part for part in (where, self.key or "", self.message) if part)
        details = []
        if self.value is not None:
            details.append(f"got {_shortened(self.value)}")
        if self.allowed:
            details.append(f"allowed: {self.allowed}")
        if details:
            text = f"{text} ({'; '.join(details)})"
        return "".join(c if c.isprintable() else " " for c in text)


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key most like a mistyped one, or None where nothing is close."""
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _rebuild(message: str, parts: dict[str, object]) -> InputError:
    return InputError(message, **parts)  # pyright: ignore[reportArgumentType]


def _as_text(allowed: object) -> str:
    if isinstance(allowed, str):
        return allowed
    if isinstance(allowed, Iterable):
        return ", ".join(str(item) for item in allowed)
    return str(allowed)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_VALUE_CHARS else text[: _MAX_VALUE_CHARS - 3] + "..."
