"""A folder of the user's own pictures: ``train.npz``, ``test.npz`` and perhaps ``validation.npz``.

Each holds `pictures` [n, height, width(, channels)], bytes or float32, and `labels` [n], integers.
Sizes are read from the headers before anything is inflated.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from costs.errors import InputError
from dse.data.dataset import DataSet, make_dataset

LARGEST_BYTES = 4 * 2**30  # of all arrays of one file; bytes of 1.3 million 32x32 colour pictures
HEADER_BYTES = 10_000
ARRAYS = ("pictures", "labels")


def load_npz_folder(folder: Path) -> DataSet:
    """The pictures of a folder; classes are counted from the training labels.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    parts = {name: folder / f"{name}.npz" for name in ("train", "test", "validation")}
    for name in ("train", "test"):
        if not parts[name].is_file():
            raise InputError(
                f"no {name}.npz in it", file=folder, allowed="train.npz, test.npz, validation.npz"
            )
    train, test = read_npz(parts["train"]), read_npz(parts["test"])
    validation = read_npz(parts["validation"]) if parts["validation"].is_file() else None
    return make_dataset(folder.name, int(train[1].max()) + 1, train, test, validation)


def read_npz(path: Path, largest_bytes: int = LARGEST_BYTES) -> tuple[np.ndarray, np.ndarray]:
    """Pictures [n, height, width, channels], bytes or float32, and labels [n].

    Args:
        path: The file.
        largest_bytes: What its arrays may claim together.

    Raises:
        InputError: if it holds anything else, or more.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, path, largest_bytes)
            headers = {name: _read_header(archive, member) for name, member in members.items()}
            _check_headers(path, members, headers)
            with archive.open(members["pictures"]) as file:
                pictures = np.lib.format.read_array(file, allow_pickle=False)
            with archive.open(members["labels"]) as file:
                labels = np.lib.format.read_array(file, allow_pickle=False)
    except InputError:
        raise
    except (OSError, EOFError, ValueError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(f"not a sound npz file: {error}", file=path) from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"not a sound npz file: {error}", file=path) from None
    if pictures.dtype != np.uint8 and not np.isfinite(pictures).all():
        raise InputError("pictures with NaN or infinity", file=path)
    return (pictures[..., None] if pictures.ndim == 3 else pictures), labels


def _members(
    archive: zipfile.ZipFile, path: Path, largest_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    """The two arrays, after all sizes that the archive claims were added up."""
    claimed = sum(member.file_size for member in archive.infolist())
    if claimed > largest_bytes:
        raise InputError(
            "would inflate to more than is allowed; nothing was inflated",
            file=path,
            value=f"{claimed:,} bytes",
            allowed=f"at most {largest_bytes:,}",
        )
    found = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if set(found) != set(ARRAYS):
        raise InputError("other arrays", file=path, value=", ".join(found), allowed=ARRAYS)
    return found


def _read_header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type and length [bytes] of the header of one array."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, kind = np.lib.format.read_array_header_1_0(file, HEADER_BYTES)
        elif version == (2, 0):
            shape, _, kind = np.lib.format.read_array_header_2_0(file, HEADER_BYTES)
        else:
            raise ValueError(f"npy version {version}")
        return shape, kind, _position(file)


def _position(file: IO[bytes]) -> int:
    return file.tell()


def _check_headers(
    path: Path,
    members: dict[str, zipfile.ZipInfo],
    headers: dict[str, tuple[tuple[int, ...], np.dtype, int]],
) -> None:
    for name, (shape, kind, start) in headers.items():
        allowed = (np.uint8, np.float32) if name == "pictures" else (np.integer,)
        if not any(np.issubdtype(kind, one) for one in allowed):
            raise InputError(
                "of another type",
                file=path,
                key=name,
                value=str(kind),
                allowed="uint8 or float32" if name == "pictures" else "whole numbers",
            )
        if len(shape) not in ((3, 4) if name == "pictures" else (1,)):
            raise InputError(
                "of another shape",
                file=path,
                key=name,
                value=shape,
                allowed="[n, height, width(, channels)]" if name == "pictures" else "[n]",
            )
        size = start + int(np.prod(shape, dtype=object)) * kind.itemsize
        if size != members[name].file_size:
            raise InputError(
                "its header claims another size than the archive; nothing was inflated",
                file=path,
                key=name,
                value=f"{size:,} bytes",
                allowed=f"{members[name].file_size:,}",
            )
    if 0 in headers["labels"][0]:
        raise InputError("no pictures in it", file=path)
