"""CIFAR: both layouts, folders and archives; nothing else is believed or executed."""

import io
import os
import pickle
import struct
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from picture_files import (
    as_pickle,
    as_records,
    pack,
    random_pictures,
    with_archive,
    write_binary_folder,
    write_npz_folder,
)

from costs.errors import InputError
from dse import cli
from dse.data import catalogue, load_data, outline_data, store
from dse.data.cifar import CIFAR10, CIFAR100
from dse.data.cifar_binary import read_records
from dse.data.cifar_python import read_pickle
from dse.data.dataset import Scaling, halved, make_dataset


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """CIFAR-100 with 40 training and 20 test pictures, the data directory empty."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    small = replace(CIFAR100, pictures=(40, 20))
    monkeypatch.setitem(catalogue.LOADERS, "cifar100", small.load)
    catalogue._load.cache_clear()
    yield small
    catalogue._load.cache_clear()


def test_records_are_read_back(tmp_path):
    pictures, labels = random_pictures(6, 100)
    found = read_records(as_records(pictures, labels, coarse=True), 2, tmp_path)
    assert np.array_equal(found[0], pictures)
    assert np.array_equal(found[1], labels)


def test_the_same_pictures_from_folder_archive_and_pickles(tmp_path, small_cifar, monkeypatch):
    written = write_binary_folder(tmp_path / "cifar-100-binary")
    digest = load_data("cifar100").digest
    contents = {f.name: f.read_bytes() for f in (tmp_path / "cifar-100-binary").iterdir()}

    other = tmp_path / "archive"
    other.mkdir()
    monkeypatch.setenv(store.VARIABLE, str(other))
    pack(other / "cifar-100-binary.tar.gz", "cifar-100-binary", contents)
    archived = with_archive(small_cifar, 0, other / "cifar-100-binary.tar.gz")
    assert archived.load().digest == digest

    python = tmp_path / "python"
    python.mkdir()
    monkeypatch.setenv(store.VARIABLE, str(python))
    pickles = {
        name.removesuffix(".bin"): as_pickle(arrays[0], arrays[1], b"fine_labels")
        for name, arrays in written.items()
    }
    pack(python / "cifar-100-python.tar.gz", "cifar-100-python", pickles)
    archived = with_archive(small_cifar, 1, python / "cifar-100-python.tar.gz")
    assert archived.load().digest == digest
    assert sorted(f.name for f in python.iterdir()) == ["cifar-100-python.tar.gz"]


def test_a_pickle_of_python_2_as_the_published_ones(tmp_path):
    pictures, labels = random_pictures(3, 100)
    planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).tobytes()
    content = (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
        b"(K\x01K\x03M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", len(planes)) + planes + b"tb"
        b"U\x0bfine_labels](K\x00K\x01K\x02eU\x09filenames](U\x05a.pngeu."
    )
    found = read_pickle(content, "fine_labels", tmp_path)
    assert np.array_equal(found[0], pictures)
    assert np.array_equal(found[1], labels)


def test_cifar10_joins_its_five_batches_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    pictures, labels = random_pictures(50, 10)
    for i in range(5):
        part = slice(10 * i, 10 * i + 10)
        content = as_records(pictures[part], labels[part], coarse=False)
        (folder / f"data_batch_{i + 1}.bin").write_bytes(content)
    (folder / "test_batch.bin").write_bytes(as_records(pictures, labels, coarse=False))
    data = replace(CIFAR10, pictures=(50, 50)).load()
    expected = make_dataset("cifar10", 10, (pictures, labels), (pictures, labels))
    assert data.digest == expected.digest


@pytest.mark.parametrize("cut", [1, 3074])
def test_a_truncated_folder_is_one_error(tmp_path, small_cifar, cut):
    write_binary_folder(tmp_path / "cifar-100-binary")
    file = tmp_path / "cifar-100-binary" / "train.bin"
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(InputError, match="truncated"):
        load_data("cifar100")


def test_a_truncated_archive_has_a_wrong_checksum_and_stays(tmp_path, small_cifar):
    path = tmp_path / "cifar-100-binary.tar.gz"
    pack(path, "cifar-100-binary", {"train.bin": b"", "test.bin": b""})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="wrong checksum: truncated"):
        load_data("cifar100")
    assert path.exists()


def test_an_archive_that_ends_early_is_one_error_whatever_its_checksum(tmp_path, small_cifar):
    path = tmp_path / "cifar-100-binary.tar.gz"
    noise = np.random.default_rng(0).bytes(40 * 3074)
    pack(path, "cifar-100-binary", {"train.bin": noise, "test.bin": noise})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged or truncated"):
        with_archive(small_cifar, 0, path).load()


class Touch:
    """Unpickled by the ordinary unpickler, this makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_foreign_code_in_a_pickle_is_refused_and_not_executed(tmp_path, protocol):
    trap = tmp_path / "executed"
    content = pickle.dumps({"data": Touch(trap), "fine_labels": [1]}, protocol=protocol)
    with pytest.raises(InputError, match=r"names \w+\.mkdir; nothing of it was executed"):
        read_pickle(content, "fine_labels", "some")
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists(), "the trap must work, or the test shows nothing"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04",
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": np.zeros((2, 3072), np.float64), b"fine_labels": [0, 1]}, 4),
        pickle.dumps({b"data": np.zeros((2, 3071), np.uint8), b"fine_labels": [0, 1]}, 4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [2**70]}, 4),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": ["a"]}, 4),
        # an array that claims terabytes before its contents are read
        b"\x80\x04cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
        b"\x94R(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86cnumpy\ndtype\n(X\x02\x00\x00\x00u1tR"
        b"\x89C\x01atb.",
    ],
)  # fmt: skip
def test_any_other_pickle_is_one_error(content):
    with pytest.raises(InputError):
        read_pickle(content, "fine_labels", "some")


