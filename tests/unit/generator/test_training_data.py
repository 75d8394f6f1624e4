"""The labelled images that a generator is trained on: a table with images in it, or a manifest."""

from pathlib import Path

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
    rows, cells = read_labelled_images(path, "train", ["test"], [])
    assert cells["label_name"].tolist() == ["cat", "dog"]
    assert rows["label_name"].tolist() == ["dog", "cat"]
    assert rows["label"].tolist() == [2, 1]  # in the order of the names
    assert rows[["path", "row", "column"]].to_numpy().tolist() == [[path, 0, "image"], [path, 1, "image"]]
    assert rows["group"].tolist() == ["", ""]
    grouped, _ = read_labelled_images(path, "train", [], ["colour", "split"])
    assert grouped["group"].tolist() == ["red, train", "blue, train", "red, test"]
    assert grouped["attributes"].tolist() == [["red", "train"], ["blue", "train"], ["red", "test"]]


def test_prompts_may_name_a_group_that_only_held_out_images_have(table):
    path = table(label_name="cat", split=["train", "train", "test"], colour=["red", "blue", "green"])
    rows, cells = read_labelled_images(path, "train", ["test"], ["colour"])
    assert rows["group"].tolist() == ["red", "blue"]
    assert cells["group"].tolist() == ["blue", "green", "red"]
    assert len(cell_prompts(Prompts(names={"green": "lush green"}), cells, ["colour"])) == 3


def test_a_manifest_gives_its_usable_training_images(tmp_path):
    rows = pd.DataFrame(
        {"image_id": list("abcd"), "split": ["train", "test", "train", "validation"], "label": 4, "label_name": "cat",
         "path": [f"{number}.png" for number in range(1, 5)], "row": None, "column": None, "width": 28, "height": 28,
         "sha256": "", "usable": [True, True, False, True], "reason": None, "group": "red",
         "attributes": [["red"]] * 4}
    ).astype({"row": "Int64"})  # fmt: skip
    write_manifest("real", rows, tmp_path / "real.parquet")
    manifest = str(tmp_path / "real.parquet")
    # This config has no validation split, and the experiment of the manifest has.
    kept, _ = read_labelled_images(manifest, "train", ["test"], ["colour"])
    assert kept[["label", "label_name", "group", "path"]].to_numpy().tolist() == [[4, "cat", "red", "1.png"]]
    assert list(kept["attributes"].iloc[0]) == ["red"]
    with pytest.raises(UserError, match=r"of the split 'training' \(its splits: 'test', 'train', 'validation'\)"):
        read_labelled_images(manifest, "training", ["test"], ["colour"])


@pytest.mark.parametrize("kind", ["csv", "folder", "damaged", "missing"])
def test_what_is_no_parquet_file_is_one_line(tmp_path, table, kind):
    path = tmp_path / "images"
    if kind == "folder":
        path.mkdir()
        (path / "a.parquet").write_bytes(Path(table(label_name="cat")).read_bytes())
    elif kind == "csv":
        path.write_text("image,label_name\na.png,cat\n")
    elif kind == "damaged":
        path.write_bytes(Path(table(label_name="cat")).read_bytes()[:-40] + b"x" * 36 + b"PAR1")
    with pytest.raises(UserError, match=r"^generator\.images: .*images: is no Parquet file that can be read") as error:
        read_labelled_images(str(path), "train", [], [])
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("; give a Parquet file with images in it, or real.parquet of an experiment")


def test_a_missing_column_and_no_image_are_one_line(table):
    with pytest.raises(
        UserError, match=r"needs the columns label_name and image .*; it has image, x; add or rename columns$"
    ):
        read_labelled_images(table(x=1), "train", [], [])
    with pytest.raises(UserError, match="needs the columns label_name, colour and image"):
        read_labelled_images(table(label_name="cat"), "train", [], ["colour"])
    with pytest.raises(UserError, match="has no image outside the split 'test'"):
        read_labelled_images(table(label_name="cat", split="test"), "train", ["test"], [])
