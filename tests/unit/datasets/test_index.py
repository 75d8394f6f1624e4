"""The rows of every source: classes, ids, and what is refused."""

import io

import numpy as np
import pandas as pd
import pytest
from layouts import one_line_error, write_csv, write_parquet
from PIL import Image

from dataset import index_dataset as index_rule
from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.manifests import read_manifest, write_manifest

SMALL = {"train/shirt": 3, "train/bag": 1, "test/shirt": 2, "test/bag": 2}


def index(path, source="folder") -> pd.DataFrame:
    return index_dataset(Dataset(source=source, path=str(path), image_size=28, color="grey"))


def error(path) -> str:
    return one_line_error(index, path)


def test_a_class_of_the_test_split_alone_is_named(image_folder):
    message = error(image_folder({**SMALL, "test/coat": 2}))
    assert "'coat'" in message
    assert "2 images" in message


def test_one_class_is_not_enough(image_folder):
    assert "'shirt'" in error(image_folder({"train/shirt": 2, "test/shirt": 1}))


def test_a_class_may_have_one_image(image_folder):
    rows = index(image_folder(SMALL))
    assert ((rows["split"] == "train") & (rows["label_name"] == "bag")).sum() == 1


def test_a_class_without_a_usable_training_image_is_named(image_folder):
    path = image_folder(SMALL)
    (path / "train/bag/0.png").write_bytes(b"")
    message = error(path)
    assert "class 'bag' (3 images) has no usable image in split 'train' (1: is empty (0 bytes)); add some" in message
    (path / "test/bag/0.png").write_bytes(b"x")  # a fault in another split is no reason
    assert "in split 'train' (1: is empty (0 bytes)); add some" in error(path)


def test_classes_that_are_too_small_for_the_splits_are_no_unreadable_images(image_folder):
    data = Dataset(source="folder", path=str(image_folder({"a": 1, "b": 1})), image_size=28, make_splits={"test": 0.2})
    message = one_line_error(index_dataset, data)
    assert "in split 'test': every class is too small or has copies of one image; add images" in message


def test_a_split_without_a_usable_image_is_named_with_the_reason(image_folder, tmp_path):
    path = image_folder(SMALL)
    (path / "test").rename(tmp_path / "elsewhere")
    (path / "test").symlink_to(tmp_path / "elsewhere")
    assert "4: lies outside the data set's folder" in error(path)


NAMES = ["two words", 'the "best"', "it's", "Äpfel 苹果", "a,b", "%20", "{label}", "null", "NA"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["folder", "parquet", "csv"])
def test_any_class_name_is_kept(image_folder, tmp_path, pngs, name, kind):
    labels, splits = [name, "z", name, "z"], ["train", "train", "test", "test"]
    if kind == "folder":
        rows = index(image_folder({f"{split}/{label}": 1 for split, label in zip(splits, labels, strict=True)}))
    elif kind == "csv":
        rows = index(write_csv(tmp_path, pngs, labels, splits), "table")
    else:
        rows = index(write_parquet(tmp_path / "t.parquet", pngs, labels, splits), "table")
    write_manifest("real", rows, tmp_path / "real.parquet")
    assert set(read_manifest("real", tmp_path / "real.parquet")["label_name"]) == {name, "z"}


def test_numeric_labels_are_sorted_by_value(tmp_path, pngs):
    labels = [10, 9, 2, 10, 9, 2]
    rows = index(write_parquet(tmp_path / "t.parquet", pngs, labels), "table")
    assert dict(zip(rows["label_name"], rows["label"], strict=True)) == {"2": 0, "9": 1, "10": 2}


def test_images_of_other_splits_are_skipped(tmp_path, pngs):
    path = write_parquet(
        tmp_path / "t.parquet", pngs, ["a", "b", "a", "b", "c"], ["train"] * 2 + ["test"] * 2 + ["extra"]
    )
    assert set(index(path, "table")["label_name"]) == {"a", "b"}


def test_a_split_that_is_not_used_is_not_read(tmp_path, pngs, caplog):
    dark = io.BytesIO()
    Image.fromarray(np.full((8, 8), 9, np.uint16)).save(dark, "PNG")
    images = [*pngs[:4], dark.getvalue(), dark.getvalue()]
    splits = ["train", "train", "test", "test", "extra", "extra"]
    path = write_parquet(tmp_path / "t.parquet", images, ["a", "b"] * 3, splits)
    assert len(index(path, "table")) == 4
    assert "nearly black" not in caplog.text
    write_parquet(path, images, ["a", "b"] * 3, [*splits[:4], "train", "train"])
    assert len(index(path, "table")) == 6
    assert "nearly black: 2" in caplog.text


def test_copies_of_an_image_get_different_ids(image_folder):
    path = image_folder(SMALL)
    (path / "train/shirt/copy.png").write_bytes((path / "train/shirt/0.png").read_bytes())
    rows = index(path)
    assert rows["image_id"].is_unique
    assert rows["sha256"].duplicated().sum() == 1


def test_a_renamed_file_keeps_its_id(image_folder):
    path = image_folder(SMALL)
    before = set(index(path)["image_id"])
    (path / "train/shirt/0.png").rename(path / "train/shirt/new name.png")
    assert set(index(path)["image_id"]) == before


def test_files_of_the_same_name_in_several_classes_are_different_images(image_folder):
    rows = index(image_folder(SMALL))
    assert (rows["path"].str.rsplit("/", n=1).str[-1] == "0.png").sum() == 4
    assert rows["image_id"].is_unique and rows["sha256"].is_unique


ALL_SPLITS = {f"{split}/{name}": 7 for split in ("train", "test") for name in ("shirt", "Shirt", "bag")}
SETTINGS = {
    "plain": {},
    "unify_names": {"unify_names": True},
    "make_splits": {"make_splits": {"test": 0.3}, "unify_names": True},
    "imbalance_factor": {"imbalance_factor": 3},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_images_that_are_read_in_many_batches_give_the_same_table(image_folder, tmp_path, monkeypatch, settings):
    """Copies lie in different batches, and images change their class or split, or are dropped, in every batch."""
    path = image_folder(ALL_SPLITS)
    for copy in ("train/Shirt", "train/bag", "test/bag"):
        (path / copy / "copy.png").write_bytes((path / "train/shirt/3.png").read_bytes())
    (path / "train/bag/broken.png").write_bytes(b"")
    if "make_splits" in settings:
        path = path / "train"
    dataset = Dataset(source="folder", path=str(path), image_size=28, color="grey", **settings).model_dump()
    index_rule.main(dataset, tmp_path / "results/a/real.parquet")
    monkeypatch.setattr("synaug.images.tables._BATCH_ROWS", 3)
    index_rule.main(dataset, tmp_path / "results/b/real.parquet")
    a, b = (tmp_path / "results" / name / "real.parquet" for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    rows = read_manifest("real", a)
    assert rows["image_id"].is_unique and rows["sha256"].nunique() < len(rows)
    assert [file.name for file in a.parent.iterdir()] == ["real.parquet"]
