"""`synaug init`: classes with the name of a split, files that are no part of the data, look-alike names, copies."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from layouts import arrow_table, samples, write_tar
from PIL import Image

from synaug.commands.init import write_config
from synaug.config import load_config
from synaug.datasets import index_dataset
from synaug.runtime.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """The folder of the workflow, as working directory."""
    (tmp_path / "Snakefile").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def classes_of(config: str = "data") -> set[str]:
    rows = index_dataset(load_config(yaml.safe_load(Path(f"{config}.yaml").read_text())).dataset)
    return set(rows["label_name"])


@pytest.mark.parametrize("name", ["train", "validation", "test", "dev", "Testing"])
@pytest.mark.parametrize("below", ["", "/steam", "/old/steam"])
def test_a_class_may_have_the_name_of_a_split(image_folder, name, below):
    image_folder({"bus": 6, "car": 6, name + below: 6})
    text = write_config(Path("data"))
    assert f"folder {name!r} is taken for a class and not for a split" in text
    assert classes_of() == {"bus", "car", name}
    assert "18 images in 3 classes" in text


def test_all_classes_may_have_the_names_of_splits_but_one(image_folder):
    image_folder({"train": 6, "test": 6, "bus": 6})
    write_config(Path("data"))
    assert classes_of() == {"train", "test", "bus"}


@pytest.mark.parametrize("name", ["train", "validation"])
def test_classes_beside_and_in_a_split_are_refused(image_folder, name):
    image_folder({"cats": 6, "dogs": 6, f"{name}/cats": 3, f"{name}/dogs": 3})
    with pytest.raises(UserError, match=rf"the class 'cats' both beside and in the split '{name}'"):
        write_config(Path("data"))


@pytest.mark.parametrize("names", [["test", "validation"], ["test", "learning"]])
def test_a_missing_training_split_is_named(image_folder, names):
    image_folder({f"{split}/{label}": 3 for split in names for label in ("cats", "dogs")})
    with pytest.raises(UserError, match="holds the split 'test' and no training split"):
        write_config(Path("data"))


def test_every_folder_that_is_skipped_is_named(image_folder):
    splits = {f"{split}/{label}": 6 for split in ("train", "test") for label in ("a", "b")}
    image_folder(splits | {"samples": 3, "extra/a": 2})
    text = write_config(Path("data"))
    assert "folder 'samples' is not a split and is skipped (files: 3)" in text
    assert "folder 'extra' is not a split and is skipped (files: 2)" in text
    assert classes_of() == {"a", "b"}


def test_folders_beside_a_training_split_alone_are_named(image_folder):
    image_folder({"train/a": 6, "train/b": 6, "annotations/x": 2})
    text = write_config(Path("data"))
    assert "folder 'annotations' is not a split and is skipped (files: 2)" in text
    assert classes_of() == {"a", "b"}


def test_a_test_folder_without_classes_is_skipped_and_named(image_folder):
    image_folder({"train/a": 6, "train/b": 6, "test": 4})
    text = write_config(Path("data"))
    assert "folder 'test' has images without classes" in text and "folder 'test' is not a split and is skipped" in text
    assert classes_of() == {"a", "b"}


@pytest.mark.parametrize("splits", [[""], ["train/", "test/"]])
def test_what_systems_and_authors_add_is_no_class_and_no_image(image_folder, pngs, splits):
    path = image_folder({f"{split}{label}": 8 for split in splits for label in ("a", "b")})
    for split in splits:
        for junk in ("@eaDir", "__MACOSX", "a/@eaDir/0.png", ".thumbnails"):
            (path / split / junk).mkdir(parents=True)
            (path / split / junk / "SYNOPHOTO_THUMB_M.png").write_bytes(pngs[90])
        for name in ("Thumbs.db", "metadata.csv", "README.md", ".DS_Store"):
            (path / split / name).write_text("file_name,label\n")
    text = write_config(Path("data"))
    assert f"{16 * len(splits)} images in 2 classes" in text
    assert "files in data" in text and "if metadata.csv lists the images, call: synaug init data" in text
    assert "not used" not in text
    assert classes_of() == {"a", "b"}


def test_an_image_outside_the_class_folders_is_an_error_that_names_the_table(image_folder, pngs):
    path = image_folder({f"{split}/{label}": 4 for split in ("train", "test") for label in ("a", "b")})
    (path / "train" / "loose.png").write_bytes(pngs[90])
    with pytest.raises(UserError, match=r"loose\.png: lies outside the class folders; move it to data/train/<class>/"):
        write_config(Path("data"))
    (path / "train" / "metadata.csv").write_text("file_name,label\n")
    with pytest.raises(UserError, match=r"if data/train/metadata\.csv lists the images, give it as dataset\.path"):
        write_config(Path("data"))


def test_rows_of_other_splits_are_named(pngs):
    Path("some").mkdir()
    splits = ["train"] * 8 + ["test"] * 4 + ["extra"] * 2
    for number in range(14):
        Path(f"some/{number}.png").write_bytes(pngs[number])
    table = {"path": [f"{number}.png" for number in range(14)], "label": ["a", "b"] * 7, "split": splits}
    pd.DataFrame(table).to_csv("some/data.csv", index=False)
    assert "rows with split 'extra' are skipped (2)" in write_config(Path("some/data.csv"))
    pd.DataFrame(table | {"split": ["fit"] * 8 + ["later"] * 6}).to_csv("some/other.csv", index=False)
    assert "column 'split' is not used: its values (fit, later)" in write_config(Path("some/other.csv"))


def test_look_alike_classes_are_named(image_folder):
    image_folder({"café": 4, "cafe\u0301": 4, "Dog": 4, "dog ": 4, "cat": 4})
    text = write_config(Path("data"))
    assert r"2 classes look alike: 'cafe\u0301', 'caf\xe9'; dataset.unify_names: true makes them one" in text
    assert "2 classes look alike: 'Dog', 'dog '" in text


def test_dark_images_and_damaged_frames_are_no_error(image_folder, encode):
    path = image_folder({"a": 6, "b": 6})
    pixels = np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)
    (path / "a" / "deep.png").write_bytes(encode(Image.fromarray(pixels)))
    frames = [Image.new("L", (20, 20), value) for value in (0, 99, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    (path / "a" / "cut.tiff").write_bytes(buffer.getvalue()[:-30])
    assert "1 of them have 16 bits per sample and use at most 12" in write_config(Path("data"))


def test_copies_are_named_by_files_of_two_splits_and_two_classes(image_folder):
    path = image_folder({f"{split}/{label}": 4 for split in ("train", "test") for label in ("a", "b")})
    for copy in ("train/a/0-again.png", "train/a/1-again.png", "test/a/copy.png", "train/b/copy.png"):
        shutil.copy(path / "train/a/0.png", path / copy)
    text = write_config(Path("data"))
    line = next(line for line in text.splitlines() if "in more than one split" in line)
    assert "data/train/a/0" in line and "data/test/a/copy.png" in line
    line = next(line for line in text.splitlines() if "in more than one class" in line)
    assert "/b/copy.png" in line and "/a/" in line


def test_tars_with_a_table_for_each_are_tars(pngs):
    for number in range(2):
        write_tar(Path(f"data/{number:05}.tar"), samples(pngs, ["cat", "dog"] * 4, 8 * number))
        pd.DataFrame({"key": ["1"], "status": ["success"]}).to_parquet(f"data/{number:05}.parquet")
        Path(f"data/{number:05}_stats.json").write_text("{}")
    assert "16 images in 2 classes" in write_config(Path("data"))


def test_several_configurations_are_named(pngs):
    for config in ("large", "small"):
        Path("data", config).mkdir(parents=True)
        for split in ("train", "test"):
            pq.write_table(arrow_table(pngs, ["cat", "dog"] * 3), f"data/{config}/{split}-00000-of-00001.parquet")
    with pytest.raises(UserError, match=r"several data sets or configurations \(large, small\)"):
        write_config(Path("data"))


def test_tars_of_other_splits_are_named(pngs):
    for number, split in enumerate(("train", "test", "extra")):
        write_tar(Path(f"data/{split}-0.tar"), samples(pngs, ["cat", "dog"] * 4, 8 * number))
    assert "files of no split that is used are skipped (1), such as data/extra-0.tar" in write_config(Path("data"))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tars", {"image": "picture"}, "--image is for a table, and data/tars is a data set in tars: .*; leave it out"),
        ("tars", {"split": "part"}, "--split is for a table, and data/tars is a data set in tars: .*; leave it out"),
        (
            "arrow",
            {"split": "place"},
            "--split is for a table, and data/arrow .* in the names of its .*; leave it out",
        ),
    ],
)
def test_a_column_that_is_not_read_is_refused(pngs, kind, options, message):
    write_tar(Path("data/tars/0.tar"), samples(pngs, ["cat", "dog"] * 4))
    Path("data/arrow").mkdir()
    pq.write_table(arrow_table(pngs, ["cat", "dog"] * 6), "data/arrow/train-00000-of-00001.parquet")
    with pytest.raises(UserError, match=message):
        write_config(Path("data", kind), **options)
    assert not list(Path().glob("*.yaml"))


def test_links_and_look_alike_names_can_be_allowed(image_folder, synaug):
    image_folder({"cat": 6, "dog": 6})
    Path("elsewhere").mkdir()
    shutil.move("data/dog", "elsewhere/dog")
    Path("data/dog").symlink_to("../elsewhere/dog")
    with pytest.raises(UserError, match="synaug init: --follow-links"):
        write_config(Path("data"))
    write_config(Path("data"), follow_links=True)
    assert yaml.safe_load(Path("data.yaml").read_text())["dataset"]["follow_links"] is True
    assert classes_of() == {"cat", "dog"}


@pytest.mark.parametrize("column", ["group", "label"])
def test_a_group_column_with_the_name_of_a_placeholder_is_one_line(pngs, column):
    images = [{"bytes": data, "path": None} for data in pngs[:12]]
    frame = pd.DataFrame({"image": images, "name": ["cat", "dog"] * 6, column: ["a", "b", "b"] * 4})
    frame.to_parquet("t.parquet")
    with pytest.raises(
        UserError, match=f"t.parquet: .*group_columns: {column}: a placeholder of prompts has this name"
    ):
        write_config(Path("t.parquet"), label="name", groups=[column])
