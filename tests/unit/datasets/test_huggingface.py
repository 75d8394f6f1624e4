"""Hugging Face data sets on disk become a table."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import arrow_table, converted, write_arrow

from synaug.config import Dataset
from synaug.datasets import input_files
from synaug.images.store import read_encoded
from synaug.runtime.errors import UserError

LABELS = ["cat", "dog"] * 6


def block(path: Path, **settings) -> Dataset:
    return Dataset(source="huggingface", path=str(path), image_size=28, **settings)


def error(dataset: Dataset, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        input_files(dataset)
        converted(dataset, folder)
    assert not list(folder.glob("*dataset.parquet*"))  # no partial file
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(params=["arrow", "parquet"])
def on_disk(request, tmp_path, pngs) -> Path:
    """Six rows of train and six of test, as `save_to_disk` or the Hub lays them out."""
    for start, split in enumerate(("train", "test")):
        table = arrow_table(pngs, LABELS[:6], 6 * start)
        if request.param == "arrow":
            write_arrow(tmp_path / "set" / split / "data-00000-of-00001.arrow", table)
        else:
            (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
            pq.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "set"


def test_a_hugging_face_data_set_on_disk(on_disk, tmp_path, pngs):
    rows = converted(block(on_disk, group_columns=["place"]), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "cat"): 3, ("train", "dog"): 3, ("test", "cat"): 3, ("test", "dog"): 3,
    }  # fmt: skip
    assert set(rows["group"]) == {"in", "out"}
    (_, images), *_ = read_encoded(rows.sort_values("row"))
    assert sorted(images) == sorted(pngs[:12])


def test_linked_folders_are_read(on_disk, tmp_path):
    plain = converted(block(on_disk), tmp_path)
    for folder in [entry for entry in on_disk.iterdir() if entry.is_dir()]:
        target = folder.rename(tmp_path / f"elsewhere-{folder.name}")
        folder.symlink_to(target)
    assert converted(block(on_disk), tmp_path)["image_id"].tolist() == plain["image_id"].tolist()


def test_a_folder_of_parquet_files_around_the_results_is_named(on_disk, tmp_path, monkeypatch):
    """Results are Parquet files too. Of what `save_to_disk` wrote, only Arrow files are read."""
    monkeypatch.chdir(on_disk)
    if list(on_disk.glob("*/*.arrow")):
        assert len(input_files(block(Path(".")))) == 2
    else:
        message = error(block(Path(".")), tmp_path)
        assert f"contains the current folder, so the results ({on_disk}/results) would be read" in message


def test_a_data_set_without_splits_is_divided(tmp_path, pngs):
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", arrow_table(pngs, LABELS))
    rows = converted(block(tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 6, "test": 6}


def test_a_missing_split_column_or_folder_is_named(on_disk, tmp_path, pngs):
    assert "has no split 'validation' (its splits: test, train)" in error(
        block(on_disk, validation_split="validation"), tmp_path
    )
    message = error(block(on_disk, label_column="fine_label"), tmp_path)
    assert "'fine_label' (its columns: image, label, place); set dataset.label_column" in message
    assert "save_to_disk" in error(block(tmp_path / "nowhere"), tmp_path)


def test_a_row_without_a_class_is_named(tmp_path, pngs):
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", arrow_table(pngs, ["cat", "dog", None]))
    message = error(block(tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert "row 2 has no label" in message


def test_files_written_by_the_library_are_read(tmp_path, pngs):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    files = []
    for number in range(12):
        files.append(str(tmp_path / f"{number}.png"))
        Path(files[-1]).write_bytes(pngs[number])
    one = datasets.Dataset.from_dict({"image": files, "label": [0, 1] * 6}, features=features)
    datasets.DatasetDict({"train": one.select(range(8)), "test": one.select(range(8, 12))}).save_to_disk(
        tmp_path / "set"
    )
    rows = converted(block(tmp_path / "set"), tmp_path)
    assert rows["usable"].all()
    assert rows.groupby(["split", "label_name"]).size().tolist() == [2, 2, 4, 4]


def saved(folder: Path, tables: list, listed: list[int] | None = None) -> None:
    """The files that `save_to_disk` writes. listed: numbers of the files in state.json; None: all."""
    names = [f"data-{number:05}-of-{len(tables):05}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_arrow(folder / name, table)
    named = [{"filename": names[number]} for number in (range(len(names)) if listed is None else listed)]
    (folder / "state.json").write_text(json.dumps({"_data_files": named, "_split": folder.name}))


def test_a_data_set_saved_again_with_fewer_files_is_read_once(tmp_path, pngs):
    one = arrow_table(pngs, LABELS[:6])
    saved(tmp_path / "set" / "train", [one.slice(0, 2), one.slice(2, 2), one.slice(4, 2)])
    saved(tmp_path / "set" / "train", [one])
    saved(tmp_path / "set" / "test", [arrow_table(pngs, LABELS[6:], 6)])
    rows = converted(block(tmp_path / "set"), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 6, "test": 6}
    assert input_files(block(tmp_path / "set")) == [
        str(tmp_path / "set" / split / "data-00000-of-00001.arrow") for split in ("test", "train")
    ]


def test_a_listed_file_that_is_gone_is_named(tmp_path, pngs):
    one = arrow_table(pngs, LABELS[:6])
    saved(tmp_path / "set", [one.slice(0, 3), one.slice(3, 3)])
    (tmp_path / "set" / "data-00001-of-00002.arrow").unlink()
    message = error(block(tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert "state.json: lists 'data-00001-of-00002.arrow'" in message
    (tmp_path / "set" / "state.json").write_text("{}")
    assert "state.json: cannot be read" in error(block(tmp_path / "set", make_splits={"test": 0.5}), tmp_path)


@pytest.mark.parametrize("layout", ["hub", "converted", "saved"])
@pytest.mark.parametrize("settings", [{}, {"make_splits": {"test": 0.5}}])
def test_several_configurations_are_named(tmp_path, pngs, layout, settings):
    for config in ("large", "small"):
        for split in ("train", "test"):
            table, folder = arrow_table(pngs, LABELS[:6]), tmp_path / "set" / config
            if layout == "saved":
                saved(folder / split, [table])
                (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
            else:
                file = folder / (f"{split}-00000-of-00001.parquet" if layout == "hub" else f"{split}/0000.parquet")
                file.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(table, file)
    message = error(block(tmp_path / "set", **settings), tmp_path)
    assert "several data sets or configurations (large, small)" in message and f"{tmp_path}/set/large" in message
    assert len(converted(block(tmp_path / "set" / "small"), tmp_path)) == 12


def test_files_of_two_downloads_are_named(tmp_path, pngs):
    (tmp_path / "set" / "data").mkdir(parents=True)
    for name in ("train-00000-of-00001", "train-00000-of-00002", "test-00000-of-00001"):
        pq.write_table(arrow_table(pngs, LABELS[:6]), tmp_path / "set" / "data" / f"{name}.parquet")
    assert "two downloads, train-*-of-00001 and train-*-of-00002" in error(block(tmp_path / "set"), tmp_path)


def test_a_row_whose_image_file_is_missing_is_a_row_with_a_reason(tmp_path, pngs):
    images = [{"bytes": data, "path": None} for data in pngs[:4]] + [{"bytes": None, "path": "gone.png"}]
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", pa.table({"image": images, "label": [*"abab", "a"]}))
    rows = converted(block(tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert rows["usable"].sum() == 4 and rows["reason"].notna().sum() == 1


def test_a_data_set_further_below_is_named(tmp_path, pngs):
    for split in ("train", "test"):
        saved(tmp_path / "outer" / "inner" / split, [arrow_table(pngs, LABELS[:6])])
    (tmp_path / "outer" / "inner" / "dataset_dict.json").write_text("{}")
    message = error(block(tmp_path / "outer"), tmp_path)
    assert f"holds a data set in inner; give {tmp_path}/outer/inner" in message
