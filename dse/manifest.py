"""Folders that can be believed: a manifest with size and SHA-256 of every file, written last.

A folder is built under a temporary name, its files are described in `manifest.json`, everything is
flushed to the disk, and only then does the folder get its name. A folder whose files are not, bit
by bit, what its manifest states is damaged and is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

SCHEMA = 1
MANIFEST = "manifest.json"
TEMPORARY = "tmp-"
DAMAGED = "damaged-"


class DamagedCheckpoint(RuntimeError):
    """A checkpoint that is not, bit by bit, what was written."""


def names(parent: Path) -> list[str]:
    """All finished folders below `parent`, sound or damaged, in the order of their names."""
    if not parent.is_dir():
        return []
    return sorted(
        entry.name
        for entry in parent.iterdir()
        if entry.is_dir() and not entry.name.startswith((TEMPORARY, DAMAGED))
    )


def verify(folder: Path) -> None:
    """Compare every file of a folder with its manifest.

    Raises:
        DamagedCheckpoint: Naming the first file that differs, is missing or does not belong.
    """
    name = folder.name
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        listed = dict(manifest["files"])
        schema = manifest["schema"]
    except FileNotFoundError:
        raise DamagedCheckpoint(f"checkpoint {name}: {MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedCheckpoint(f"checkpoint {name}: {MANIFEST} is unreadable") from error
    if schema != SCHEMA:
        raise DamagedCheckpoint(
            f"checkpoint {name}: schema {schema!r} is not one this version reads ({SCHEMA})"
        )
    present = _files(folder) - {MANIFEST}
    for file in sorted(listed.keys() | present):
        if file not in present:
            raise DamagedCheckpoint(f"checkpoint {name}: {file} is missing")
        if file not in listed:
            raise DamagedCheckpoint(f"checkpoint {name}: {file} is not in the manifest")
        if _fingerprint(folder / file) != listed[file]:
            raise DamagedCheckpoint(f"checkpoint {name}: {file} was changed since it was written")


def commit(building: Path, final: Path) -> None:
    """Describe a folder's files in its manifest, bring all to the disk, and give it its name."""
    files = {file: _fingerprint(building / file) for file in sorted(_files(building))}
    (building / MANIFEST).write_text(json.dumps({"schema": SCHEMA, "files": files}, indent=1))
    for folder, _, file_names in os.walk(building):
        for file_name in file_names:
            _flush(Path(folder, file_name))
        _flush(Path(folder))
    os.rename(building, final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> set[str]:
    return {
        str(Path(parent, name).relative_to(folder))
        for parent, _, names in os.walk(folder)
        for name in names
    }


def _fingerprint(path: Path) -> dict[str, Any]:
    sha = hashlib.sha256()
    size_bytes = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
            size_bytes += len(block)
    return {"bytes": size_bytes, "sha256": sha.hexdigest()}
