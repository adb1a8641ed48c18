"""MNIST (LeCun et al., 1998) and Fashion-MNIST (Xiao et al., 2017): four idx files each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costs.errors import InputError
from dse.data.dataset import DataSet, empty_dataset, make_dataset
from dse.data.idx import read_idx
from dse.data.store import VARIABLE, Remote, check, data_dir, download, find

SIDE, CLASSES = 28, 10


@dataclass(frozen=True)
class IdxSet:
    """One of the data sets that come as four idx files.

    Attributes:
        name: Of the data set, and of its folder in the data directory.
        folders: In which its files may lie.
        base: What the files' names follow in their addresses.
        md5: Checksums of the four compressed files.
        pictures: How many training and test pictures there are.
    """

    name: str
    folders: tuple[str, ...]
    base: str
    md5: dict[str, str]
    pictures: tuple[int, int] = (60_000, 10_000)

    def load(self) -> DataSet:
        """Both published parts; a tenth of the first for validation."""
        train, test = (
            self._part(part, count)
            for part, count in zip(("train", "t10k"), self.pictures, strict=True)
        )
        return make_dataset(self.name, CLASSES, train, test)

    def outline(self) -> DataSet:
        """Its shapes, without pictures."""
        return empty_dataset(self.name, CLASSES, (SIDE, SIDE, 1))

    def _part(self, part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        file = self._file(f"{part}-images-idx3-ubyte")
        pictures = read_idx(file, 3)
        labels = read_idx(self._file(f"{part}-labels-idx1-ubyte"), 1)
        if pictures.shape != (count, SIDE, SIDE):
            raise InputError(
                "pictures of another shape",
                file=file,
                value=pictures.shape,
                allowed=f"({count}, {SIDE}, {SIDE})",
            )
        return pictures[..., None], labels

    def _file(self, name: str) -> Path:
        """The file, plain or compressed, downloaded if need be."""
        found = find(f"{folder}/{name}{end}" for folder in self.folders for end in ("", ".gz"))
        remote = Remote(f"{name}.gz", f"{self.base}{name}.gz", self.md5[name])
        if found is None:
            instructions = (
                f"put the four files of {self.base} there, compressed or not, "
                f"or name another directory with --data or {VARIABLE}"
            )
            found = download(remote, data_dir() / self.name, instructions)
        return check(found, remote) if found.suffix == ".gz" else found


# Checksums: torchvision's, which equal those that the publishers print.
MNIST = IdxSet(
    "mnist",
    ("mnist", "MNIST/raw"),
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    {
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
)
FASHION_MNIST = IdxSet(
    "fashion_mnist",
    ("fashion_mnist", "FashionMNIST/raw"),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
        "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)
