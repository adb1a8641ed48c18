"""An export as a folder: it appears whole or not at all, and replaces nothing but an export."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from costs.errors import InputError
from dse.exported import SUMMARY_FILE, SUMMARY_SCHEMA


def require_ours(target: Path) -> None:
    """Refuse to replace what is not an earlier export."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError("is a file; an export is a folder", file=target)
    content = sorted(entry.name for entry in target.iterdir())
    if not content:
        return
    try:
        summary = json.loads((target / SUMMARY_FILE).read_bytes())
        ours = isinstance(summary, dict) and summary.get("schema") == SUMMARY_SCHEMA
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise InputError(
            f"is not empty and not an earlier export: it holds {content[0]}",
            file=target,
            key="--out",
            allowed="a new folder, an empty one, or an earlier export",
        )


def publish(files: Mapping[str, bytes], summary: Mapping[str, Any], target: Path) -> list[Path]:
    """Write an export: all files beside the target, then they take its place in one rename.

    Args:
        files: Contents by name.
        summary: Of ``summary.json``, which digests and versions are added to.
        target: The folder.

    Returns:
        The files written, ``summary.json`` first.
    """
    complete = {
        "schema": SUMMARY_SCHEMA,
        **summary,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        "versions": {name: metadata.version(name) for name in ("narrows", "jax", "flax", "onnx")},
    }
    text = json.dumps(complete, indent=2, allow_nan=False) + "\n"
    _write_folder({SUMMARY_FILE: text.encode(), **files}, target)
    return [target / name for name in (SUMMARY_FILE, *sorted(files))]


def _write_folder(files: Mapping[str, bytes], target: Path) -> None:
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    try:
        os.chmod(building, 0o755)
        for name, content in files.items():
            path = building / name
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        new = building
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=parent))
            os.rename(target, retired / "old")
            os.rename(new, target)
            shutil.rmtree(retired)
        else:
            os.rename(new, target)
    finally:
        if building.exists():
            shutil.rmtree(building)
