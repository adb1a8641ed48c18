"""Where data sets lie, and how they get there: the data directory, downloads, checksums."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from costs.errors import InputError

VARIABLE = "NARROWS_DATA"
TIMEOUT_S = 30.0
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        file: Its name.
        url: Where it is published.
        md5: Its publisher's checksum, in hexadecimal.
    """

    file: str
    url: str
    md5: str


def use_data_dir(path: Path | None) -> None:
    """Make a directory the data directory of this process and of those it starts.

    Raises:
        InputError: if there is no such directory.
    """
    if path is None:
        return
    if not path.is_dir():
        raise InputError("no such directory", file="--data", value=str(path))
    os.environ[VARIABLE] = str(path.resolve())


def data_dir() -> Path:
    """The data directory: what `--data` or NARROWS_DATA names, else the user's cache folder."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "narrows" / "data"


def find(names: Iterable[str]) -> Path | None:
    """The first of these files or folders that the data directory holds."""
    for name in names:
        path = data_dir() / name
        if path.exists():
            return path
    return None


def check(path: Path, remote: Remote) -> Path:
    """The file itself, if it is the published one.

    Raises:
        InputError: if its checksum is another.
    """
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != remote.md5:
        raise InputError(
            "wrong checksum: truncated, or not the published file; delete it or replace it",
            file=path,
            value=f"md5 {found}",
            allowed=f"md5 {remote.md5} of {remote.url}",
        )
    return path


def download(remote: Remote, folder: Path, instructions: str) -> Path:
    """Fetch a published file into a folder; it bears its name only once its checksum is right.

    Args:
        remote: What to fetch.
        folder: Where to, made if need be.
        instructions: What the user may do where there is no network, for the error.

    Raises:
        InputError: if it cannot be had or is not what was published.
    """
    part, digest = folder / f".{remote.file}.{os.getpid()}", hashlib.md5()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(remote.url, timeout=TIMEOUT_S) as source,
            open(part, "wb") as file,
        ):
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != remote.md5:
            raise InputError(
                "wrong checksum of what was downloaded; nothing was kept",
                file=remote.url,
                value=f"md5 {digest.hexdigest()}",
                allowed=f"md5 {remote.md5}",
            )
        os.replace(part, folder / remote.file)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise InputError(
            f"{remote.file} is not there and cannot be downloaded ({reason}); {instructions}",
            file=folder,
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return folder / remote.file
