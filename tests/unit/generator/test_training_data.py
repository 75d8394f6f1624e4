"""The labelled images that a generator is trained on: a table with images in it, or a manifest."""

import pandas as pd
import pytest

from synaug.config import Prompts
from synaug.generator.training_data import read_labelled_images
from synaug.manifests import write_manifest
from synaug.plan.prompts import cell_prompts
from synaug.runtime.errors import UserError


@pytest.fixture
def table(tmp_path, pngs):
    """A function: columns to a Parquet file with three images in it."""

    def table(**columns) -> str:
        frame = pd.DataFrame({"image": [{"bytes": pngs[i], "path": ""} for i in range(3)], **columns})
        frame.to_parquet(tmp_path / "images.parquet")
        return str(tmp_path / "images.parquet")

    return table


def test_a_table_with_images(table):
    path = table(label_name=["dog", "cat", "dog"], split=["train", "train", "test"], colour=["red", "blue", "red"])
    rows, cells = read_labelled_images(path, ["test"], [])
    assert cells["label_name"].tolist() == ["cat", "dog"]
    assert rows["label_name"].tolist() == ["dog", "cat"]
    assert rows["label"].tolist() == [2, 1]  # in the order of the names
    assert rows[["path", "row", "column"]].to_numpy().tolist() == [[path, 0, "image"], [path, 1, "image"]]
    assert rows["group"].tolist() == ["", ""]
    grouped, _ = read_labelled_images(path, [], ["colour", "split"])
    assert grouped["group"].tolist() == ["red, train", "blue, train", "red, test"]
    assert grouped["attributes"].tolist() == [["red", "train"], ["blue", "train"], ["red", "test"]]


def test_prompts_may_name_a_group_that_only_held_out_images_have(table):
    path = table(label_name="cat", split=["train", "train", "test"], colour=["red", "blue", "green"])
    rows, cells = read_labelled_images(path, ["test"], ["colour"])
    assert rows["group"].tolist() == ["red", "blue"]
    assert cells["group"].tolist() == ["blue", "green", "red"]
    assert len(cell_prompts(Prompts(names={"green": "lush green"}), cells, ["colour"])) == 3


def test_a_manifest_gives_its_usable_training_images(tmp_path):
    rows = pd.DataFrame(
        {"image_id": list("abc"), "split": ["train", "test", "train"], "label": 4, "label_name": "cat",
         "path": ["1.png", "2.png", "3.png"], "row": None, "column": None, "width": 28, "height": 28, "sha256": "",
         "usable": [True, True, False], "reason": None, "group": "red", "attributes": [["red"]] * 3}
    ).astype({"row": "Int64"})  # fmt: skip
    write_manifest("real", rows, tmp_path / "real.parquet")
    kept, _ = read_labelled_images(str(tmp_path / "real.parquet"), ["test"], ["colour"])
    assert kept[["label", "label_name", "group", "path"]].to_numpy().tolist() == [[4, "cat", "red", "1.png"]]
    assert list(kept["attributes"].iloc[0]) == ["red"]


def test_a_missing_column_and_no_image_are_one_line(table):
    with pytest.raises(
        UserError, match=r"needs the columns label_name and image .*; it has image, x; add or rename columns$"
    ):
        read_labelled_images(table(x=1), [], [])
    with pytest.raises(UserError, match="needs the columns label_name, colour and image"):
        read_labelled_images(table(label_name="cat"), [], ["colour"])
    with pytest.raises(UserError, match="has no image outside the split 'test'"):
        read_labelled_images(table(label_name="cat", split="test"), ["test"], [])
