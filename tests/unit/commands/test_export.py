"""`synaug export`: sets that other libraries read, with unchanged images and their provenance."""

import csv
import hashlib
import io
import os
import resource
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hub_server import READER, WRITER
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


def test_it_is_uploaded_and_loaded_from_the_hub(synaug, experiment, tmp_path, empty_hub):
    pytest.importorskip("datasets")
    home, images = experiment
    status, out, err = synaug("export", home, "--hub", "balanced")
    assert (status, err) == (0, ""), err
    assert out.splitlines()[-1] == f"{empty_hub.url}/datasets/people/balanced"
    asked = {"name": "balanced", "organization": "people", "visibility": "private", "type": "dataset"}
    assert empty_hub.created == [asked]
    code = "import datasets, sys; read = datasets.load_dataset('people/balanced', split='train')\n"
    code += "read.cast_column('image', datasets.Image(decode=False)).to_parquet(sys.argv[1])\n"
    code += "print(read.features['label'].names)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "loaded.parquet")],
        env=empty_hub.environment(tmp_path / "home", HF_TOKEN=WRITER),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{CLASSES}\n"
    loaded = pq.read_table(tmp_path / "loaded.parquet").to_pylist()
    check_exported(images, {row["image_id"]: (row["image"]["bytes"], row) for row in loaded})


