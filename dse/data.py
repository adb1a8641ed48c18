"""Data sets, the only module that reads one: arrays with a fixed train, validation, test split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costs.errors import InputError

SPLIT_SEED = 20240917  # fixes which pictures are in which split, whatever the experiment's seed


@dataclass(frozen=True)
class Split:
    """Pictures [n, height, width, channels] float32 in 0..1 and their labels [n] int32."""

    pictures: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.labels)


@dataclass(frozen=True)
class DataSet:
    """A data set in three splits. Selection may look at `validation`, never at `test`."""

    name: str
    classes: int
    train: Split
    validation: Split
    test: Split

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a picture."""
        height, width, channels = self.train.pictures.shape[1:]
        return height, width, channels


def _load_digits() -> DataSet:
    """The 1,797 handwritten digits of 8x8 pixels that scikit-learn carries (UCI, 1998)."""
    from sklearn.datasets import load_digits

    features, target = load_digits(return_X_y=True)
    pictures = (np.asarray(features).reshape(-1, 8, 8, 1) / 16.0).astype(np.float32)
    labels = np.asarray(target).astype(np.int32)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    parts = np.split(order, [997, 1397])
    train, validation, test = (Split(pictures[part], labels[part]) for part in parts)
    return DataSet("digits", 10, train, validation, test)


LOADERS = {"digits": _load_digits}


def load_data(name: str) -> DataSet:
    """A data set by name.

    Raises:
        InputError: if there is no such data set.
    """
    if name not in LOADERS:
        raise InputError(key="data.name", value=name, allowed=", ".join(sorted(LOADERS)))
    return LOADERS[name]()
