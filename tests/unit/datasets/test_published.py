"""CIFAR and Fashion-MNIST in their authors' files, whole or cut to a long tail."""

import gzip
import hashlib
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from layouts import CLASSES, one_line_error, python2_pickle, write_cifar, write_fashion

from synaug.config import Dataset
from synaug.datasets import as_table, convert, index_dataset, input_files
from synaug.datasets.fashion_mnist import CLASSES as ITEMS
from synaug.datasets.published import cut
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, write_manifest


def dataset(source, path, **settings) -> Dataset:
    return Dataset(source=source, path=str(path), image_size=32, **settings)


def ldam_drw(targets: list[int], cls_num: int, imb_factor: float, rand_number: int = 0) -> np.ndarray:
    """The steps of imbalance_cifar.py of Cao et al. (2019), which draws from the global generator."""
    before = np.random.get_state()
    np.random.seed(rand_number)
    img_max = int(len(targets) / cls_num * 1.0)
    img_num_per_cls = [int(img_max * (imb_factor ** (cls_idx / (cls_num - 1.0)))) for cls_idx in range(cls_num)]
    targets_np = np.array(targets, dtype=np.int64)
    kept = []
    for the_class, the_img_num in zip(np.unique(targets_np), img_num_per_cls, strict=True):
        idx = np.where(targets_np == the_class)[0]
        np.random.shuffle(idx)
        kept.append(idx[:the_img_num])
    np.random.set_state(before)
    return np.concatenate(kept)


def labels_of(classes: int) -> np.ndarray:
    """50,000 labels, equally many of every class, always in the same order (CIFAR's own is not in this repository)."""
    return np.random.RandomState(1).permutation(np.arange(50000) % classes)


@pytest.mark.parametrize(
    ("source", "factor", "count", "digest"),
    [
        ("cifar10", 100, 12406, "b39494e3986af0da"),
        ("cifar10", 50, 13996, "8c88181ef8205e0f"),
        ("cifar10", 10, 20431, "abfc46041479c08d"),
        ("cifar100", 100, 10847, "b7e30d044a9f6aca"),
        ("cifar100", 50, 12608, "3849f851172044b9"),
        ("cifar100", 10, 19573, "fe4783dc241760f0"),
    ],
)
def test_the_cut_is_that_of_ldam_drw(source, factor, count, digest):
    labels = labels_of(len(CLASSES[source]))
    kept = cut(labels, dataset(source, "data", imbalance_factor=factor))
    assert len(kept) == count
    assert np.array_equal(kept, ldam_drw(labels.tolist(), len(CLASSES[source]), 1 / factor))
    assert hashlib.sha256(kept.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_another_seed_keeps_other_images_and_the_same_counts():
    labels = labels_of(10)
    first, second = (cut(labels, dataset("cifar10", "d", imbalance_factor=100, cut_seed=seed)) for seed in (0, 7))
    assert np.array_equal(second, ldam_drw(labels.tolist(), 10, 0.01, rand_number=7))
    assert not np.array_equal(np.sort(first), np.sort(second))
    assert np.array_equal(labels[first], labels[second])


def test_the_largest_class_can_be_cut_and_without_a_factor_all_images_are_kept():
    labels = labels_of(10)
    kept = cut(labels, dataset("cifar10", "d", imbalance_factor=100, largest_class=500))
    assert np.bincount(labels[kept]).tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    assert np.array_equal(cut(labels, dataset("cifar10", "d")), np.arange(50000))


def test_an_impossible_cut_is_named():
    labels = labels_of(10)
    message = one_line_error(cut, labels, dataset("cifar10", "d", imbalance_factor=100, largest_class=6000))
    assert "6000" in message and "5000 images" in message
    assert "5000 at most" in one_line_error(cut, labels, dataset("cifar10", "d", imbalance_factor=6000))


def indexed(chosen: Dataset, folder: Path):
    """The manifest `real` of a data set in its authors' files, written and read."""
    pq.write_table(convert(chosen), folder / "dataset.parquet")
    write_manifest("real", index_dataset(as_table(chosen, str(folder / "dataset.parquet"))), folder / "real.parquet")
    return read_manifest("real", folder / "real.parquet")


@pytest.mark.parametrize("source", ["cifar10", "cifar100"])
def test_cifar_from_its_files_to_the_manifest_pixel_by_pixel(tmp_path, source):
    images, labels = write_cifar(tmp_path, source)
    chosen = dataset(source, tmp_path)
    assert len(input_files(chosen)) == {"cifar10": 7, "cifar100": 3}[source]
    real = indexed(chosen, tmp_path)
    train = real[real["split"] == "train"].sort_values("row")
    assert (len(train), (real["split"] == "test").sum()) == (len(images), 2 * len(CLASSES[source]))
    assert real["usable"].all()
    assert train["label_name"].tolist() == [CLASSES[source][label] for label in labels]
    assert np.array_equal(load_pixels(train, 32, "rgb"), images)


def test_a_cut_cifar_has_the_images_of_ldam_drw(tmp_path):
    _, labels = write_cifar(tmp_path, "cifar10")
    table = convert(dataset("cifar10", tmp_path, imbalance_factor=4)).to_pandas()
    kept = table.loc[table["split"] == "train", "source_index"]
    assert kept.tolist() == ldam_drw(labels.tolist(), 10, 1 / 4).tolist()
    assert (table["split"] == "test").sum() == 20


@pytest.mark.parametrize(
    ("place", "end"), [("FashionMNIST/raw", ""), ("FashionMNIST/raw", ".gz"), ("", ".gz"), ("", "")]
)
def test_fashion_mnist_in_every_place_where_its_files_may_be(tmp_path, place, end):
    images, labels = write_fashion(tmp_path / place, end)
    chosen = dataset("fashion_mnist", tmp_path, color="grey")
    assert len(input_files(chosen)) == 4
    table = convert(chosen).to_pandas()
    train = table[table["split"] == "train"]
    assert train["label_name"].tolist() == [ITEMS[label] for label in labels]
    real = indexed(chosen, tmp_path)
    assert np.array_equal(load_pixels(real[real["split"] == "train"].sort_values("row"), 28, "grey"), images)


def test_the_items_are_those_of_the_authors():
    assert [
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ] == ITEMS


def test_the_table_has_the_names_of_the_splits_and_the_same_bytes_each_time(tmp_path):
    write_fashion(tmp_path)
    chosen = dataset("fashion_mnist", tmp_path, train_split="learn", test_split="exam", imbalance_factor=2)
    assert set(convert(chosen).column("split").to_pylist()) == {"learn", "exam"}
    for name in ("a", "b"):
        pq.write_table(convert(chosen), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "fashion_mnist"])