def test_without_a_network_one_message_says_what_to_put_where(tmp_path, small_cifar, monkeypatch):
    layout = small_cifar.layouts[0]
    away = replace(layout, archive=replace(layout.archive, url=(tmp_path / "no").as_uri()))
    with pytest.raises(InputError) as caught:
        replace(small_cifar, layouts=(away,)).load()
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(tmp_path), "cifar-100-binary.tar.gz", layout.archive.md5, "--data"):
        assert part in text
    assert not list(tmp_path.iterdir())


# Through the command line

EXPERIMENT = """
name: small
method: train
data: {name: cifar100}
network: {name: cifar_resnet8, width_multiplier: 0.1}
training: {batch: 16, shift: 4, flip: true, calibration_pictures: 16}
train: {epochs: 1}
"""


@pytest.mark.parametrize(
    "damage", ["truncated", "checksum", "pickle", "missing", "shapes", "inflating", "no zip"]
)
def test_bad_data_is_one_line_and_exit_code_2(tmp_path, small_cifar, damage, capsys, monkeypatch):
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    data = tmp_path / "data"
    data.mkdir()
    trap = tmp_path / "executed"
    if damage == "truncated":
        write_binary_folder(data / "cifar-100-binary", train=(39, 0))
    elif damage == "checksum":
        pack(data / "cifar-100-binary.tar.gz", "cifar-100-binary", {"train.bin": b""})
    elif damage == "pickle":
        (data / "cifar-100-python").mkdir()
        for name in ("train", "test"):
            content = pickle.dumps({b"data": Touch(trap), b"fine_labels": [1]})
            (data / "cifar-100-python" / name).write_bytes(content)
    elif damage == "missing":
        data = tmp_path / "nowhere"
    else:
        own = write_npz_folder(data / "own", packed=True)
        if damage == "shapes":
            np.savez(own / "test.npz", pictures=np.zeros((4, 7, 7, 3), np.uint8), labels=range(4))
        elif damage == "inflating":  # claims 5 GiB
            claimed = io.BytesIO()
            header = {"descr": "|u1", "fortran_order": False, "shape": (5 * 2**30,)}
            np.lib.format.write_array_header_1_0(claimed, header)
            with zipfile.ZipFile(own / "test.npz", "w") as archive:
                archive.writestr("pictures.npy", claimed.getvalue())
        else:
            (own / "train.npz").write_bytes(b"PK nothing")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["dse", "run", tmp_path / "e.yaml", "--data", data, "--out", tmp_path / "run"]
    if (data / "own").exists():
        arguments += ["--set", "data.name=own"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    assert cli.run_app() == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_halved_pictures_are_means_of_two_by_two_pixels() -> None:
    pictures = np.arange(4 * 4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 4, 3)
    labels = np.arange(4, dtype=np.int32)
    whole = make_dataset("x", 4, (pictures, labels), (pictures, labels), (pictures, labels))
    half = halved(whole, "x_half")
    assert (half.name, half.input_shape, half.classes) == ("x_half", (2, 2, 3), 4)
    block = pictures[1, 2:4, 0:2, 2].astype(float)
    assert half.test.pictures[1, 1, 0, 2] == int(block.mean() + 0.5)
    assert half.scaling == Scaling.of(half.train.pictures) == half.test.scaling
    assert outline_data("cifar100_half").input_shape == (16, 16, 3)
