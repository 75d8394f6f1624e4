"""Real images from folders and tables: every image becomes a row, usable or with a reason."""

import os

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.config import Dataset
from synaug.datasets import fingerprint, index_dataset, input_files
from synaug.images.codec import decode_image
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

SMALL = {"train/shirt": 3, "train/bag": 1, "test/shirt": 2, "test/bag": 2}


def folder(path, **settings) -> Dataset:
    return Dataset(source="folder", path=str(path), image_size=28, color="grey", **settings)


def table(path, **settings) -> Dataset:
    return Dataset(source="table", path=str(path), image_size=28, color="grey", **settings)


def complaint(dataset: Dataset) -> str:
    with pytest.raises(UserError) as caught:
        index_dataset(dataset)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_table(path, pngs, labels, splits=None):
    """A Parquet table with embedded images; the first half is `train` unless `splits` says otherwise."""
    count = len(labels)
    splits = splits or ["train"] * (count // 2) + ["test"] * (count - count // 2)
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:count]])
    pq.write_table(pa.table({"image": image, "label": labels, "split": splits}), path)
    return path


def write_csv(folder, pngs, labels, splits):
    """A CSV and the image files it names, in a folder beside it."""
    (folder / "images").mkdir()
    for number in range(len(labels)):
        (folder / "images" / f"{number}.png").write_bytes(pngs[number])
    paths = [f"images/{number}.png" for number in range(len(labels))]
    pd.DataFrame({"image": paths, "label": labels, "split": splits}).to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


def test_folder_becomes_a_manifest(image_folder, tmp_path):
    rows = index_dataset(folder(image_folder(SMALL)))
    write_manifest("real", rows, tmp_path / "real.parquet")
    real = read_manifest("real", tmp_path / "real.parquet")
    assert real.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "shirt"): 3, ("train", "bag"): 1, ("test", "shirt"): 2, ("test", "bag"): 2,
    }  # fmt: skip
    assert real["usable"].all()
    assert (real[["width", "height"]] == 28).all(axis=None)
    assert real["row"].isna().all()
    assert dict(zip(real["label_name"], real["label"], strict=True)) == {"bag": 0, "shirt": 1}


def test_table_with_embedded_images(tmp_path, pngs):
    rows = index_dataset(table(write_table(tmp_path / "t.parquet", pngs, ["b", "a"] * 4)))
    assert rows["usable"].all()
    assert rows["row"].tolist() == list(range(8))
    assert input_files(table(tmp_path / "t.parquet")) == [str(tmp_path / "t.parquet")]


@pytest.mark.parametrize("column", ["image", "picture"])
def test_images_that_were_indexed_can_be_loaded_whatever_their_column_is_called(tmp_path, pngs, column):
    path = write_table(tmp_path / "t.parquet", pngs, ["a", "b"] * 3)
    pq.write_table(pq.read_table(path).rename_columns({"image": column}), path)
    rows = index_dataset(table(path, image_column=column))
    write_manifest("real", rows, tmp_path / "real.parquet")
    real = read_manifest("real", tmp_path / "real.parquet").sort_values("row")
    expected = np.stack([decode_image(data, 28, "grey") for data in pngs[:6]])
    assert np.array_equal(load_pixels(real, 28, "grey"), expected)


def test_a_column_of_plain_bytes_works_or_says_what_is_needed(tmp_path, pngs):
    splits = ["train", "train", "test", "test"]
    pq.write_table(pa.table({"image": pngs[:4], "label": ["a", "b"] * 2, "split": splits}), tmp_path / "t.parquet")
    try:
        rows = index_dataset(table(tmp_path / "t.parquet"))
    except UserError as error:
        assert "image" in str(error)
    else:
        assert rows["usable"].all()
        assert load_pixels(rows, 28, "grey").any()


def test_a_file_name_that_is_no_unicode_is_a_row_with_a_reason_or_a_user_error(image_folder, tmp_path, pngs):
    path = image_folder(SMALL)
    with open(os.fsencode(path / "train/shirt") + b"/caf\xe9.png", "wb") as file:
        file.write(pngs[50])
    try:
        rows = index_dataset(folder(path))
        write_manifest("real", rows, tmp_path / "real.parquet")
        fingerprint(folder(path))
    except UserError as error:
        assert "caf" in str(error)


def test_a_column_that_stands_twice_is_a_user_error(tmp_path):
    (tmp_path / "t.csv").write_text("image,label,split,label\n1.png,a,train,b\n")
    assert "label" in complaint(table(tmp_path / "t.csv"))


