"""Data sets: what each format's reader accepts, and that nothing else is believed or executed."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from costs.errors import InputError
from dse import cli
from dse.data import catalogue, cifar, load_data, mnist, outline_data, store
from dse.data.cifar import CIFAR10, CIFAR100
from dse.data.cifar_binary import read_records
from dse.data.cifar_python import read_pickle
from dse.data.dataset import Scaling, halved, make_dataset
from dse.data.idx import read_idx
from dse.data.mnist import FASHION_MNIST, MNIST
from dse.data.npz import load_npz_folder, read_npz


def random_pictures(count, classes, shape=(32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.integers(0, 256, (count, *shape), np.uint8), labels


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


def as_idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """CIFAR-100 with 40 training and 20 test pictures, the data directory empty."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    small = replace(CIFAR100, pictures=(40, 20))
    monkeypatch.setitem(catalogue.LOADERS, "cifar100", small.load)
    catalogue._load.cache_clear()
    yield small
    catalogue._load.cache_clear()


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


# CIFAR


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


def write_npz_folder(folder, shape=(6, 5, 3), kind=np.uint8, packed=False):
    folder.mkdir()
    for name, count in (("train", 20), ("test", 10)):
        pictures, labels = random_pictures(count, 4, shape, seed=count)
        (np.savez_compressed if packed else np.savez)(
            folder / f"{name}.npz", pictures=pictures.astype(kind), labels=labels
        )
    return folder


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


def test_the_catalogue_knows_shapes_without_files(tmp_path, monkeypatch):
    monkeypatch.setenv(store.VARIABLE, str(tmp_path))
    for known in (cifar.CIFAR10, cifar.CIFAR100, mnist.MNIST, mnist.FASHION_MNIST):
        assert catalogue.outline_data(known.name).input_shape == known.outline().input_shape
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


@pytest.mark.parametrize("damage", ["truncated", "checksum", "pickle", "missing"])
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
    before = sorted(tmp_path.rglob("*"))
    arguments = ["dse", "run", tmp_path / "e.yaml", "--data", data, "--out", tmp_path / "run"]
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
