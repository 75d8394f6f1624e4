"""WebDataset tars and Hugging Face data sets on disk become one table, which is then like any other."""

import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dataset.convert_dataset import main as convert_dataset
from synaug.config import Dataset
from synaug.datasets import as_table, index_dataset, input_files
from synaug.images.codec import decode_image
from synaug.images.store import load_pixels, read_encoded
from synaug.runtime.errors import UserError

LABELS = ["cat", "dog"] * 6


def block(source: str, path: Path, **settings) -> Dataset:
    return Dataset(source=source, path=str(path), image_size=28, **settings)


def converted(dataset: Dataset, folder: Path):
    """The manifest, by the way that the workflow goes."""
    convert_dataset(dataset.model_dump(), str(folder / "dataset.parquet"))
    return index_dataset(as_table(dataset, str(folder / "dataset.parquet"), dataset.group_columns))


def complaint(dataset: Dataset, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        input_files(dataset)
        convert_dataset(dataset.model_dump(), str(folder / "out.parquet"))
    assert not list(folder.glob("*out.parquet*"))  # nothing half-written
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(pngs, labels, start=0) -> dict[str, bytes]:
    members = {}
    for number, label in enumerate(labels, start):
        members |= {f"a.b/{number:04}.png": pngs[number], f"a.b/{number:04}.cls": f"{label}\n".encode()}
    return members


@pytest.fixture
def tars(tmp_path, pngs) -> Path:
    write_tar(tmp_path / "tars" / "train-000000.tar", samples(pngs, LABELS[:4]))
    write_tar(tmp_path / "tars" / "train-000001.tar", samples(pngs, LABELS[4:8], 4))
    write_tar(tmp_path / "tars" / "val" / "000000.tar", samples(pngs, LABELS[8:], 8))
    return tmp_path / "tars"


def test_tars_by_split(tars, tmp_path, pngs):
    rows = converted(block("webdataset", tars, test_split="val"), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "cat"): 4, ("train", "dog"): 4, ("val", "cat"): 2, ("val", "dog"): 2,
    }  # fmt: skip
    assert rows["usable"].all()
    (_, images), *_ = read_encoded(rows.sort_values("row"))
    assert images == pngs[:12]  # as they were, not encoded anew


def test_tars_without_splits(tars, tmp_path):
    rows = converted(block("webdataset", tars, make_splits={"test": 0.25}), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 8, "test": 4}


def test_json_of_a_sample_holds_class_and_groups(tmp_path, pngs):
    members = {}
    for number, label in enumerate(LABELS):
        said = {"species": label, "place": number % 3, "note": None}
        members |= {f"{number}.json": json.dumps(said).encode(), f"{number}.jpg": pngs[number], f"{number}.txt": b"-"}
    path = write_tar(tmp_path / "all.tar", members)
    settings = {"label_column": "species", "group_columns": ["place"], "make_splits": {"test": 0.5}}
    rows = converted(block("webdataset", path, **settings), tmp_path)
    assert set(rows["label_name"]) == {"cat", "dog"} and set(rows["group"]) == {"0", "1", "2"}


def test_a_broken_image_of_a_tar_is_a_row_with_the_reason(tars, tmp_path):
    write_tar(tars / "train-000002.tar", {"x.png": b"no image", "x.cls": b"cat"})
    rows = converted(block("webdataset", tars, test_split="val"), tmp_path)
    assert rows["reason"].dropna().tolist() == ["is not an image of a known format"]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"1.cls": b"cat"}, "train.tar: 1: has no image"),
        ({"1.png": b"x"}, "train.tar: 1: has no label"),
        ({"1.png": b"x", "1.cls": b" "}, "has no label"),
        ({"1.png": b"x", "1.json": b'{"label": NaN}'}, "has no label"),
        ({"1.png": b"x", "1.json": b"{"}, "1.json: is no JSON"),
        ({"1.png": b"x", "1.json": b"[]"}, "1.json: should be an object"),
    ],
)
def test_samples_that_say_too_little_are_named(tmp_path, members, said):
    write_tar(tmp_path / "tars" / "train.tar", members)
    assert said in complaint(block("webdataset", tmp_path / "tars", make_splits={"test": 0.2}), tmp_path)


def test_tars_that_are_none_or_not_there_are_named(tars, tmp_path):
    assert "begins with 'test'" in complaint(block("webdataset", tars), tmp_path)
    assert "holds no *.tar" in complaint(block("webdataset", tmp_path / "nowhere"), tmp_path)
    (tars / "train-000000.tar").write_bytes(b"no tar" * 500)
    assert "train-000000.tar: cannot be read" in complaint(block("webdataset", tars, test_split="val"), tmp_path)


FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def arrow_table(pngs, labels, start=0) -> pa.Table:
    """Rows as the library `datasets` stores them: a struct, the number of the class, names in the schema."""
    image = pa.array([{"bytes": pngs[start + i], "path": None} for i in range(len(labels))])
    numbers = pa.array([None if label is None else FEATURES["label"]["names"].index(label) for label in labels])
    table = pa.table({"image": image, "label": numbers, "place": ["in", "out", "out"] * (len(labels) // 3)})
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": FEATURES}})})


def write_arrow(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)


@pytest.fixture(params=["arrow", "parquet"])
def on_disk(request, tmp_path, pngs) -> Path:
    """Six rows of train and six of test, as `save_to_disk` lays them out, or as the hub does."""
    for start, split in enumerate(("train", "test")):
        table = arrow_table(pngs, LABELS[:6], 6 * start)
        if request.param == "arrow":
            write_arrow(tmp_path / "set" / split / "data-00000-of-00001.arrow", table)
        else:
            (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
            pq.write_table(table, tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "set"


def test_a_hugging_face_data_set_on_disk(on_disk, tmp_path, pngs):
    rows = converted(block("huggingface", on_disk, group_columns=["place"]), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "cat"): 3, ("train", "dog"): 3, ("test", "cat"): 3, ("test", "dog"): 3,
    }  # fmt: skip
    assert set(rows["group"]) == {"in", "out"}
    (_, images), *_ = read_encoded(rows.sort_values("row"))
    assert sorted(images) == sorted(pngs[:12])


def test_one_without_splits_is_divided(tmp_path, pngs):
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", arrow_table(pngs, LABELS))
    rows = converted(block("huggingface", tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 6, "test": 6}


def test_what_is_missing_in_one_is_named(on_disk, tmp_path, pngs):
    assert "has no split 'validation' (there: test, train)" in complaint(
        block("huggingface", on_disk, validation_split="validation"), tmp_path
    )
    said = complaint(block("huggingface", on_disk, label_column="fine_label"), tmp_path)
    assert "'fine_label' (there: image, label, place); set dataset.label_column" in said
    assert "save_to_disk" in complaint(block("huggingface", tmp_path / "nowhere"), tmp_path)


def test_a_row_without_a_class_is_named(tmp_path, pngs):
    write_arrow(tmp_path / "set" / "data-00000-of-00001.arrow", arrow_table(pngs, ["cat", "dog", None]))
    said = complaint(block("huggingface", tmp_path / "set", make_splits={"test": 0.5}), tmp_path)
    assert "row 2 has no label" in said


def test_what_the_library_itself_writes_is_read(tmp_path, pngs):
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
    rows = converted(block("huggingface", tmp_path / "set"), tmp_path)
    assert rows["usable"].all()
    assert rows.groupby(["split", "label_name"]).size().tolist() == [2, 2, 4, 4]


@pytest.mark.parametrize("kind", ["tars", "arrow", "hub"])
def test_init_knows_them(tars, tmp_path, pngs, monkeypatch, kind):
    from synaug.commands.init import write_config
    from synaug.config import load_config

    monkeypatch.chdir(tmp_path)
    for start, split in enumerate(("train", "test")):
        table = arrow_table(pngs, LABELS[:6], 6 * start).rename_columns(["picture", "fine_label", "place"])
        write_arrow(tmp_path / "arrow" / split / "data-00000-of-00001.arrow", table)
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "hub" / "data" / f"{split}-00000-of-00001.parquet")
    (tmp_path / "arrow" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    said = write_config(Path(kind), label=None if kind == "tars" else "fine_label")
    assert "12 images in 2 classes" in said
    config = load_config(yaml.safe_load(Path(f"{kind}.yaml").read_text()))
    rows = converted(config.dataset, tmp_path)
    wanted = {"train": 8, "val": 4} if kind == "tars" else {"train": 6, "test": 6}
    assert rows["split"].value_counts().to_dict() == wanted


@pytest.fixture
def mnist(tmp_path, pngs) -> Path:
    """The files of MNIST in torchvision's layout, with a few images: 8 of training, 4 of test."""
    folder = tmp_path / "root" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, some in (("train", pngs[:8]), ("t10k", pngs[8:12])):
        pixels = np.stack([decode_image(png, 28, "grey")[..., 0] for png in some])
        head = struct.pack(">iiii", 2051, len(some), 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = bytes([3, 7] * (len(some) // 2))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, len(some)) + labels)
    return tmp_path / "root"


def test_a_data_set_of_torchvision(mnist, tmp_path, pngs):
    rows = converted(block("torchvision", mnist, name="MNIST"), tmp_path)
    assert rows.groupby(["split", "label_name"]).size().to_dict() == {
        ("train", "3 - three"): 4, ("train", "7 - seven"): 4, ("test", "3 - three"): 2, ("test", "7 - seven"): 2,
    }  # fmt: skip
    expected = np.stack([decode_image(png, 28, "grey") for png in pngs[:12]])
    assert np.array_equal(load_pixels(rows.sort_values("row"), 28, "grey"), expected)


def test_one_of_torchvision_with_a_validation_split_made(mnist, tmp_path):
    settings = {"validation_split": "validation", "make_splits": {"validation": 0.25}}
    rows = converted(block("torchvision", mnist, name="MNIST", **settings), tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 6, "validation": 2, "test": 4}


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("MNSIT", {}, "torchvision has no 'MNSIT'; the closest: MNIST"),
        ("SVHN", {}, "SVHN cannot be read from"),
        ("EuroSAT", {}, "EuroSAT has no splits; have them made"),
        ("MNIST", {"validation_split": "val"}, "MNIST has none; have one made"),
        ("DTD", {"test_split": "tset"}, "DTD cannot be read from"),
    ],
)
def test_what_torchvision_cannot_give_is_named(mnist, tmp_path, name, settings, said):
    assert said in complaint(block("torchvision", mnist, name=name, **settings), tmp_path)


def test_the_root_of_torchvision_must_be_there(tmp_path):
    said = complaint(block("torchvision", tmp_path / "nowhere", name="MNIST"), tmp_path)
    assert "nowhere is not a folder" in said and "dataset.download" in said
