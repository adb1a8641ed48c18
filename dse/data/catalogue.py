"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from costs.errors import InputError
from dse.data.cifar import CIFAR10, CIFAR100
from dse.data.dataset import DataSet, halved
from dse.data.digits import load_digits
from dse.data.mnist import FASHION_MNIST, MNIST
from dse.data.npz import load_npz_folder
from dse.data.store import data_dir

PUBLISHED = (MNIST, FASHION_MNIST, CIFAR10, CIFAR100)
HALF = "cifar100_half"
LOADERS: dict[str, Callable[[], DataSet]] = {
    "digits": load_digits,
    **{known.name: known.load for known in PUBLISHED},
    HALF: lambda: halved(CIFAR100.load(), HALF),
}
"""Shipped or published data sets."""


def load_data(name: str) -> DataSet:
    """A data set by its name, or by the path of a folder of ``.npz`` files.

    A path is taken as it stands, or else from the data directory.

    Raises:
        InputError: if there is no such data set, or its files are not what they should be.
    """
    return _load(name, data_dir())


def outline_data(name: str) -> DataSet:
    """A data set without pictures where its shapes are known without its files, else itself.

    Raises:
        InputError: as `load_data`.
    """
    published = {known.name: known for known in PUBLISHED}
    if name == HALF:
        return halved(CIFAR100.outline(), HALF)
    return published[name].outline() if name in published else load_data(name)


@lru_cache(maxsize=1)
def _load(name: str, directory: Path) -> DataSet:
    if name in LOADERS:
        return LOADERS[name]()
    for folder in (Path(name), directory / name):
        if folder.is_dir():
            return load_npz_folder(folder)
    raise InputError(
        key="data.name",
        value=name,
        allowed=f"{', '.join(sorted(LOADERS))}, or a folder of .npz files",
    )
