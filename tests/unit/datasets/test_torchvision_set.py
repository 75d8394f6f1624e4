"""Data sets of torchvision become a table."""

from pathlib import Path

import numpy as np
import pytest
from layouts import converted, one_line_error, write_mnist

from synaug.config import Dataset
from synaug.datasets import fingerprint, input_files
from synaug.images.codec import decode_image
from synaug.images.store import load_pixels


def block(path: Path, **settings) -> Dataset:
    return Dataset(source="torchvision", path=str(path), image_size=28, **settings)


@pytest.fixture
def mnist(tmp_path, pngs) -> Path:
    return write_mnist(tmp_path / "root", pngs)


def test_a_data_set_of_torchvision(mnist, tmp_path, pngs):
    rows = converted(block(mnist, name="MNIST"), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "3 - three"): 4, ("train", "7 - seven"): 4, ("test", "3 - three"): 2, ("test", "7 - seven"): 2,
    }  # fmt: skip
    expected = np.stack([decode_image(png, 28, "grey") for png in pngs[:12]])
    assert np.array_equal(load_pixels(rows.sort_values("row"), 28, "grey"), expected)


def test_a_validation_split_can_be_made(mnist, tmp_path):
    settings = {"validation_split": "validation", "make_splits": {"validation": 0.25}}
    rows = converted(block(mnist, name="MNIST", **settings), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 6, "validation": 2, "test": 4}


def test_a_long_tail_can_be_cut(mnist, tmp_path):
    rows = converted(block(mnist, name="MNIST", imbalance_factor=4, cut_seed=1), tmp_path)
    sizes = rows[rows["split"] == "train"]["label_name"].value_counts()
    assert sorted(sizes) == [1, 4]
    assert (rows["split"] == "test").sum() == 4


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MNSIT", {}, "torchvision has no 'MNSIT'; the closest: MNIST"),
        ("SVHN", {}, "SVHN cannot be read from"),
        ("EuroSAT", {}, "EuroSAT has no splits; have them made"),
        ("MNIST", {"validation_split": "val"}, "MNIST has no validation split; have one made"),
        ("DTD", {"test_split": "tset"}, "DTD cannot be read from"),
    ],
)
def test_an_unknown_data_set_or_split_is_named(mnist, tmp_path, name, settings, message):
    assert message in one_line_error(converted, block(mnist, name=name, **settings), tmp_path)
    assert not list(tmp_path.glob("*dataset.parquet*"))  # no partial file


def test_results_are_no_files_of_a_data_set(mnist, monkeypatch):
    monkeypatch.chdir(mnist)
    (mnist / "results/own").mkdir(parents=True)
    known = fingerprint(block(Path("."), name="MNIST"))
    unknown = block(Path("."), name="FER2013")  # no entry has its name, so that all files are taken for its own
    assert input_files(block(Path("."), name="MNIST")) == []
    assert "contains the current folder" in one_line_error(input_files, unknown)
    (mnist / "results/own/real.parquet").write_bytes(b"x")
    assert fingerprint(block(Path("."), name="MNIST")) == known != ""


def test_a_damaged_image_is_named(tmp_path, pngs):
    for number, png in enumerate(pngs[:8]):
        file = tmp_path / "root" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png[:100] if number == 5 else png)
    dataset = block(tmp_path / "root", name="ImageFolder", make_splits={"test": 0.25})
    assert "ImageFolder: image 6 of split 'train' cannot be read (" in one_line_error(converted, dataset, tmp_path)


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("StanfordCars", "stanford_cars/cars_train/1.jpg"),
        ("CLEVRClassification", "clevr/CLEVR_v1.0/1.png"),
        ("LFWPeople", "lfw-py/people.txt"),
        ("Flowers102", "flowers-102/jpg/1.jpg"),
        ("STL10", "stl10_binary/train_X.bin"),
        ("Places365", "data_256_standard/a/1.jpg"),  # beside places365_val.txt
        ("ImageNet", "train/n01440764/1.JPEG"),
        ("SVHN", "train_32x32.mat"),
    ],
)
def test_a_changed_file_of_a_data_set_is_noticed_whatever_its_folder_is_called(tmp_path, name, own):
    files = [tmp_path / place for place in (own, "places365_val.txt", "imagenet_notes.txt", "svhn.txt", "pcam/x.h5")]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    dataset = block(tmp_path, name=name)
    before = fingerprint(dataset)
    files[0].write_bytes(b"xx")
    after = fingerprint(dataset)
    assert after != before
    files[-1].write_bytes(b"xx")  # of another data set in the same folder
    is_all_of_the_folder = name in ("Places365", "ImageNet", "SVHN")
    assert (fingerprint(dataset) != after) == is_all_of_the_folder


def test_the_folder_must_exist(tmp_path):
    message = one_line_error(input_files, block(tmp_path / "nowhere", name="MNIST"))
    assert "nowhere is not a folder" in message and "dataset.download" in message
