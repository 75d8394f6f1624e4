"""Folders and tables as people have them: each oddity is handled, or named in one line."""

import json
import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.images.store import load_pixels
from synaug.runtime.errors import UserError

SMALL = {"train/shirt": 3, "train/bag": 2, "test/shirt": 2, "test/bag": 2}


def index(path, source="folder", **settings) -> pd.DataFrame:
    return index_dataset(Dataset(source=source, path=str(path), image_size=28, color="grey", **settings))


def complaint(path, *arguments, **settings) -> str:
    with pytest.raises(UserError) as caught:
        index(path, *arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_inside_a_class_belong_to_it(image_folder):
    path = image_folder(SMALL | {"train/bag/leather/brown": 2})
    rows = index(path)
    assert (rows["label_name"] == "bag").sum() == 6
    assert set(rows["label_name"]) == {"shirt", "bag"}


def test_a_linked_folder_is_named(image_folder, tmp_path):
    path = image_folder(SMALL)
    (path / "test/bag").rename(tmp_path / "elsewhere")
    (path / "test/bag").symlink_to(tmp_path / "elsewhere")
    said = complaint(path)
    assert "test/bag" in said and "link" in said


def test_an_empty_folder_is_named(image_folder):
    path = image_folder(SMALL)
    (path / "train/hat").mkdir()
    assert "train/hat: is an empty folder" in complaint(path)


def test_a_folder_that_may_not_be_read_is_named(image_folder, monkeypatch):
    path, scandir = image_folder(SMALL), os.scandir

    def refuse(place):
        if str(place).endswith("train/bag"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "train/bag: cannot be read (Permission denied)" in complaint(path)


def test_a_file_that_may_not_be_read_is_a_row_with_the_reason(image_folder, monkeypatch):
    from pathlib import Path

    path, read = image_folder(SMALL), Path.read_bytes

    def refuse(file):
        if file.name == "2.png":
            raise PermissionError(13, "Permission denied", str(file))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    reasons = index(path).set_index("path")["reason"].dropna()
    assert reasons.tolist() == ["cannot be read (Permission denied)"]


def test_same_file_names_in_several_classes_are_different_images(image_folder):
    rows = index(image_folder(SMALL))
    assert (rows["path"].str.rsplit("/", n=1).str[-1] == "0.png").sum() == 4
    assert rows["image_id"].is_unique and rows["sha256"].is_unique


def test_why_a_split_has_no_usable_image_is_said(image_folder, tmp_path):
    path = image_folder(SMALL)
    (path / "test").rename(tmp_path / "elsewhere")
    (path / "test").symlink_to(tmp_path / "elsewhere")
    assert "4: lies out of the data set's folder" in complaint(path)


def write_files(folder, pngs, count) -> list[str]:
    for number in range(count):
        (folder / f"{number}.png").write_bytes(pngs[number])
    return [f"{number}.png" for number in range(count)]


def lines(folder, pngs, labels, **columns):
    """A file of JSON lines beside the images that it names; every second line is of the test split."""
    with (folder / "data.jsonl").open("w") as file:
        for number, (path, label) in enumerate(zip(write_files(folder, pngs, len(labels)), labels, strict=True)):
            row = {"image": path, "label": label, "split": ["train", "test"][number % 2]}
            file.write(json.dumps(row | {name: values[number] for name, values in columns.items()}) + "\n")
    return folder / "data.jsonl"


def test_json_lines_are_a_table(tmp_path, pngs):
    rows = index(lines(tmp_path, pngs, ["007", "007", 7, 7, "7.50", "7.50"]), "table")
    assert rows["usable"].all()
    assert rows.groupby("label_name").size().to_dict() == {"007": 2, "7": 2, "7.50": 2}
    assert load_pixels(rows, 28, "grey").std() > 0


def test_json_lines_have_groups(tmp_path, pngs):
    rows = index(
        lines(tmp_path, pngs, ["a", "a", "b", "b"], where=["in", "in", 3, 3]), "table", group_columns=["where"]
    )
    assert set(rows["group"]) == {"in", "3"}


@pytest.mark.parametrize("label", [None, "", " ", float("nan")])
def test_a_line_without_a_label_is_named(tmp_path, pngs, label):
    said = complaint(lines(tmp_path, pngs, ["a", "a", "b", label]), "table")
    assert "data.jsonl: row 3 has no label" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": ', "line 5: is not JSON"),
        ('["a"]', "line 5: should be one object"),
        ('{"label": {"a": 1}}', "line 5"),
    ],
)
def test_a_line_that_is_no_object_of_texts_is_named(tmp_path, pngs, line, words):
    path = lines(tmp_path, pngs, ["a", "a", "b", "b"])
    path.write_text(path.read_text() + line + "\n")
    assert words in complaint(path, "table")


def test_json_lines_without_the_column_say_what_is_there(tmp_path, pngs):
    said = complaint(lines(tmp_path, pngs, ["a", "b"]), "table", label_column="species")
    assert "'species'" in said and "image, label, split" in said and "dataset.label_column" in said


def test_a_row_without_a_path_is_a_row_with_the_reason(tmp_path, pngs):
    labels = ["a", "a", "b", "b", "b"]
    frame = pd.DataFrame(
        {"image": write_files(tmp_path, pngs, 5), "label": labels, "split": ["train", "test"] * 2 + ["test"]}
    )
    frame.loc[4, "image"] = None
    frame.to_csv(tmp_path / "data.csv", index=False)
    rows = index(tmp_path / "data.csv", "table")
    assert rows["reason"].dropna().tolist() == ["the row names no file"]


def test_whole_numbers_that_pandas_made_floats_are_whole_again(tmp_path, pngs):
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:4]])
    pq.write_table(
        pa.table({"image": image, "label": [1.0, 1.0, 10.0, 10.0], "split": ["train", "test"] * 2}),
        tmp_path / "t.parquet",
    )
    assert set(index(tmp_path / "t.parquet", "table")["label_name"]) == {"1", "10"}


def test_not_a_number_is_no_label(tmp_path, pngs):
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:4]])
    labels = pa.array([1.0, 1.0, 2.0, float("nan")])
    pq.write_table(pa.table({"image": image, "label": labels, "split": ["train", "test"] * 2}), tmp_path / "t.parquet")
    assert "row 3 has no label" in complaint(tmp_path / "t.parquet", "table")


def test_a_table_without_splits_says_how_to_make_them(tmp_path, pngs):
    frame = pd.DataFrame({"image": write_files(tmp_path, pngs, 4), "label": ["a", "a", "b", "b"]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    assert "dataset.make_splits" in complaint(tmp_path / "data.csv", "table")
    rows = index(tmp_path / "data.csv", "table", make_splits={"test": 0.5})
    assert rows.groupby(["label_name", "split"]).size().tolist() == [1, 1, 1, 1]
