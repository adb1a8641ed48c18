"""CIFAR's python files: pickles, read without executing anything that they name.

A pickle is a program that may call any function it names. Here it may name three, and each is
replaced by one that makes an empty byte array or its type and nothing else.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from costs.errors import InputError
from dse.data.cifar_binary import PIXELS, planes_to_pictures


class ForeignCode(Exception):
    """The pickle names something that a data file has no use for."""


def read_pickle(content: bytes, label: str, file: object) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8[n, 32, 32, 3] and labels int32[n].

    Args:
        content: The whole file: a dictionary with `data` uint8[n, 3072] and a list of labels.
        label: Key of the labels: `labels`, or `fine_labels`.
        file: What errors name.

    Raises:
        InputError: if it is anything else, or names code.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except ForeignCode as error:
        raise InputError(
            f"a pickle that names {error}; nothing of it was executed",
            file=file,
            allowed="numpy arrays of bytes in plain containers",
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise InputError(f"damaged or truncated: {error}", file=file) from None
    pictures = _get(found, "data")
    labels = _get(found, label)
    whole = isinstance(labels, list) and all(type(value) is int for value in labels)
    if not (isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8 and whole):
        raise InputError(
            "not a CIFAR file", file=file, allowed=f"data (bytes) and {label} (whole numbers)"
        )
    if pictures.shape != (len(labels), PIXELS):
        raise InputError(
            "pictures of another shape",
            file=file,
            value=pictures.shape,
            allowed=f"({len(labels)}, {PIXELS})",
        )
    try:
        return planes_to_pictures(pictures), np.array(labels, np.int32)
    except OverflowError:
        raise InputError("a label that is no class", file=file) from None


class _Unpickler(pickle.Unpickler):
    """Resolves no name but the three that an array is made of."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _byte_type
        raise ForeignCode(f"{module}.{name}")

    def persistent_load(self, pid: object) -> Any:
        raise ForeignCode("a persistent object")


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """What an array is before its contents are read; numpy then checks their length."""
    if kind is not np.ndarray or shape != (0,) or code not in (b"b", "b"):
        raise ForeignCode("an array of another kind")
    return np.ndarray((0,), np.int8)


def _byte_type(code: object, *_: object) -> np.dtype:
    """The one type that pixels have; a fresh copy, for pickles set its state."""
    if code not in (b"u1", "u1"):
        raise ForeignCode(f"the array type {code!r}")
    return np.dtype("u1", align=False, copy=True)


def _get(found: object, key: str) -> Any:
    if not isinstance(found, dict):
        return None
    return found.get(key.encode(), found.get(key))
