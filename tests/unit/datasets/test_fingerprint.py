"""Every change of an image file is noticed, whatever source names the file."""

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from layouts import (
    FACES,
    one_line_error,
    write_birds,
    write_celeba,
    write_csv,
    write_faces,
    write_lists,
    write_mnist,
    write_parquet,
)

from synaug.config import Dataset
from synaug.datasets import fingerprint, input_files
from synaug.datasets.index import SOURCES

LABELS, SPLITS = ["a", "b", "a", "b"], ["train", "train", "test", "test"]


def csv(folder: Path, pngs) -> dict:
    return {"source": "table", "path": str(write_csv(folder, pngs, LABELS, SPLITS))}


def json_lines(folder: Path, pngs) -> dict:
    table = pd.read_csv(write_csv(folder, pngs, LABELS, SPLITS))
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_dict("records")))
    return {"source": "table", "path": str(folder / "data.jsonl")}


def parquet_of_paths(folder: Path, pngs) -> dict:
    pq.write_table(pa.Table.from_pandas(pd.read_csv(write_csv(folder, pngs, LABELS, SPLITS))), folder / "t.parquet")
    return {"source": "table", "path": str(folder / "t.parquet")}


def parquet_of_some_paths(folder: Path, pngs) -> dict:
    """The images of three rows are embedded, and the first is a file."""
    write_csv(folder, pngs, LABELS, SPLITS)
    image = [{"bytes": None, "path": "images/0.png"}, *({"bytes": data, "path": None} for data in pngs[1:4])]
    pq.write_table(pa.table({"image": image, "label": LABELS, "split": SPLITS}), folder / "t.parquet")
    return {"source": "table", "path": str(folder / "t.parquet")}


def image_list(folder: Path, pngs) -> dict:
    return {"source": "image_list", "path": str(folder), "lists": write_lists(folder, pngs)}


def folders(folder: Path, pngs) -> dict:
    for number, (split, label) in enumerate(zip(SPLITS, LABELS, strict=True)):
        (folder / split / label).mkdir(parents=True)
        (folder / split / label / "0.png").write_bytes(pngs[number])
    return {"source": "folder", "path": str(folder)}


def faces(folder: Path, pngs) -> dict:
    write_faces(folder, dict(zip(FACES, pngs, strict=False)))
    return {"source": "utkface", "path": str(folder), "label_column": "gender"}


def birds(folder: Path, pngs) -> dict:
    rows = ["0,a.jpg,0,0,0,-", "1,b.jpg,1,0,1,-", "2,c.jpg,1,2,0,-"]
    write_birds(folder, rows, dict(zip(("a.jpg", "b.jpg", "c.jpg"), pngs, strict=False)))
    return {"source": "waterbirds", "path": str(folder)}


def celebrities(folder: Path, pngs) -> dict:
    names = ["1.jpg", "2.jpg", "3.jpg"]
    values = dict(zip(names, ["-1 -1 1 -1 1 1", "1 -1 -1 -1 1 1", "1 -1 -1 -1 1 1"], strict=True))
    write_celeba(folder, values, dict(zip(names, (0, 0, 2), strict=True)), dict(zip(names, pngs, strict=False)))
    return {"source": "celeba", "path": str(folder), "label_column": "Blond_Hair"}


LAYOUTS = [
    csv, json_lines, parquet_of_paths, parquet_of_some_paths, image_list, folders, faces, birds, celebrities
]  # fmt: skip


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def dataset(request, tmp_path, pngs) -> Dataset:
    (tmp_path / "data").mkdir()
    return Dataset(image_size=28, **request.param(tmp_path / "data", pngs))


@pytest.mark.parametrize("change", ["replace", "remove"])
def test_a_changed_image_file_changes_the_fingerprint_of_every_source(dataset, pngs, change):
    before = fingerprint(dataset)
    assert fingerprint(dataset) == before
    file = next(row["data"] for row in SOURCES[dataset.source].find(dataset) if isinstance(row["data"], Path))
    if change == "remove":
        file.unlink()
    else:
        file.write_bytes(pngs[-1])
        os.utime(file, ns=(1, 1))
    assert fingerprint(dataset) != before


def test_a_listed_file_that_appears_changes_the_fingerprint(tmp_path, pngs):
    dataset = Dataset(image_size=28, **csv(tmp_path, pngs))
    (tmp_path / "images" / "3.png").unlink()
    before = fingerprint(dataset)
    (tmp_path / "images" / "3.png").write_bytes(pngs[3])
    assert fingerprint(dataset) != before


def test_the_files_of_torchvision_are_watched_but_not_while_it_may_download(tmp_path, pngs):
    root = write_mnist(tmp_path / "root", pngs)
    dataset = Dataset(source="torchvision", name="MNIST", path=str(root), image_size=28)
    before = fingerprint(dataset)
    (root / "another data set.bin").touch()
    assert before and fingerprint(dataset) == before
    os.utime(next(root.rglob("train-images*")), ns=(1, 1))
    assert fingerprint(dataset) != before
    assert fingerprint(dataset.model_copy(update={"download": True})) == ""


def test_a_table_of_embedded_images_has_no_image_files(tmp_path, pngs):
    path = write_parquet(tmp_path / "t.parquet", pngs, LABELS, SPLITS)
    assert fingerprint(Dataset(source="table", path=str(path), image_size=28)) == ""


def test_a_data_set_that_cannot_be_read_is_left_to_the_rule_that_reads_it(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    assert fingerprint(Dataset(source="table", path=str(tmp_path / "t.csv"), image_size=28)) == ""
    assert fingerprint(Dataset(source="folder", path=str(tmp_path / "nowhere"), image_size=28)) == ""


@pytest.mark.parametrize("source", ["folder", "table", "webdataset", "huggingface", "utkface", "image_list"])
def test_a_place_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, source):
    stat, private = os.stat, tmp_path / "private"

    def refused(path, *arguments, **keywords):
        if str(path).startswith(str(private)):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *arguments, **keywords)

    settings = {"utkface": {"label_column": "age"}, "image_list": {"lists": {"train": "a.txt", "test": "b.txt"}}}
    dataset = Dataset(source=source, path=str(private / "data"), image_size=32, **settings.get(source, {}))
    monkeypatch.setattr(os, "stat", refused)
    message = f"{private}/data: cannot be read (Permission denied); change its permissions"
    assert message in one_line_error(input_files, dataset)
    assert fingerprint(dataset) == ""
