"""Data sets: splits, MNIST, a user's own arrays, downloads; what is refused."""

import gzip
import hashlib
import os
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from picture_files import (
    as_idx,
    md5,
    random_pictures,
    write_npz_folder,
)

from costs.errors import InputError
from dse.data import catalogue, cifar, load_data, mnist, store
from dse.data.dataset import Scaling, make_dataset
from dse.data.idx import read_idx
from dse.data.mnist import FASHION_MNIST, MNIST
from dse.data.npz import load_npz_folder, read_npz

# Splits


def test_validation_is_a_fixed_tenth_and_no_picture_is_lost_or_doubled():
    pictures, labels = random_pictures(100, 10, (4, 4, 1))
    pictures[:, 0, 0, 0] = np.arange(100)
    test = random_pictures(7, 10, (4, 4, 1))
    first, again = (make_dataset("some", 10, (pictures, labels), test) for _ in range(2))
    assert (len(first.train), len(first.validation), len(first.test)) == (90, 10, 7)
    ids = [part.pictures[:, 0, 0, 0] for part in (first.train, first.validation)]
    assert sorted(np.concatenate(ids)) == list(range(100))
    assert np.array_equal(ids[1], again.validation.pictures[:, 0, 0, 0])
    assert np.array_equal(first.test.pictures, test[0])
    assert first.digest == again.digest


def test_digest_changes_with_one_pixel():
    pictures, labels = random_pictures(20, 10, (4, 4, 1))
    other = pictures.copy()
    other[3, 2, 1, 0] ^= 1
    digests = {
        make_dataset("some", 10, (array, labels), (pictures, labels)).digest
        for array in (pictures, other)
    }
    assert len(digests) == 2


def test_scaled_training_pictures_have_mean_0_and_deviation_1():
    pictures, _ = random_pictures(50, 10)
    pictures[..., 1] //= 3
    inputs = Scaling.of(pictures)(pictures)
    assert inputs.dtype == np.float32
    np.testing.assert_allclose(inputs.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(inputs.std((0, 1, 2), dtype=np.float64), 1.0, atol=1e-5)


def test_pictures_of_another_shape_are_refused():
    train, test = random_pictures(20, 10, (8, 8, 3)), random_pictures(20, 10, (8, 9, 3))
    with pytest.raises(InputError, match="another shape"):
        make_dataset("some", 10, train, test)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_refused(label):
    train, test = random_pictures(20, 10), random_pictures(20, 10)
    test[1][3] = label
    with pytest.raises(InputError, match="no class"):
        make_dataset("some", 10, train, test)


# MNIST


@pytest.mark.parametrize("known", [MNIST, FASHION_MNIST])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_plain_and_compressed(tmp_path, monkeypatch, known, packed):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    folder = tmp_path / known.folders[1]
    folder.mkdir(parents=True)
    md5s, arrays = {}, {}
    for part, count in (("train", 30), ("t10k", 10)):
        pictures, labels = random_pictures(count, 10, (28, 28), seed=count)
        arrays[part] = (pictures[..., None], labels)
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels.astype(np.uint8))):
            name = f"{part}-{kind}-ubyte"
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(as_idx(array)) if packed else as_idx(array))
            md5s[name] = md5(path)
    found = replace(known, md5=md5s, pictures=(30, 10)).load()
    assert found.digest == make_dataset("any", 10, arrays["train"], arrays["t10k"]).digest
    assert found.input_shape == (28, 28, 1)
    if packed:
        with pytest.raises(InputError, match="wrong checksum"):
            known.load()
    else:
        with pytest.raises(InputError, match="another shape"):
            known.load()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        as_idx(np.zeros((2, 4, 4), np.uint8))[:-1],
        as_idx(np.zeros((2, 4, 4), np.uint8)) + b"x",
        as_idx(np.zeros(9, np.uint8)),
        struct.pack(">BBBB3I", 0, 0, 13, 3, 1, 1, 1) + b"1234",
        struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31),
    ],
)
def test_a_bad_idx_file_is_one_error(tmp_path, content):
    for path, written in ((tmp_path / "a", content), (tmp_path / "a.gz", gzip.compress(content))):
        path.write_bytes(written)
        with pytest.raises(InputError):
            read_idx(path, 3)


