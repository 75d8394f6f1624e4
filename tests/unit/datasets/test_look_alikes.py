"""Class names that look alike: named with escapes, and made one on demand."""

import logging

import pandas as pd
import pytest
from layouts import converted, one_line_error, samples, write_tar

from synaug.config import Dataset
from synaug.datasets import index_dataset
from synaug.datasets.look_alikes import look_alikes, unified


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("Dog", "dog"),
        ("dog", "dog "),
        ("two words", "two\u00a0words"),
        ("cat", "\ufeffcat"),
        ("STRASSE", "straße"),
        ("İ", "i̇"),
    ],
)
def test_names_that_look_alike(first, second):
    assert look_alikes([first, second, "other"]) == [sorted([first, second])]


def test_names_that_do_not():
    assert look_alikes(["cat", "cats", "c at", "7", "07", "H2O", "H₂O", ""]) == []


def test_the_most_frequent_name_is_kept():
    assert unified(["dog", "Dog ", "Dog ", "cafe\u0301", "cat"]) == {
        "dog": "Dog", "Dog ": "Dog", "cafe\u0301": "cafe\u0301", "cat": "cat"
    }  # fmt: skip


def test_classes_that_look_alike_are_separate_with_a_warning(image_folder, caplog):
    path = image_folder({f"{split}/{name}": 2 for split in ("train", "test") for name in ("Dog", "dog", "cat")})
    dataset = Dataset(source="folder", path=str(path), image_size=28)
    with caplog.at_level(logging.WARNING):
        rows = index_dataset(dataset)
    assert set(rows["label_name"]) == {"Dog", "dog", "cat"}
    assert "'Dog', 'dog'; dataset.unify_names: true makes them one" in caplog.text
    rows = index_dataset(dataset.model_copy(update={"unify_names": True}))
    assert rows["label_name"].value_counts().to_dict() == {"Dog": 8, "cat": 4}


def test_an_error_across_splits_shows_the_difference(image_folder):
    path = image_folder({"train/caf\u00e9": 2, "train/bar": 2, "test/cafe\u0301": 2, "test/bar": 2})
    dataset = Dataset(source="folder", path=str(path), image_size=28)
    message = one_line_error(index_dataset, dataset)
    assert r"class 'cafe\u0301' of split 'test' looks like 'caf\xe9' of split 'train'" in message
    assert "set dataset.unify_names: true" in message
    rows = index_dataset(dataset.model_copy(update={"unify_names": True}))
    assert rows.groupby(["split", "label_name"]).size().tolist() == [2, 2, 2, 2]
    assert set(rows["label_name"]) == {"bar", "caf\u00e9"}


def test_groups_and_converted_data_sets_are_unified_too(tmp_path, pngs):
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(pngs[number])
    frame = pd.DataFrame({"image": [f"{number}.png" for number in range(8)], "label": ["a", "a", "b", "b"] * 2})
    frame = frame.assign(split=["train"] * 4 + ["test"] * 4, where=["in", "In", "out", "out "] * 2)
    frame.to_csv(tmp_path / "t.csv", index=False)
    settings = {"group_columns": ["where"], "unify_names": True, "image_size": 28}
    rows = index_dataset(Dataset(source="table", path=str(tmp_path / "t.csv"), **settings))
    assert set(rows["group"]) == {"In", "out"}
    assert set(map(tuple, rows["attributes"])) == {("In",), ("out",)}
    tar = write_tar(tmp_path / "all.tar", samples(pngs, ["Cat", "cat", "dog", "DOG"] * 2))
    settings = {"make_splits": {"test": 0.5}, "unify_names": True, "image_size": 28}
    rows = converted(Dataset(source="webdataset", path=str(tar), **settings), tmp_path)
    assert set(rows["label_name"]) == {"Cat", "DOG"}
