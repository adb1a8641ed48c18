"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): the binary or the python archive, or its folder."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costs.errors import InputError
from dse.data.cifar_binary import CHANNELS, SIDE, read_records
from dse.data.cifar_python import read_pickle
from dse.data.dataset import DataSet, empty_dataset, make_dataset
from dse.data.store import VARIABLE, Remote, check, data_dir, download, find

BASE = "https://www.cs.toronto.edu/~kriz/"
LARGEST_FILE_BYTES = 2**29  # the largest published one has 1.6e8
Read = Callable[[bytes, object], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """One of the forms in which a data set is published.

    Attributes:
        archive: The published archive.
        folder: The folder in it.
        train: Files of training pictures, in order.
        test: The file of test pictures.
        read: Pictures and labels of the content of a file; the second argument names it.
    """

    archive: Remote
    folder: str
    train: tuple[str, ...]
    test: str
    read: Read

    def read_files(self, get: Callable[[str], bytes], origin: Path) -> list[tuple]:
        """Training and test (pictures, labels), given what a file's name holds."""
        parts = [self.read(get(name), origin / name) for name in (*self.train, self.test)]
        train = tuple(np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
        return [train, parts[-1]]

    def read_folder(self, folder: Path) -> list[tuple]:
        """Training and test (pictures, labels) of the unpacked archive."""

        def get(name: str) -> bytes:
            path = folder / name
            if not path.is_file():
                raise InputError(f"no {name} in it", file=folder)
            if path.stat().st_size > LARGEST_FILE_BYTES:
                raise InputError("larger than it was published", file=path)
            return path.read_bytes()

        return self.read_files(get, folder)

    def read_archive(self, path: Path) -> list[tuple]:
        """Training and test (pictures, labels) of the archive; nothing is unpacked to the disk."""
        check(path, self.archive)
        try:
            with tarfile.open(path, "r:gz") as archive:
                contents = {}
                for member in archive:
                    folder, _, name = member.name.removeprefix("./").partition("/")
                    if folder != self.folder or name not in (*self.train, self.test):
                        continue
                    source = archive.extractfile(member)
                    if source is None or member.size > LARGEST_FILE_BYTES:
                        raise InputError(f"{name} is not the file it should be", file=path)
                    contents[name] = source.read()
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise InputError(f"damaged or truncated: {error}", file=path) from None

        def get(name: str) -> bytes:
            if name not in contents:
                raise InputError(f"no {self.folder}/{name} in it", file=path)
            return contents[name]

        return self.read_files(get, path / self.folder)


@dataclass(frozen=True)
class CifarSet:
    """CIFAR-10 or CIFAR-100.

    Attributes:
        name: Of the data set.
        classes: Number of labels.
        layouts: Its published forms, in the order in which they are looked for.
        pictures: How many training and test pictures there are.
    """

    name: str
    classes: int
    layouts: tuple[Layout, ...]
    pictures: tuple[int, int] = (50_000, 10_000)

    def load(self) -> DataSet:
        """Both published parts; a tenth of the first for validation."""
        origin, (train, test) = self._read()
        for part, (_, labels), count in zip(
            ("training", "test"), (train, test), self.pictures, strict=True
        ):
            if len(labels) != count:
                raise InputError(
                    f"truncated, or another number of {part} pictures than published",
                    file=origin,
                    value=len(labels),
                    allowed=count,
                )
        return make_dataset(self.name, self.classes, train, test)

    def outline(self) -> DataSet:
        """Its shapes, without pictures."""
        return empty_dataset(self.name, self.classes, (SIDE, SIDE, CHANNELS))

    def _read(self) -> tuple[Path, list[tuple]]:
        for layout in self.layouts:
            # the data directory itself may be the folder
            found = find(f"{place}/{layout.test}" for place in (layout.folder, "."))
            if found is not None and (found.parent / layout.train[0]).exists():
                return found.parent, layout.read_folder(found.parent)
            found = find([layout.archive.file])
            if found is not None:
                return found, layout.read_archive(found)
        first = self.layouts[0]
        instructions = (
            f"put it there ({first.archive.url}, md5 {first.archive.md5}), or its folder "
            f"{first.folder}, or name another directory with --data or {VARIABLE}"
        )
        path = download(first.archive, data_dir(), instructions)
        return path, first.read_archive(path)


def _remote(file: str, md5: str) -> Remote:
    return Remote(file, BASE + file, md5)


# Checksums: https://www.cs.toronto.edu/~kriz/cifar.html
CIFAR10 = CifarSet(
    "cifar10",
    10,
    (
        Layout(
            _remote("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
            "cifar-10-batches-bin",
            tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test_batch.bin",
            lambda content, file: read_records(content, 1, file),
        ),
        Layout(
            _remote("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
            "cifar-10-batches-py",
            tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test_batch",
            lambda content, file: read_pickle(content, "labels", file),
        ),
    ),
)
CIFAR100 = CifarSet(
    "cifar100",
    100,
    (
        Layout(
            _remote("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
            "cifar-100-binary",
            ("train.bin",),
            "test.bin",
            lambda content, file: read_records(content, 2, file),
        ),
        Layout(
            _remote("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
            "cifar-100-python",
            ("train",),
            "test",
            lambda content, file: read_pickle(content, "fine_labels", file),
        ),
    ),
)
