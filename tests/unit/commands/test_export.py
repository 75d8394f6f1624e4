"""`synaug export`: sets that other libraries read, with unchanged images and their provenance."""

import csv
import hashlib
import io
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synaug.commands import export_layouts
from synaug.commands.export import extension_of
from synaug.commands.export_layouts import folder_names
from synaug.manifests import write_manifest

CLASSES = ["a", "T-shirt/top"]


@pytest.fixture
def experiment(tmp_path, pngs, monkeypatch):
    """results/e: 5 real images (2 files, 3 rows of a table) and 4 synthetic ones of a shard, of two classes.

    Returns its folder, and the encoded images by id.
    """
    monkeypatch.chdir(tmp_path)
    home, images = tmp_path / "results" / "e", {}
    sums = [hashlib.sha256(data).hexdigest() for data in pngs[:9]]
    rows = []
    for i, (data, sha) in enumerate(zip(pngs[:9], sums, strict=True)):
        images[sha[:24]] = data
        location = {"path": f"data/{i}.png"} if i < 2 else {"path": "data/t.parquet", "row": i - 2, "column": "png"}
        location = location if i < 5 else {"path": "results/e/shards/s.parquet", "row": 2 * (i - 5), "column": "image"}
        source = {
            "source": "real" if i < 5 else "synthetic",
            "label": int(i % 3 == 0),
            "label_name": CLASSES[i % 3 == 0],
        }
        rows.append({"image_id": sha[:24], "sha256": sha, "weight": 1.0} | source | location)
    (tmp_path / "data").mkdir()
    for i in range(2):
        (tmp_path / f"data/{i}.png").write_bytes(pngs[i])
    pd.DataFrame({"png": pngs[2:5]}).to_parquet(tmp_path / "data/t.parquet")
    # Every second row of the shard is an image that is not in the balanced set.
    stored = [{"bytes": pngs[5 + i // 2] if i % 2 == 0 else b"other", "path": f"{i}.png"} for i in range(8)]
    shard = {"image": stored, "image_id": [f"{i}" for i in range(8)], "label_name": "a", "sha256": "", "width": 28}
    shard |= {"height": 28, "pipeline": "text-to-image", "model": "m", "model_version": "v", "adapters": ""}
    shard |= {"scheduler": "", "steps": 5, "guidance": 2.0, "size": 28, "stored_size": 28, "color": "grey"}
    shard |= {"format": "png", "dtype": "float32", "prompt": [f"prompt {i}" for i in range(8)], "negative_prompt": ""}
    shard |= {"seed": [2**60 + i for i in range(8)], "sampler_version": 3, "licence": "MIT", "batch_size": 4}
    shard |= {"device": "cpu", "threads": 1, "libraries": ""}
    write_manifest("shard", pd.DataFrame(shard), home / "shards" / "s.parquet")
    write_manifest("balanced", pd.DataFrame(rows), home / "balanced.parquet")
    return home, images


def check_exported(images, exported: dict[str, tuple[bytes, dict]]) -> None:
    """exported: image_id -> (encoded image, its fields)."""
    assert {key: data for key, (data, _) in exported.items()} == images
    rows = [row for _, row in exported.values()]
    assert sorted(row["source"] for row in rows) == ["real"] * 5 + ["synthetic"] * 4
    for row in rows:
        assert row["label_name"] == CLASSES[int(row["label"])]
        if row["source"] == "synthetic":
            i = int(row["prompt"].removeprefix("prompt "))
            assert (int(row["seed"]), row["model"], row["licence"]) == (2**60 + i, "m", "MIT")
        else:
            assert not row.get("prompt") and not row.get("licence")


def read_csv(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_image_folder(synaug, experiment, tmp_path):
    from torchvision.datasets import ImageFolder

    home, images = experiment
    status, out, _ = synaug("export", home, tmp_path / "out")
    assert status == 0 and "9 images as imagefolder" in out
    train = tmp_path / "out/train"
    exported = {
        row["image_id"]: ((train / row["file_name"]).read_bytes(), row) for row in read_csv(train / "metadata.csv")
    }
    check_exported(images, exported)
    read = ImageFolder(train)
    assert len(read) == 9 and sorted(read.classes) == ["T-shirt_top", "a"]
    assert "| 1 | T-shirt/top | 2 | 1 |" in (tmp_path / "out/README.md").read_text()


def test_csv(synaug, experiment, tmp_path):
    home, images = experiment
    assert synaug("export", home, tmp_path / "out", "--format", "csv")[0] == 0
    rows = read_csv(tmp_path / "out/images.csv")
    check_exported(images, {row["image_id"]: ((tmp_path / "out" / row["file_name"]).read_bytes(), row) for row in rows})


def test_hugging_face(synaug, experiment, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(export_layouts, "PER_FILE", 4)  # several parts
    monkeypatch.setattr(export_layouts, "_ROW_GROUP", 2)
    home, images = experiment
    assert synaug("export", home, tmp_path / "out", "--format", "hf")[0] == 0
    assert len(list((tmp_path / "out/data").iterdir())) == 3
    read = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features["label"].names == CLASSES
    assert isinstance(read.features["image"], datasets.Image)
    raw = read.cast_column("image", datasets.Image(decode=False))
    check_exported(images, {row["image_id"]: (row["image"]["bytes"], row) for row in raw})
    assert read[0]["image"].size == (28, 28)


def test_web_dataset(synaug, experiment, tmp_path, monkeypatch):
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(export_layouts, "PER_FILE", 4)
    home, images = experiment
    assert synaug("export", home, tmp_path / "out", "--format", "webdataset")[0] == 0
    tars = sorted(map(str, (tmp_path / "out").glob("*.tar")))
    assert len(tars) == 3
    decoded = list(webdataset.WebDataset(tars, shardshuffle=False).decode())
    raw = list(webdataset.WebDataset(tars, shardshuffle=False))
    check_exported(
        images, {row["json"]["image_id"]: (data["png"], row["json"]) for row, data in zip(decoded, raw, strict=True)}
    )
    assert all(row["cls"] == row["json"]["label"] for row in decoded)


def test_the_same_set_gives_the_same_bytes_from_any_working_directory(synaug, experiment, tmp_path, monkeypatch):
    home, _ = experiment
    for layout in ("webdataset", "hf"):
        synaug("export", home, tmp_path / f"{layout}1", "--format", layout)
        monkeypatch.chdir("/")  # paths in a manifest are relative to where snakemake was called
        synaug("export", home, tmp_path / f"{layout}2", "--format", layout)
        files = [sorted(path for path in (tmp_path / f"{layout}{i}").rglob("*") if path.is_file()) for i in (1, 2)]
        assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


@pytest.mark.parametrize("layout", ["imagefolder", "hf", "webdataset", "csv"])
def test_a_damaged_image_leaves_nothing_behind(synaug, experiment, tmp_path, layout, encode):
    home, _ = experiment
    (tmp_path / "data/1.png").write_bytes(encode(np.zeros((28, 28))))
    status, out, err = synaug("export", home, tmp_path / "new/out", "--format", layout)
    assert (status, out) == (2, "")
    assert "data/1.png" in err and "does not have its recorded hash" in err and err.count("\n") == 1
    assert not any((tmp_path / "new").iterdir())


def test_a_folder_that_is_not_empty_is_refused(synaug, experiment, tmp_path):
    home, _ = experiment
    (tmp_path / "out").mkdir()
    assert synaug("export", home, tmp_path / "out", "--format", "csv")[0] == 0
    before = sorted((tmp_path / "out").rglob("*"))
    status, _, err = synaug("export", home, tmp_path / "out")
    assert status == 2 and "not empty" in err and err.count("\n") == 1
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_missing_files_are_named(synaug, experiment, tmp_path):
    home, _ = experiment
    assert "whose balanced training set is finished" in synaug("export", tmp_path, tmp_path / "out")[2]
    os.remove("data/t.parquet")
    assert "data/t.parquet: cannot be read" in synaug("export", home, tmp_path / "out")[2]
    assert synaug("export", home, tmp_path / "out", "--format", "zip")[0] == 2


def test_the_extension_is_that_of_the_format(encode):
    pixels = np.zeros((4, 4, 3))
    assert [extension_of(encode(pixels, kind)) for kind in ("PNG", "JPEG", "WEBP")] == ["png", "jpg", "webp"]
    assert Image.open(io.BytesIO(encode(pixels, "WEBP"))).format == "WEBP"


def test_folder_names_of_classes_are_safe_and_unique():
    names = folder_names(["a/b", "a\\b", "..", "", "A_B", "con:1", "Stövel", "x" * 300])
    assert len({name.casefold() for name in names}) == len(names)
    assert names[0] == "a_b" and names[6] == "Stövel"
    for name in names:
        assert name not in ("", ".", "..") and "/" not in name and "\\" not in name and len(name) < 200


def test_large_tables_are_not_read_whole(tmp_path, monkeypatch):
    """Row groups without a wanted row are skipped, and of the others few images are in memory at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synaug.images.store import stream_images

    images = [bytes([i % 256]) * 100 for i in range(1000)]
    pq.write_table(pa.table({"image": images, "n": range(1000)}), tmp_path / "t.parquet", row_group_size=100)
    wanted = [750, 3, 757, 999]
    rows = pd.DataFrame({"path": "t.parquet", "row": wanted, "column": "image"})
    groups = []
    iterate = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda file, size, some, *rest: groups.extend(some) or iterate(file, size, some, *rest),
    )
    found = {position: (data, known["n"]) for position, data, known in stream_images(rows, tmp_path, ["n", "no"])}
    assert found == {i: (images[row], row) for i, row in enumerate(wanted)}
    assert groups == [0, 7, 9]
