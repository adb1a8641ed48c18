"""A data set in memory: pictures as they are stored, and a fixed train, validation, test split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from costs.errors import InputError

SPLIT_SEED = 20240917  # fixes which pictures are in which split, whatever the experiment's seed
VALIDATION_PART = 10  # one training picture in ten is kept for validation


@dataclass(frozen=True)
class Scaling:
    """From stored bytes to what a network sees: (byte / 255 - mean) / std of each channel.

    Attributes:
        mean: of the training pictures by channel, in 0..1.
        std: likewise.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, pictures: np.ndarray) -> Scaling:
        """Mean and deviation of pictures uint8[n, height, width, channels]."""
        values = np.arange(256) / 255.0
        mean, std = [], []
        for channel in range(pictures.shape[3]):
            counts = np.bincount(pictures[..., channel].ravel(), minlength=256)
            first = float(counts @ values / counts.sum())
            second = float(counts @ np.square(values) / counts.sum())
            mean.append(first)
            std.append(max(second - first**2, 1e-6) ** 0.5)
        return cls(tuple(mean), tuple(std))

    def __call__(self, pictures: Any) -> Any:
        """Network inputs f32[n, height, width, channels] of numpy or jax bytes of that shape."""
        std = np.asarray(self.std).reshape(1, 1, 1, -1)
        factor = (1.0 / (255.0 * std)).astype(np.float32)
        offset = (np.asarray(self.mean).reshape(1, 1, 1, -1) / std).astype(np.float32)
        return pictures.astype(np.float32) * factor - offset


@dataclass(frozen=True)
class Split:
    """Pictures and their labels.

    Attributes:
        pictures: [n, height, width, channels], bytes to be scaled, or float32 as networks see them.
        labels: [n] int32.
        scaling: of bytes; None where pictures are float32.
    """

    pictures: np.ndarray
    labels: np.ndarray
    scaling: Scaling | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.labels)

    def inputs(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Network inputs f32[n, height, width, channels] of the pictures start to stop."""
        part = self.pictures[start:stop]
        return part if self.scaling is None else self.scaling(part)

    def first(self, count: int | None) -> Split:
        """So many pictures from the beginning; None: all."""
        return Split(self.pictures[:count], self.labels[:count], self.scaling)


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

    @property
    def scaling(self) -> Scaling | None:
        """Of bytes to network inputs; None where pictures are network inputs already."""
        return self.train.scaling

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every picture and label, whatever file they came from."""
        sha = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            sha.update(np.ascontiguousarray(split.pictures).data)
            sha.update(np.ascontiguousarray(split.labels).data)
        return sha.hexdigest()


def empty_dataset(name: str, classes: int, input_shape: tuple[int, int, int]) -> DataSet:
    """A data set that has shapes and no pictures, for who needs no more."""
    scaling = Scaling((0.5,) * input_shape[2], (0.5,) * input_shape[2])
    none = Split(np.zeros((0, *input_shape), np.uint8), np.zeros(0, np.int32), scaling)
    return DataSet(name, classes, none, none, none)


def halved(data: DataSet, name: str) -> DataSet:
    """The same pictures at half the resolution: means of 2x2 pixels, rounded to bytes."""

    def shrink(pictures: np.ndarray) -> np.ndarray:
        corners = [pictures[:, i::2, j::2].astype(np.uint16) for i in (0, 1) for j in (0, 1)]
        return np.asarray((np.sum(corners, axis=0, dtype=np.uint16) + 2) // 4, np.uint8)

    splits = [
        replace(s, pictures=shrink(s.pictures)) for s in (data.train, data.validation, data.test)
    ]
    scaling = Scaling.of(splits[0].pictures) if len(splits[0]) else data.scaling
    return DataSet(name, data.classes, *(replace(split, scaling=scaling) for split in splits))


def make_dataset(
    name: str,
    classes: int,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> DataSet:
    """The published splits, with validation carved out of training where none is given.

    Args:
        name: Of the data set.
        classes: Number of labels.
        train: Pictures [n, height, width, channels], bytes or float32, and labels [n].
        test: Likewise.
        validation: Likewise; None: a tenth of the training pictures, by a fixed permutation.

    Raises:
        InputError: if the parts do not fit each other.
    """
    if validation is None:
        order = np.random.default_rng(SPLIT_SEED).permutation(len(train[1]))
        kept, taken = np.split(order, [len(order) - len(order) // VALIDATION_PART])
        # sorted: pictures keep the order of the file, and copying them reads it once
        parts = [np.sort(part) for part in (kept, taken)]
        train, validation = ((train[0][part], train[1][part]) for part in parts)
    splits = {"train": train, "validation": validation, "test": test}
    for part, (pictures, labels) in splits.items():
        _check(f"{name}, {part}", pictures, labels, classes, train[0])
    scaling = Scaling.of(train[0]) if train[0].dtype == np.uint8 else None
    made = {
        part: Split(pictures, labels.astype(np.int32), scaling)
        for part, (pictures, labels) in splits.items()
    }
    return DataSet(name, classes, made["train"], made["validation"], made["test"])


def _check(
    where: str, pictures: np.ndarray, labels: np.ndarray, classes: int, first: np.ndarray
) -> None:
    if pictures.ndim != 4 or 0 in pictures.shape:
        raise InputError(
            "pictures of another shape",
            key=where,
            value=pictures.shape,
            allowed="[pictures, height, width, channels], none of them 0",
        )
    if pictures.shape[1:] != first.shape[1:] or pictures.dtype != first.dtype:
        raise InputError(
            "pictures of another shape or type than the training pictures",
            key=where,
            value=f"{pictures.dtype}{list(pictures.shape[1:])}",
            allowed=f"{first.dtype}{list(first.shape[1:])}",
        )
    if labels.shape != pictures.shape[:1]:
        raise InputError(
            "not one label for each picture",
            key=where,
            value=labels.shape,
            allowed=f"({len(pictures)},)",
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            "a label that is no class",
            key=where,
            value=f"{labels.min()} to {labels.max()}",
            allowed=f"0 to {classes - 1}",
        )
