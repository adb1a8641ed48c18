"""CIFAR-10 and CIFAR-100 records: label bytes, then 32x32 pixels as planes R, G, B.

CIFAR-10 has one label byte; CIFAR-100 has the coarse label, then the fine one, which is used.
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import numpy as np

from costs.errors import InputError

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE


def read_records(content: bytes, label_bytes: int, file: object) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8[n, 32, 32, 3] and labels int32[n].

    Args:
        content: The whole file.
        label_bytes: Bytes before the pixels of each record; the last one is the label.
        file: What errors name.

    Raises:
        InputError: if the file does not end with a whole record.
    """
    length = label_bytes + PIXELS
    if not content or len(content) % length:
        raise InputError(
            "truncated, or of another format",
            file=file,
            value=f"{len(content):,} bytes",
            allowed=f"whole records of {length} bytes",
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, length)
    return planes_to_pictures(records[:, label_bytes:]), records[:, label_bytes - 1].astype(
        np.int32
    )


def planes_to_pictures(planes: np.ndarray) -> np.ndarray:
    """Pictures uint8[n, 32, 32, 3] of planes uint8[n, 3072]."""
    shaped = planes.reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(shaped.transpose(0, 2, 3, 1))