def test_csv_with_paths_relative_to_itself_gives_the_ids_of_the_embedded_images(tmp_path, pngs):
    labels, splits = ["x", "y"] * 3, ["train"] * 4 + ["test"] * 2
    from_csv = index_dataset(table(write_csv(tmp_path, pngs, labels, splits)))
    embedded = index_dataset(table(write_table(tmp_path / "t.parquet", pngs, labels, splits)))
    assert from_csv["usable"].all()
    assert from_csv["image_id"].tolist() == embedded["image_id"].tolist()


def test_missing_folder_and_missing_split_are_named(image_folder, tmp_path):
    assert "nowhere" in complaint(folder(tmp_path / "nowhere"))
    assert "nowhere" in complaint(table(tmp_path / "nowhere.parquet"))
    message = complaint(folder(image_folder(SMALL), test_split="val"))
    assert "'val'" in message
    assert "test, train" in message


def test_table_without_the_split_says_so(tmp_path, pngs):
    assert "'test'" in complaint(table(write_table(tmp_path / "t.parquet", pngs, ["a", "b"] * 2, ["train"] * 4)))


@pytest.mark.parametrize("key", ["label_column", "split_column", "image_column"])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_missing_column_is_named_with_those_that_are_there(tmp_path, pngs, key, kind):
    labels, splits = ["a", "b"] * 2, ["train", "train", "test", "test"]
    path = write_table(tmp_path / "t.parquet", pngs, labels, splits)
    path = path if kind == "parquet" else write_csv(tmp_path, pngs, labels, splits)
    message = complaint(table(path, **{key: "klass"}))
    assert "'klass'" in message
    assert "image, label, split" in message
    assert f"dataset.{key}" in message


@pytest.mark.parametrize("empty", [None, "", "  "])
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_row_without_label_is_named(tmp_path, pngs, empty, kind):
    labels, splits = ["a", "b", empty, "b"], ["train", "train", "test", "test"]
    write = write_csv if kind == "csv" else lambda folder, *rest: write_table(folder / "t.parquet", *rest)
    assert "row 2 has no label" in complaint(table(write(tmp_path, pngs, labels, splits)))


@pytest.mark.parametrize("content", [b"", b"not a table"])
@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_unreadable_table_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert name in complaint(table(tmp_path / name))


def test_label_only_in_the_test_split_is_named(image_folder):
    message = complaint(folder(image_folder({**SMALL, "test/coat": 2})))
    assert "'coat'" in message
    assert "2 images" in message


def test_one_class_is_not_enough(image_folder):
    assert "'shirt'" in complaint(folder(image_folder({"train/shirt": 2, "test/shirt": 1})))


def test_class_with_one_image_works(image_folder):
    rows = index_dataset(folder(image_folder(SMALL)))
    assert ((rows["split"] == "train") & (rows["label_name"] == "bag")).sum() == 1


def test_class_whose_only_training_image_is_broken_is_named(image_folder):
    path = image_folder(SMALL)
    (path / "train/bag/0.png").write_bytes(b"")
    assert "'bag'" in complaint(folder(path))


