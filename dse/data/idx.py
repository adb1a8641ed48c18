"""The idx files of MNIST and Fashion-MNIST: 0, 0, type, rank, sizes (big-endian), values.

http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from costs.errors import InputError

UNSIGNED_BYTE = 0x08
LARGEST_BYTES = 2**31


def read_idx(path: Path, rank: int) -> np.ndarray:
    """An array of bytes from an idx file, compressed (``.gz``) or not.

    Args:
        path: The file.
        rank: Number of axes that are expected: 3 for pictures, 1 for labels.

    Raises:
        InputError: if it is not such a file, whole and no longer than its header says.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            head = file.read(4 + 4 * rank)
            if len(head) < 4 + 4 * rank or head[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)):
                raise InputError(
                    "not an idx file of bytes",
                    file=path,
                    value=head[:4].hex(" "),
                    allowed=f"00 00 08 {rank:02x} at its beginning",
                )
            shape = tuple(int(size) for size in np.frombuffer(head[4:], ">u4"))
            count = int(np.prod(shape, dtype=object))
            if count > LARGEST_BYTES:
                raise InputError(
                    "claims more than is ever needed", file=path, value=shape, allowed="2 GiB"
                )
            values = file.read(count + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"damaged or truncated: {error}", file=path) from None
    if len(values) != count:
        raise InputError(
            "truncated" if len(values) < count else "longer than its header says",
            file=path,
            value=f"{len(values):,} bytes" if len(values) < count else None,
            allowed=f"{count:,} bytes after the header",
        )
    return np.frombuffer(values, np.uint8).reshape(shape)
