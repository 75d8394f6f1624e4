"""Images in folders: every file becomes a row, usable or with a reason; problems of the folders are named."""

import os
from pathlib import Path

import pandas as pd
import pytest
from layouts import one_line_error

from synaug.config import Dataset
from synaug.datasets import fingerprint, index_dataset, input_files
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

SMALL = {"train/shirt": 3, "train/bag": 2, "test/shirt": 2, "test/bag": 2}


def folder(path, **settings) -> Dataset:
    return Dataset(source="folder", path=str(path), image_size=28, color="grey", **settings)


def index(path, **settings) -> pd.DataFrame:
    return index_dataset(folder(path, **settings))


def test_a_folder_becomes_a_manifest(image_folder, tmp_path):
    rows = index(image_folder(SMALL))
    write_manifest("real", rows, tmp_path / "real.parquet")
    real = read_manifest("real", tmp_path / "real.parquet")
    assert real.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "shirt"): 3, ("train", "bag"): 2, ("test", "shirt"): 2, ("test", "bag"): 2,
    }  # fmt: skip
    assert real["usable"].all()
    assert (real[["width", "height"]] == 28).all(axis=None)
    assert real["row"].isna().all()
    assert dict(zip(real["label_name"], real["label"], strict=True)) == {"bag": 0, "shirt": 1}


def test_folders_below_a_class_belong_to_the_class(image_folder):
    path = image_folder(SMALL | {"train/bag/leather/brown": 2})
    rows = index(path)
    assert (rows["label_name"] == "bag").sum() == 6
    assert set(rows["label_name"]) == {"shirt", "bag"}


def test_a_missing_folder_or_split_is_named(image_folder, tmp_path):
    assert "nowhere" in one_line_error(index, tmp_path / "nowhere")
    message = one_line_error(index_dataset, folder(image_folder(SMALL), test_split="val"))
    assert "'val'" in message
    assert "test, train" in message


def test_a_folder_around_the_results_is_named(image_folder, monkeypatch):
    path = image_folder({"shirt": 3, "bag": 3})
    (path / "notes/.work").mkdir(parents=True)
    for inside in (path, path / "notes"):
        monkeypatch.chdir(inside)
        for name in (path, os.path.relpath(path)):
            message = one_line_error(input_files, folder(name, make_splits={"test": 0.5}))
            assert f"contains the current folder, so the results ({inside}/results) would be read" in message
            assert "from a folder outside" in message
    for outside in (path.parent, path / "notes/.work"):  # hidden folders are not read
        monkeypatch.chdir(outside)
        assert input_files(folder(path, make_splits={"test": 0.5})) == []


def test_results_may_be_beside_the_folders_of_the_splits(image_folder, monkeypatch):
    path = image_folder(SMALL)
    monkeypatch.chdir(path)
    for name in ("results/own", "logs/own", ".snakemake/log"):
        (path / name).mkdir(parents=True)
        (path / name / "image.png").write_bytes(b"x")
    assert input_files(folder(".")) == []
    assert len(index(".")) == 9
    monkeypatch.chdir(path / "train")
    assert "contains the current folder" in one_line_error(input_files, folder(path))


def test_a_linked_folder_is_named(image_folder, tmp_path):
    path = image_folder(SMALL)
    (path / "test/bag").rename(tmp_path / "elsewhere")
    (path / "test/bag").symlink_to(tmp_path / "elsewhere")
    message = one_line_error(index, path)
    assert "test/bag" in message and "link" in message


def test_an_empty_folder_is_named(image_folder):
    path = image_folder(SMALL)
    (path / "train/hat").mkdir()
    assert "train/hat: is an empty folder" in one_line_error(index, path)


def test_an_unreadable_folder_is_named(image_folder, monkeypatch):
    path, scandir = image_folder(SMALL), os.scandir

    def refuse(place):
        if str(place).endswith("train/bag"):
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    assert "train/bag: cannot be read (Permission denied)" in one_line_error(index, path)


def test_an_unreadable_file_is_a_row_with_a_reason(image_folder, monkeypatch):
    path, read = image_folder(SMALL), Path.read_bytes

    def refuse(file):
        if file.name == "2.png":
            raise PermissionError(13, "Permission denied", str(file))
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    reasons = index(path).set_index("path")["reason"].dropna()
    assert reasons.tolist() == ["cannot be read (Permission denied)"]


def test_a_file_name_that_is_not_unicode_is_a_row_with_a_reason_or_a_user_error(image_folder, tmp_path, pngs):
    path = image_folder(SMALL)
    with open(os.fsencode(path / "train/shirt") + b"/caf\xe9.png", "wb") as file:
        file.write(pngs[50])
    try:
        rows = index(path)
        write_manifest("real", rows, tmp_path / "real.parquet")
        fingerprint(folder(path))
    except UserError as error:
        assert "caf" in str(error)


def test_unusable_files_are_rows_with_a_reason(image_folder, pngs, encode):
    path = image_folder(SMALL)
    (path / "train/shirt/empty.png").write_bytes(b"")
    (path / "train/shirt/cut.png").write_bytes(pngs[40][: len(pngs[40]) // 2])
    (path / "train/shirt/notes.txt").write_text("buy milk")
    (path / "train/shirt/huge.png").write_bytes(encode([[0] * 2000] * 2000))
    (path / "train/shirt/dangling.png").symlink_to(path / "train/shirt/gone.png")
    (path / "train/shirt/.hidden").write_text("skipped")
    rows = index(path, max_megapixels=1.0)
    broken = rows[~rows["usable"]].set_index(rows["path"].map(os.path.basename)[~rows["usable"]])["reason"]
    assert sorted(broken.index) == ["cut.png", "dangling.png", "empty.png", "huge.png", "notes.txt"]
    assert "empty" in broken["empty.png"]
    assert "not an image" in broken["notes.txt"]
    assert "megapixel" in broken["huge.png"]
    assert "cannot be read" in broken["dangling.png"]
    assert rows["image_id"].is_unique


def test_a_link_to_a_file_outside_the_folder_is_not_followed(image_folder, tmp_path, pngs):
    path = image_folder(SMALL)
    (tmp_path / "secret.png").write_bytes(pngs[50])
    (path / "train/shirt/link.png").symlink_to(tmp_path / "secret.png")
    rows = index(path)
    link = rows[rows["path"].str.endswith("link.png")].iloc[0]
    assert not link["usable"]
    assert "outside" in link["reason"]
    (tmp_path / "secret.png").unlink()
    rows = index(path)
    assert rows.loc[rows["path"].str.endswith("link.png"), "reason"].item() == "is a link to a file that does not exist"


@pytest.mark.parametrize("change", ["add", "edit", "remove", "rename"])
def test_the_fingerprint_changes_with_every_change_of_a_folder(image_folder, pngs, change):
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


def test_a_missing_split_says_how_to_make_one(image_folder):
    path = image_folder({"shirt": 2, "bag": 2})
    with pytest.raises(UserError, match=r"dataset\.make_splits"):
        index_dataset(Dataset(source="folder", path=str(path), image_size=28))