def test_broken_files_are_rows_with_a_reason(image_folder, pngs, encode):
    path = image_folder(SMALL)
    (path / "train/shirt/empty.png").write_bytes(b"")
    (path / "train/shirt/cut.png").write_bytes(pngs[40][: len(pngs[40]) // 2])
    (path / "train/shirt/notes.txt").write_text("buy milk")
    (path / "train/shirt/huge.png").write_bytes(encode([[0] * 2000] * 2000))
    (path / "train/shirt/dangling.png").symlink_to(path / "train/shirt/gone.png")
    (path / "train/shirt/.hidden").write_text("passed over")
    rows = index_dataset(folder(path, max_megapixels=1.0))
    broken = rows[~rows["usable"]].set_index(rows["path"].map(os.path.basename)[~rows["usable"]])["reason"]
    assert sorted(broken.index) == ["cut.png", "dangling.png", "empty.png", "huge.png", "notes.txt"]
    assert "empty" in broken["empty.png"]
    assert "not an image" in broken["notes.txt"]
    assert "megapixel" in broken["huge.png"]
    assert "cannot be read" in broken["dangling.png"]
    assert rows["image_id"].is_unique


def test_broken_rows_of_a_table_have_a_reason(tmp_path, pngs):
    images = [*pngs[:4], b"", b"text"]
    path = write_table(tmp_path / "t.parquet", images, ["a", "b"] * 3, ["train", "train", "test"] + ["test"] * 3)
    rows = index_dataset(table(path))
    assert rows["usable"].tolist() == [True] * 4 + [False] * 2
    assert rows["reason"].notna().tolist() == [False] * 4 + [True] * 2


NAMES = ["two words", 'the "best"', "it's", "Äpfel 苹果", "a,b", "%20", "{label}", "null", "NA"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["folder", "parquet", "csv"])
def test_any_class_name_is_kept(image_folder, tmp_path, pngs, name, kind):
    labels, splits = [name, "z", name, "z"], ["train", "train", "test", "test"]
    if kind == "folder":
        dataset = folder(image_folder({f"{split}/{label}": 1 for split, label in zip(splits, labels, strict=True)}))
    elif kind == "csv":
        dataset = table(write_csv(tmp_path, pngs, labels, splits))
    else:
        dataset = table(write_table(tmp_path / "t.parquet", pngs, labels, splits))
    write_manifest("real", index_dataset(dataset), tmp_path / "real.parquet")
    assert set(read_manifest("real", tmp_path / "real.parquet")["label_name"]) == {name, "z"}


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_class_name_with_a_slash(tmp_path, pngs, kind):
    labels, splits = ["T-shirt/top", "z"] * 2, ["train", "train", "test", "test"]
    write = write_csv if kind == "csv" else lambda folder, *rest: write_table(folder / "t.parquet", *rest)
    assert "T-shirt/top" in set(index_dataset(table(write(tmp_path, pngs, labels, splits)))["label_name"])


def test_link_out_of_the_folder_is_not_followed(image_folder, tmp_path, pngs):
    path = image_folder(SMALL)
    (tmp_path / "secret.png").write_bytes(pngs[50])
    (path / "train/shirt/link.png").symlink_to(tmp_path / "secret.png")
    rows = index_dataset(folder(path))
    link = rows[rows["path"].str.endswith("link.png")].iloc[0]
    assert not link["usable"]
    assert "out of" in link["reason"]


@pytest.mark.parametrize("path", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_path_out_of_the_tables_folder_is_not_read(tmp_path, pngs, path):
    (tmp_path / "secret.png").write_bytes(pngs[50])
    (tmp_path / "inside").mkdir()
    csv = write_csv(tmp_path / "inside", pngs, ["a", "b", "a", "b"], ["train", "train", "test", "test"])
    csv.write_text(csv.read_text() + f"{path},a,train\n")
    rows = index_dataset(table(csv))
    assert rows["usable"].tolist() == [True] * 4 + [False]
    assert "out of" in rows["reason"].iloc[-1]


def test_same_image_twice_gets_two_ids(image_folder):
    path = image_folder(SMALL)
    (path / "train/shirt/copy.png").write_bytes((path / "train/shirt/0.png").read_bytes())
    rows = index_dataset(folder(path))
    assert rows["image_id"].is_unique
    assert rows["sha256"].duplicated().sum() == 1


def test_renamed_file_keeps_its_id(image_folder):
    path = image_folder(SMALL)
    before = set(index_dataset(folder(path))["image_id"])
    (path / "train/shirt/0.png").rename(path / "train/shirt/new name.png")
    assert set(index_dataset(folder(path))["image_id"]) == before


@pytest.mark.parametrize("change", ["add", "edit", "remove", "rename"])
def test_fingerprint_sees_every_change_of_a_folder(image_folder, pngs, change):
    path = image_folder(SMALL)
    before = fingerprint(folder(path))
    assert fingerprint(folder(path)) == before
    file = path / "train/shirt/0.png"
    match change:
        case "add":
            (path / "train/shirt/9.png").write_bytes(pngs[50])
        case "edit":
            file.write_bytes(pngs[50])
        case "remove":
            file.unlink()
        case "rename":
            file.rename(path / "train/bag/7.png")
    assert fingerprint(folder(path)) != before


def test_numeric_labels_are_sorted_by_value(tmp_path, pngs):
    labels = [10, 9, 2, 10, 9, 2]
    rows = index_dataset(table(write_table(tmp_path / "t.parquet", pngs, labels)))
    assert dict(zip(rows["label_name"], rows["label"], strict=True)) == {"2": 0, "9": 1, "10": 2}


def test_labels_of_a_csv_stay_text(tmp_path, pngs):
    path = write_csv(tmp_path, pngs, ["007", "7", "007", "7"], ["train", "train", "test", "test"])
    assert set(index_dataset(table(path))["label_name"]) == {"007", "7"}


def test_other_splits_are_passed_over(tmp_path, pngs):
    path = write_table(
        tmp_path / "t.parquet", pngs, ["a", "b", "a", "b", "c"], ["train"] * 2 + ["test"] * 2 + ["extra"]
    )
    assert set(index_dataset(table(path))["label_name"]) == {"a", "b"}
