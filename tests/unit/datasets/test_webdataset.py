"""WebDataset tars become a table."""

import json
from pathlib import Path

import pytest
from layouts import converted, samples, write_tar

from synaug.config import Dataset
from synaug.datasets import input_files
from synaug.images.store import read_encoded
from synaug.runtime.errors import UserError

LABELS = ["cat", "dog"] * 6


def block(path: Path, **settings) -> Dataset:
    return Dataset(source="webdataset", path=str(path), image_size=28, **settings)


def error(dataset: Dataset, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        input_files(dataset)
        converted(dataset, folder)
    assert not list(folder.glob("*dataset.parquet*"))  # no partial file
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def tars(tmp_path, pngs) -> Path:
    write_tar(tmp_path / "tars" / "train-000000.tar", samples(pngs, LABELS[:4]))
    write_tar(tmp_path / "tars" / "train-000001.tar", samples(pngs, LABELS[4:8], 4))
    write_tar(tmp_path / "tars" / "val" / "000000.tar", samples(pngs, LABELS[8:], 8))
    return tmp_path / "tars"


def test_tars_by_split(tars, tmp_path, pngs):
    rows = converted(block(tars, test_split="val"), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "cat"): 4, ("train", "dog"): 4, ("val", "cat"): 2, ("val", "dog"): 2,
    }  # fmt: skip
    assert rows["usable"].all()
    (_, images), *_ = read_encoded(rows.sort_values("row"))
    assert images == pngs[:12]  # unchanged, not encoded again


def test_tars_without_splits(tars, tmp_path):
    rows = converted(block(tars, make_splits={"test": 0.25}), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 8, "test": 4}


def test_json_of_a_sample_holds_class_and_groups(tmp_path, pngs):
    members = {}
    for number, label in enumerate(LABELS):
        values = {"species": label, "place": number % 3, "note": None}
        members |= {f"{number}.json": json.dumps(values).encode(), f"{number}.jpg": pngs[number], f"{number}.txt": b"-"}
    path = write_tar(tmp_path / "all.tar", members)
    settings = {"label_column": "species", "group_columns": ["place"], "make_splits": {"test": 0.5}}
    rows = converted(block(path, **settings), tmp_path)
    assert set(rows["label_name"]) == {"cat", "dog"} and set(rows["group"]) == {"0", "1", "2"}


def test_an_unusable_image_of_a_tar_is_a_row_with_a_reason(tars, tmp_path):
    write_tar(tars / "train-000002.tar", {"x.png": b"no image", "x.cls": b"cat"})
    rows = converted(block(tars, test_split="val"), tmp_path)
    assert rows["reason"].dropna().tolist() == ["is not an image of a known format"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.cls": b"cat"}, "train.tar: 1: has no image"),
        ({"1.png": b"x"}, "train.tar: 1: has no label"),
        ({"1.png": b"x", "1.cls": b" "}, "has no label"),
        ({"1.png": b"x", "1.json": b'{"label": NaN}'}, "has no label"),
        ({"1.png": b"x", "1.json": b"{"}, "1.json: is not JSON"),
        ({"1.png": b"x", "1.json": b"[]"}, "1.json: should be an object"),
    ],
)
def test_samples_that_lack_something_are_named(tmp_path, members, message):
    write_tar(tmp_path / "tars" / "train.tar", members)
    assert message in error(block(tmp_path / "tars", make_splits={"test": 0.2}), tmp_path)


def test_missing_and_damaged_tars_are_named(tars, tmp_path):
    assert "begins with 'test'" in error(block(tars), tmp_path)
    assert "holds no *.tar" in error(block(tmp_path / "nowhere"), tmp_path)
    (tars / "train-000000.tar").write_bytes(b"no tar" * 500)
    assert "train-000000.tar: cannot be read" in error(block(tars, test_split="val"), tmp_path)
