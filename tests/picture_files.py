"""Writes small data sets as their publishers lay them out."""

import hashlib
import io
import pickle
import struct
import tarfile
from dataclasses import replace

import numpy as np


def random_pictures(count, classes, shape=(32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.integers(0, 256, (count, *shape), np.uint8), labels


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def as_idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def as_records(pictures, labels, coarse):
    """The published binary layout, written out by hand: labels, then planes R, G, B."""
    parts = []
    for picture, label in zip(pictures, labels, strict=True):
        head = bytes([0, label]) if coarse else bytes([label])
        parts.append(head + b"".join(picture[:, :, c].tobytes() for c in range(3)))
    return b"".join(parts)


def as_pickle(pictures, labels, key):
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).reshape(len(labels), -1)
    return pickle.dumps({b"data": planes, key: [int(v) for v in labels]}, protocol=4)


def write_binary_folder(folder, train=(40, 0), test=(20, 1)):
    folder.mkdir()
    written = {}
    for name, (count, seed) in (("train.bin", train), ("test.bin", test)):
        written[name] = random_pictures(count, 100, seed=seed)
        (folder / name).write_bytes(as_records(*written[name], coarse=True))
    return written


def with_archive(known, number, path):
    """A data set whose published archive is this file."""
    layouts = list(known.layouts)
    archive = replace(layouts[number].archive, md5=md5(path))
    layouts[number] = replace(layouts[number], archive=archive)
    return replace(known, layouts=tuple(layouts))


def pack(path, folder, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def write_npz_folder(folder, shape=(6, 5, 3), kind=np.uint8, packed=False):
    folder.mkdir()
    for name, count in (("train", 20), ("test", 10)):
        pictures, labels = random_pictures(count, 4, shape, seed=count)
        (np.savez_compressed if packed else np.savez)(
            folder / f"{name}.npz", pictures=pictures.astype(kind), labels=labels
        )
    return folder