def test_missing_files_are_named_with_what_to_do(tmp_path, source):
    message = one_line_error(input_files, dataset(source, tmp_path))
    assert "download: true" in message and str(tmp_path) in message
    assert input_files(dataset(source, tmp_path, download=True)) == []  # the same before and after the download


def test_only_missing_files_are_downloaded(tmp_path, monkeypatch):
    from torchvision import datasets

    calls = []

    def fetch(root, download):
        calls.append(root)
        write_cifar(Path(root), "cifar100")

    monkeypatch.setattr(datasets, "CIFAR100", fetch)
    chosen = dataset("cifar100", tmp_path / "new", download=True)
    assert convert(chosen).num_rows == convert(chosen).num_rows == 600
    assert calls == [str(tmp_path / "new")]


def test_a_failed_download_is_named(tmp_path, monkeypatch):
    from torchvision import datasets

    def fetch(root, download):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, "FashionMNIST", fetch)
    message = one_line_error(convert, dataset("fashion_mnist", tmp_path, download=True))
    assert "no route to host" in message and str(tmp_path) in message


def test_a_pickle_cannot_call_functions(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "called",))

    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(pickle.dumps({b"data": Evil()}))
    assert "cifar-100-python/train" in one_line_error(convert, dataset("cifar100", tmp_path))
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", python2_pickle([1]), python2_pickle({b"data": 3})])
def test_a_damaged_file_of_cifar_is_named(tmp_path, content):
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(content)
    assert "cifar-100-python/train" in one_line_error(convert, dataset("cifar100", tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        {b"data": np.zeros((2, 3072), np.uint8), b"fine_labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [100]},
        {b"data": b"text", b"fine_labels": [1]},
        {b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [b"text"]},
    ],
)
def test_a_file_of_cifar_with_wrong_contents_is_named(tmp_path, content):
    write_cifar(tmp_path, "cifar100")
    (tmp_path / "cifar-100-python/train").write_bytes(python2_pickle(content))
    assert "cifar-100-python/train" in one_line_error(convert, dataset("cifar100", tmp_path))


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01", b"\0\0\x08\x01" + struct.pack(">I", 9) + b"12345678"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_damaged_file_of_fashion_mnist_is_named(tmp_path, end, content):
    write_fashion(tmp_path, end)
    file = tmp_path / f"train-labels-idx1-ubyte{end}"
    file.write_bytes(content)
    assert file.name in one_line_error(convert, dataset("fashion_mnist", tmp_path))


def test_a_compressed_file_of_gigabytes_is_refused_before_it_is_read(tmp_path):
    write_fashion(tmp_path, ".gz")
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 20, 1 << 6, 1)  # 64 MB
    for zeros in (b"\0" * (1 << 26), b""):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + zeros, 1))
        tracemalloc.start()
        message = one_line_error(convert, dataset("fashion_mnist", tmp_path, color="grey"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "train-images-idx3-ubyte.gz: is not a complete idx file" in message
        assert peak < 1 << 24