def test_a_compressed_idx_file_cut_short_is_one_error(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(999))[:-20])
    with pytest.raises(InputError):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(as_idx(random_pictures(9, 9, (9, 9))[0]))[:-20])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_idx(path, 3)


# npz folders


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("shape", "kind"), [((6, 5, 3), np.uint8), ((6, 5), np.float32)])
def test_a_folder_of_npz_files_by_its_path_and_by_its_name(
    tmp_path, monkeypatch, shape, kind, packed
):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    folder = write_npz_folder(tmp_path / "mine", shape, kind, packed)
    data = load_data(str(folder))
    assert data.classes == 4
    assert data.input_shape == (6, 5, 3 if len(shape) == 3 else 1)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 2, 10)
    assert (data.scaling is None) == (kind is np.float32)
    assert load_data("mine").digest == data.digest


def test_its_own_validation_pictures_are_taken(tmp_path):
    folder = write_npz_folder(tmp_path / "mine")
    os.rename(folder / "test.npz", folder / "validation.npz")
    np.savez(folder / "test.npz", pictures=np.zeros((3, 6, 5, 3), np.uint8), labels=[0, 1, 2])
    data = load_npz_folder(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (20, 10, 3)


def test_an_npz_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("pictures.npy", "w") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (2**13, 64, 64, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(96):
                file.write(bytes(2**20))
        archive.writestr("labels.npy", b"")
    assert path.stat().st_size < 2**18
    with pytest.raises(InputError, match="nothing was inflated"):
        read_npz(path, largest_bytes=2**26)


def test_a_header_that_claims_more_than_its_archive_holds_is_refused(tmp_path):
    path = tmp_path / "train.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("pictures.npy", "w") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 64, 64, 3)}
            np.lib.format.write_array_header_1_0(file, header)
        with archive.open("labels.npy", "w") as file:
            np.lib.format.write_array(file, np.zeros(3, np.int64))
    with pytest.raises(InputError, match="claims another size"):
        read_npz(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"pictures": np.zeros((3, 4, 4, 1), np.uint8)},
        {"pictures": np.zeros((3, 4, 4, 1), np.uint8), "labels": np.zeros(3)},
        {"pictures": np.zeros((3, 4), np.uint8), "labels": np.zeros(3, int)},
        {"pictures": np.zeros((3, 4, 4, 1), np.float64), "labels": np.zeros(3, int)},
        {"pictures": np.full((3, 4, 4, 1), np.nan, np.float32), "labels": np.zeros(3, int)},
        {"pictures": np.array([[[{}]]], object), "labels": np.zeros(1, int)},
        {"pictures": np.zeros((0, 4, 4, 1), np.uint8), "labels": np.zeros(0, int)},
    ],
)
def test_other_arrays_are_one_error(tmp_path, arrays):
    path = tmp_path / "train.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=r"train\.npz"):
        read_npz(path)


def test_an_npz_file_cut_short_is_one_error(tmp_path):
    folder = write_npz_folder(tmp_path / "mine", packed=True)
    content = (folder / "train.npz").read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        (folder / "train.npz").write_bytes(content[:length])
        with pytest.raises(InputError, match=r"train\.npz"):
            load_npz_folder(folder)
    damaged = bytearray(content)
    damaged[len(content) // 3] ^= 0xFF
    (folder / "train.npz").write_bytes(damaged)
    with pytest.raises(InputError, match=r"train\.npz"):
        load_npz_folder(folder)


# Downloads


def offer(tmp_path, content=b"what was published"):
    source = tmp_path / "published.bin"
    source.write_bytes(content)
    return store.Remote("published.bin", source.as_uri(), hashlib.md5(content).hexdigest())


def test_a_download_bears_its_name_once_its_checksum_is_right(tmp_path):
    remote, folder = offer(tmp_path), tmp_path / "data"
    assert store.download(remote, folder, "").read_bytes() == b"what was published"
    wrong = replace(remote, file="other.bin", md5="0" * 32)
    with pytest.raises(InputError, match="nothing was kept"):
        store.download(wrong, folder, "")
    assert [file.name for file in folder.iterdir()] == ["published.bin"]


def test_the_catalogue_knows_shapes_without_files(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    for known in (cifar.CIFAR10, cifar.CIFAR100, mnist.MNIST, mnist.FASHION_MNIST):
        assert catalogue.outline_data(known.name).input_shape == known.outline().input_shape
    assert not list(tmp_path.iterdir())