def test_the_card_says_where_the_images_come_from(synaug, experiment, tmp_path):
    from huggingface_hub import DatasetCard

    home, _ = experiment
    table = pq.read_table(tmp_path / "data/t.parquet")
    origin = {"synaug.origin": "people/animals at 0123abc"}
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | origin), tmp_path / "data/t.parquet")
    images = pd.DataFrame({"image_id": list("abcdef"), "index": range(6), "accepted": [True] * 4 + [False] * 2})
    images = images.assign(label=0, label_name="a", sha256="h", path="x.parquet", row=0, column="image")
    images = images.assign(rejected_by=[None] * 4 + ["contrast"] * 2, reason=[None] * 4 + ["is blank"] * 2)
    write_manifest("synthetic", images, home / "synthetic.parquet")
    assert synaug("export", home, tmp_path / "out", "--format", "hf")[0] == 0
    text = (tmp_path / "out/README.md").read_text()
    assert "from the data set `people/animals at 0123abc` of the Hugging Face hub" in text
    assert "2 generated images were rejected" in text
    assert "- 4 images: `text-to-image` with `m`, version `v`, 5 steps, guidance 2.0.\n" in text
    assert "- 4 synthetic images: `m`, version `v`, licence: MIT." in text
    about = DatasetCard(text).data.to_dict()
    assert about["license"] == "other" and about["size_categories"] == ["n<1K"]
    assert about["task_categories"] == ["image-classification"]
    assert about["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]


def test_what_cannot_be_uploaded_is_one_line_before_anything_is_written(
    synaug, experiment, tmp_path, empty_hub, monkeypatch
):
    home, _ = experiment
    (empty_hub.root / "datasets/people/there").mkdir(parents=True)

    def error(*arguments) -> str:
        status, out, err = synaug("export", home, *arguments)
        assert (status, out) == (2, "") and err.startswith("synaug: error: ") and err.count("\n") == 1
        assert empty_hub.created == [] and not (tmp_path / "new").exists()
        return err

    there = error("--hub", "people/there", tmp_path / "new")
    assert "the dataset people/there exists already on the hub; give another name" in there
    assert "'a b' is no name of a repository" in error("--hub", "a b")
    assert "no folder given" in error()
    assert "--public: has no effect without --hub" in error(tmp_path / "new", "--public")
    assert "--format: csv is not uploaded" in error("--hub", "new", "--format", "csv")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the hub refuses your token (401" in error("--hub", "new")
    monkeypatch.delenv("HF_TOKEN")
    assert "--hub: there is no token; log in with `hf auth login`, or set HF_TOKEN" in error("--hub", "new")
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "--hub: there is no connection" in error("--hub", "new")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE=1 forbids to upload; set HF_HUB_OFFLINE=0" in error("--hub", "new")


@pytest.mark.parametrize(
    ("name", "token", "public", "words"),
    [
        ("balanced", READER, [], "your token may not write to people/balanced (403: You don't have the rights"),
        ("others/balanced", WRITER, ["--public"], "your token may not write to others/balanced (403: "),
    ],
)
def test_after_a_failed_upload_the_folder_stays(
    synaug, experiment, tmp_path, empty_hub, monkeypatch, name, token, public, words
):
    home, _ = experiment
    monkeypatch.setenv("HF_TOKEN", token)
    status, _, err = synaug("export", home, tmp_path / "new", "--hub", name, *public)
    assert status == 2 and err.count("\n") == 1
    assert err.startswith(f"synaug: error: {tmp_path}/new: is complete, but not on the hub: {words}")
    repository = name if "/" in name else f"people/{name}"
    private = "--no-private" if public else "--private"
    assert err.endswith(f", then run `hf upload {repository} {tmp_path}/new . --type dataset {private}`\n")
    assert len(list((tmp_path / "new/data").iterdir())) == 1 and (tmp_path / "new/README.md").is_file()


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


def test_a_large_set_has_more_tars_than_a_process_may_open(tmp_path):
    """Without many images: the number of tars follows from the number of images that is stated."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))  # that of macOS
    try:
        with export_layouts.TarFiles(tmp_path, 300 * export_layouts.PER_FILE) as writer:
            for number in range(600):  # two in each
                writer.add(f"{number:08x}", b"png", "png", {"label": number})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    tars = sorted(tmp_path.glob("*.tar"))
    assert len(tars) == 300
    for number, path in enumerate(tars):
        with tarfile.open(path) as tar:
            names = [f"{key:08x}.{extension}" for key in (number, number + 300) for extension in ("png", "cls", "json")]
            assert tar.getnames() == names
            assert tar.extractfile(names[4]).read() == str(number + 300).encode()
        assert path.stat().st_size % tarfile.RECORDSIZE == 0  # as other programs write them


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
    assert extension_of(encode(pixels, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])) == "jpg"
    assert [extension_of(encode(pixels, kind)) for kind in ("PNG", "JPEG", "WEBP")] == ["png", "jpg", "webp"]
    assert Image.open(io.BytesIO(encode(pixels, "WEBP"))).format == "WEBP"


def test_folder_names_of_classes_are_safe_and_unique():
    names = folder_names(["a/b", "a\\b", "..", "", "A_B", "con:1", "Stövel", "x" * 300])
    assert len({name.casefold() for name in names}) == len(names)
    assert names[0] == "a_b" and names[6] == "Stövel"
    for name in names:
        assert name not in ("", ".", "..") and "/" not in name and "\\" not in name and len(name) < 200


def test_folder_names_of_long_classes_are_valid_and_unique():
    """255 bytes are the limit of most file systems, and some take no name that ends in a blank or a dot."""
    names = folder_names(["\u732b" * 200, "\u732b" * 201, "\U0001f408" * 99, "x" * 99 + " .y", "x" * 98 + ". y", " =1"])
    assert len(set(names)) == len(names)
    for name in names:
        assert name == name.strip(" .") and len(name.encode()) < 200 and name[0] != "="
    assert names[0] == "\u732b" * 33


def test_large_tables_are_not_read_whole(tmp_path, monkeypatch):
    """Row groups without a wanted row are skipped, and of the others few images are in memory at once."""
    import pyarrow as pa

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


def test_of_several_fills_one_is_exported(synaug, experiment, tmp_path):
    """Each of them completes the classes, so that all of them together are too many images."""
    home, _ = experiment
    rows = pq.read_table(home / "balanced.parquet").to_pandas()
    synthetic = rows["source"] == "synthetic"
    rows["fill"] = np.where(synthetic, np.where(synthetic.cumsum() <= 2, "plain", "from_real"), "")
    write_manifest("balanced", rows, home / "balanced.parquet")
    status, _, err = synaug("export", home, tmp_path / "out", "--format", "csv")
    assert status == 2 and "has 2 fills, and each completes the classes; add --fill from_real or --fill plain" in err
    status, _, err = synaug("export", home, tmp_path / "out", "--fill", "plan")
    assert status == 2 and "has no fill 'plan'; add --fill from_real or --fill plain" in err
    assert synaug("export", home, tmp_path / "out", "--format", "csv", "--fill", "plain")[0] == 0
    table = pd.read_csv(tmp_path / "out" / "images.csv")
    assert table["fill"].value_counts().to_dict() == {"plain": 2}
    assert table["source"].value_counts().to_dict() == {"real": 5, "synthetic": 2}


def test_the_set_is_written_to_the_folder_that_a_link_leads_to(synaug, experiment, tmp_path):
    home, _ = experiment
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert synaug("export", home, tmp_path / "out")[0] == 0
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk" / "README.md").exists()
