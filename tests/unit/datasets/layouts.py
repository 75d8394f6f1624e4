"""Small data sets in the layouts that the sources read, and what the tests of the sources share."""

import gzip
import io
import json
import struct
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset.convert_dataset import main as convert_dataset
from synaug.config import Dataset
from synaug.datasets import as_table, index_dataset
from synaug.images.codec import decode_image
from synaug.runtime.errors import UserError


def one_line_error(call, *arguments) -> str:
    """The message of the UserError that `call` raises; if it returns an iterator, when that is read."""
    with pytest.raises(UserError) as caught:
        result = call(*arguments)
        list(result if result is not None else ())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def converted(dataset: Dataset, folder: Path):
    """The rows of a data set that the workflow first converts to a table, in `folder`."""
    convert_dataset(dataset.model_dump(), str(folder / "dataset.parquet"))
    return index_dataset(as_table(dataset, str(folder / "dataset.parquet")))


# ------------------------------------------------------------------------------------------------------------- tables


def write_parquet(path, pngs, labels, splits=None):
    """A Parquet table with embedded images; the first half is `train` unless `splits` says otherwise."""
    count = len(labels)
    splits = splits or ["train"] * (count // 2) + ["test"] * (count - count // 2)
    image = pa.array([{"bytes": data, "path": None} for data in pngs[:count]])
    pq.write_table(pa.table({"image": image, "label": labels, "split": splits}), path)
    return path


def write_csv(folder, pngs, labels, splits):
    """A CSV, and the image files that it lists, in a folder next to it."""
    (folder / "images").mkdir()
    for number in range(len(labels)):
        (folder / "images" / f"{number}.png").write_bytes(pngs[number])
    paths = [f"images/{number}.png" for number in range(len(labels))]
    pd.DataFrame({"image": paths, "label": labels, "split": splits}).to_csv(folder / "data.csv", index=False)
    return folder / "data.csv"


# ----------------------------------------------------------------------------------------- CIFAR, Fashion-MNIST, MNIST

CLASSES = {"cifar10": [f"kind {c}" for c in range(10)], "cifar100": [f"kind_{c}" for c in range(100)]}


def python2_pickle(value) -> bytes:
    """`value` as Python 2 pickled it: strings are bytes, and an array has the old names of numpy."""

    def put(part) -> bytes:
        match part:
            case bytes():
                return b"T" + struct.pack("<i", len(part)) + part
            case int():
                return b"J" + struct.pack("<i", part)
            case list():
                return b"](" + b"".join(map(put, part)) + b"e"
            case dict():
                return b"}(" + b"".join(put(key) + put(item) for key, item in part.items()) + b"u"
            case np.ndarray():
                shape = b"(" + b"".join(map(put, part.shape)) + b"t"
                kind = (
                    b"cnumpy\ndtype\n("
                    + put(b"u1")
                    + b"K\x00K\x01tR(K\x03"
                    + put(b"|")
                    + b"NNN"
                    + put(-1) * 2
                    + b"K\x00tb"
                )
                empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + put(b"b") + b"tR"
                return empty + b"(K\x01" + shape + kind + b"\x89" + put(part.tobytes()) + b"tb"
        raise TypeError(part)

    return b"\x80\x02" + put(value) + b"."


def write_cifar(root: Path, source: str, per_class: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Tiny files in the published layout. Returns their training images (N x 32 x 32 x 3) and labels."""
    folder = root / {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}[source]
    folder.mkdir(parents=True)
    ten = source == "cifar10"
    classes = len(CLASSES[source])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (classes * per_class, 32, 32, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(len(images)) % classes)

    def write(name: str, chosen: np.ndarray) -> None:
        content = {
            b"data": np.ascontiguousarray(images[chosen].transpose(0, 3, 1, 2).reshape(-1, 3072)),
            b"labels" if ten else b"fine_labels": labels[chosen].tolist(),
            b"batch_label": b"a batch",
            b"filenames": [b"%d.png" % number for number in chosen.tolist()],
        } | ({} if ten else {b"coarse_labels": [0] * len(chosen)})
        (folder / name).write_bytes(python2_pickle(content))

    everything = np.arange(len(images))
    for number, chosen in enumerate(np.array_split(everything, 5 if ten else 1), 1):
        write(f"data_batch_{number}" if ten else "train", chosen)
    write("test_batch" if ten else "test", everything[: 2 * classes])
    meta = {b"label_names" if ten else b"fine_label_names": [name.encode() for name in CLASSES[source]]}
    (folder / ("batches.meta" if ten else "meta")).write_bytes(python2_pickle(meta))
    return images, labels


def write_idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_fashion(folder: Path, end: str = "") -> tuple[np.ndarray, np.ndarray]:
    """The four files of Fashion-MNIST. Returns their training images (N x 28 x 28 x 1) and labels."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), (np.arange(40) % 10).astype(np.uint8)
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{end}", labels)
    return images[..., None], labels


def write_mnist(root: Path, pngs) -> Path:
    """The files of MNIST as torchvision lays them out: 8 training and 4 test images."""
    for prefix, images in (("train", pngs[:8]), ("t10k", pngs[8:12])):
        pixels = np.stack([decode_image(png, 28, "grey")[..., 0] for png in images])
        write_idx(root / "MNIST" / "raw" / f"{prefix}-images-idx3-ubyte", pixels)
        labels = np.array([3, 7] * (len(images) // 2), np.uint8)
        write_idx(root / "MNIST" / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    return root


# ------------------------------------------------------------------------------------------ WebDataset, Hugging Face

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def samples(pngs, labels, start=0) -> dict[str, bytes]:
    """Members of a tar: an image and its class for each label."""
    members = {}
    for number, label in enumerate(labels, start):
        members |= {f"a.b/{number:04}.png": pngs[number], f"a.b/{number:04}.cls": f"{label}\n".encode()}
    return members


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


# --------------------------------------------------------------------------------------------------- lists of images

WORDNET_IDS = ["n01440764", "n01443537", "n01484850"]


def write_lists(root: Path, pngs) -> dict[str, str]:
    """Three classes, with 3, 2 and 1 training images and a test image each. Returns split -> list."""
    images = iter(pngs)
    for split, folder, per_class in (("train", "train", 3), ("test", "val", 1)):
        lines = []
        for label, wordnet_id in enumerate(WORDNET_IDS):
            (root / folder / wordnet_id).mkdir(parents=True)
            for number in range(per_class - (split == "train") * label):
                (root / folder / wordnet_id / f"{number}.JPEG").write_bytes(next(images))
                lines.append(f"{folder}/{wordnet_id}/{number}.JPEG {label}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    return {split: str(root / f"{split}.txt") for split in ("train", "test")}


# ----------------------------------------------------------------------------------- UTKFace, Waterbirds and CelebA

# Names of the published archive with its oddities: a blank, no dot, and (UNNAMED) a missing value.
FACES = [
    "1_0_0_20161219140623097.jpg.chip.jpg",
    "26_1_2_20170116174525125.jpg.chip.jpg",
    "81_1_4_20170111211419693.jpg.chip.jpg",
    "24_0_1_20170116220224657 .jpg.chip.jpg",
    "55_0_3_20170116232725357jpg.chip.jpg",
]
UNNAMED = ["39_1_20170116174525125.jpg.chip.jpg", "61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg"]


def write_faces(folder: Path, images: dict[str, bytes]) -> Path:
    """A folder of faces. images: file name -> encoded image."""
    (folder / "crop_part1").mkdir(parents=True)
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return folder


BIRDS_HEADER = "img_id,img_filename,y,split,place,place_filename"


def write_birds(folder: Path, rows: list[str], images: dict[str, bytes], header: str = BIRDS_HEADER) -> Path:
    """The files of Waterbirds. rows: of metadata.csv. images: path -> encoded image."""
    for name, data in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "metadata.csv").write_text("".join(f"{line}\n" for line in [header, *rows]))
    return folder


ATTRIBUTES = ["5_o_Clock_Shadow", "Black_Hair", "Blond_Hair", "Gray_Hair", "Male", "Young"]


def write_celeba(
    root: Path,
    values: dict[str, str],
    parts: dict[str, int],
    images: dict[str, bytes],
    count=None,
    attributes=ATTRIBUTES,
) -> Path:
    """The files of CelebA. values: file name -> line of 1 and -1. parts: file name -> split. images: encoded."""
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True, exist_ok=True)
    for name, data in images.items():
        (folder / "img_align_celeba" / name).write_bytes(data)
    head = f"{len(values) if count is None else count}\n{' '.join(attributes)} \n"
    lines = [f"{name} {value}\n" for name, value in values.items()]
    (folder / "list_attr_celeba.txt").write_text(head + "".join(lines))
    (folder / "list_eval_partition.txt").write_text("".join(f"{name} {part}\n" for name, part in parts.items()))
    return root


def group_block(path, label_column="label", group_columns=(), train_split="train", test_split="test"):
    """The keys of the config block `dataset` that these sources read."""
    names = {"label_column": label_column, "group_columns": list(group_columns)}
    names |= {"train_split": train_split, "test_split": test_split, "validation_split": None, "follow_links": False}
    return SimpleNamespace(path=str(path), **names)


def described(rows: list[dict]) -> list[tuple]:
    """File name, split, class and groups of every row. Checks the other values."""
    for row in rows:
        assert set(row) - {"reason"} == {"split", "label_name", "path", "row", "data", "attributes"}
        assert row["row"] is None and row["data"] == Path(row["path"])
    return [(Path(row["path"]).name, row["split"], row["label_name"], row["attributes"]) for row in rows]
