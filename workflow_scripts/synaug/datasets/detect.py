"""What a folder of images, or a table of them, holds: found by looking, to write a config for it (`synaug init`)."""

import io
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from synaug.config import Dataset
from synaug.datasets import PACKED, as_table, huggingface, index_dataset, webdataset, write_table
from synaug.datasets.table import files, open_table
from synaug.images.codec import FORMATS, open_image
from synaug.images.store import read_encoded
from synaug.runtime.errors import UserError

# What the splits are called, in lower case.
TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation", "dev")
TEST_SHARE = 0.2
TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")
# What people call the columns, the likeliest first.
IMAGE_COLUMNS = (
    "image",
    "img",
    "path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "file_path",
    "image_path",
    "image_file",
)
LABEL_COLUMNS = (
    "label_name",
    "class_name",
    "label",
    "class",
    "category",
    "target",
    "species",
    "diagnosis",
    "fine_label",
    "labels",
)
SPLIT_COLUMNS = ("split", "set", "partition", "subset")
LOOKED_AT = 200  # images whose colours are looked at
_SAME = 8  # of 255: by how much the channels of a grey image that is stored in colours may differ (JPEG)


@dataclass
class Found:
    """A data set as it lies there."""

    dataset: dict  # block of the config, without image_size and color
    rows: pd.DataFrame  # of `index_dataset`
    modes: Counter = field(default_factory=Counter)  # Pillow's modes, of the images looked at
    transparent: int = 0  # of those, too
    animated: int = 0
    grey: bool = True  # whether they all are
    notes: list[str] = field(default_factory=list)  # what was decided, in a line each


def look_at(path: Path, image: str | None, label: str | None, split: str | None, groups: list[str]) -> Found:
    """Find classes, splits, sizes, colours and faults of the images at `path`, a folder or a table.

    image, label, split, groups: names of columns of a table; None: by the names that are usual.
    Raises UserError if there is nothing that the workflow could use, with what to do.
    """
    notes: list[str] = []
    kind = _kind(path)
    if kind == "folder" and (image or label or split or groups):
        raise UserError(f"{path}: is a folder of images, which has no columns; leave --image, --label, ... out")
    if kind == "folder":
        block = _folder_block(path, notes)
    elif kind == "table":
        block = _table_block(path, image, label, split, groups, notes)
    else:
        block = _packed_block(kind, path, image, label, groups, notes)
    dataset = Dataset(image_size=32, **block)
    with tempfile.TemporaryDirectory() as place:
        if kind in PACKED:
            write_table(dataset, Path(place) / "images.parquet")
            dataset = as_table(dataset, f"{place}/images.parquet", groups)
        found = Found(block, index_dataset(dataset), notes=notes)
        _look_at_colours(found)
    if kind in PACKED:
        found.rows["path"] = str(path) + ", image " + found.rows["row"].astype("str")
    return found


def _kind(path: Path) -> str:
    """Which source reads what lies there. Raises UserError if nothing does."""
    if not path.exists():
        raise UserError(f"{path}: does not exist; give a folder <class>/<image>, or a table ({', '.join(TABLES)})")
    if path.is_file():
        return "webdataset" if path.suffix.lower() == ".tar" else "table"
    if any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        return "huggingface"
    if any(path.glob("*.parquet")) or any(path.glob("data/*.parquet")):
        # On the hub the names of the files say the split, and no column does.
        parts = [one.stem for one in [*path.glob("*.parquet"), *path.glob("data/*.parquet")]]
        return "huggingface" if all(re.search(r"-\d{5}-of-\d{5}", part) for part in parts) else "table"
    return "webdataset" if any(path.glob("*.tar")) or any(path.glob("*/*.tar")) else "folder"


def _packed_block(
    kind: str, path: Path, image: str | None, label: str | None, groups: list[str], notes: list[str]
) -> dict:
    """The block `dataset` of tars, or of a Hugging Face data set on disk."""
    module = {"webdataset": webdataset, "huggingface": huggingface}[kind]
    there = module.files(Dataset(source=kind, path=str(path), image_size=32, make_splits={"test": TEST_SHARE}))
    inner = [one.relative_to(path).with_suffix("") if path.is_dir() else Path(one.stem) for one in there]
    # train-00000-of-00003, train_0001, and folders of that name.
    splits = _known_splits(sorted({re.split(r"[-_.\d]", part)[0] for one in inner for part in one.parts}))
    columns = {"label_column": label} if label else {}
    if kind == "huggingface":
        schema = huggingface.schema(there[0])
        inside = [one.name for one in schema if pa.types.is_binary(one.type) or pa.types.is_struct(one.type)]
        image = image or next(iter(inside), "image")
        label = label or _usual([name for name in schema.names if name != image], LABEL_COLUMNS)
        if label is None:
            raise UserError(
                f"{path}: which column holds the class? Say it by --label (there: {', '.join(schema.names)})"
            )
        notes.append(f"columns: {image} is the image, {label} is the label")
        columns = {"image_column": image, "label_column": label}
    columns = {key: name for key, name in columns.items() if name != key.removesuffix("_column")}
    return _split_block(kind, path, splits, notes, **columns, **({"group_columns": groups} if groups else {}))


def _folder_block(path: Path, notes: list[str]) -> dict:
    """The block `dataset` of a folder of images."""
    there = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    folders = [one.name for one in there if one.is_dir()]
    tables = [one for one in there if one.suffix.lower() in TABLES]
    if len(folders) < 2 and tables:
        raise UserError(
            f"{path}: holds the table {tables[0].name}; if it lists the images, call: synaug init {tables[0]}"
        )
    if not folders:
        raise UserError(
            f"{path}: holds no folders; put the images into <class>/, or list them in a table with a label each"
        )
    splits = _known_splits(folders)
    if "train" not in splits:
        if len(folders) == 1:
            raise UserError(
                f"{path}: holds one folder, {folders[0]!r}, and needs one for each class; "
                f"if they lie below it, call: synaug init {path / folders[0]}"
            )
        return _split_block("folder", path, {}, notes)
    if len(splits) == 1:
        path = path / splits["train"]
        splits = {}
    for name in sorted(set(folders) - set(splits.values())) if splits else ():
        notes.append(f"folder {name!r} is no split and is passed over")
    return _split_block("folder", path, splits, notes)


def _known_splits(names: list[str]) -> dict[str, str]:
    """train, test, validation -> which of `names` it is."""
    found = {}
    for kind, usual in {"train": TRAIN, "test": TEST, "validation": VALIDATION}.items():
        own = [name for name in names if name.lower() in usual]
        if own:
            found[kind] = own[0]
    return found


def _split_block(source: str, path: Path, splits: dict[str, str], notes: list[str], **columns) -> dict:
    """The block `dataset` with the splits that there are, and else those to make."""
    block = {"source": source, "path": str(path), **columns}
    if "train" not in splits or len(splits) == 1:
        notes.append(f"no test split: {TEST_SHARE:.0%} of every class are held out, copies of an image on one side")
        block.pop("split_column", None)
        return block | {"make_splits": {"test": TEST_SHARE}}
    if "test" not in splits:
        notes.append(f"no split 'test': {splits['validation']!r} is tested on")
        splits = {"train": splits["train"], "test": splits["validation"]}
    return block | {f"{kind}_split": name for kind, name in splits.items() if kind == "validation" or name != kind}


def _table_block(
    path: Path, image: str | None, label: str | None, split: str | None, groups: list[str], notes: list[str]
) -> dict:
    """The block `dataset` of a table, or of a folder of Parquet tables."""
    if path.is_file() and path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: is no table that can be read; give one of {', '.join(TABLES)}, or a folder of images")
    tables = files(Dataset(source="table", path=str(path), image_size=32))
    file = tables[0]
    schema = pq_schema(file)
    names = schema.names
    for option, name in {"image": image, "label": label, "split": split, **{f"group {g}": g for g in groups}}.items():
        if name and name not in names:
            raise UserError(f"{file}: has no column {name!r} (there: {', '.join(names)}); change --{option.split()[0]}")
    inside = [one.name for one in schema if pa.types.is_binary(one.type) or pa.types.is_struct(one.type)]
    image = image or next(iter(inside), None) or _usual(names, IMAGE_COLUMNS)
    label = label or _usual([name for name in names if name != image], LABEL_COLUMNS)
    for option, name, what in (("image", image, "the images or their paths"), ("label", label, "the class")):
        if name is None:
            raise UserError(f"{file}: which column holds {what}? Say it by --{option} (there: {', '.join(names)})")
    split = split or _usual(names, SPLIT_COLUMNS)
    values = []
    for one in tables if split else ():
        values += open_table(one, [split]).column(split).unique().to_pylist()
    splits = _known_splits(sorted({str(value) for value in values}))
    said = {"image": image, "label": label} | ({"split": split} if splits else {})
    notes.append("columns: " + ", ".join(f"{name} is the {what}" for what, name in said.items()))
    rest = [name for name in names if name not in (image, label, split, *groups)]
    if rest and not groups:
        notes.append(f"other columns: {', '.join(rest)}; one that says what must not matter is --group")
    columns = {f"{what}_column": name for what, name in said.items() if name != what}
    return _split_block("table", path, splits, notes, **columns, **({"group_columns": groups} if groups else {}))


def pq_schema(file: Path) -> pa.Schema:
    """Names and types of the columns of a table. Raises UserError if it cannot be read."""
    if file.suffix.lower() != ".parquet":
        return open_table(file).schema
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({error})") from None


def _usual(names: list[str], usual: tuple[str, ...]) -> str | None:
    lower = {name.lower().replace(" ", "_"): name for name in reversed(names)}
    return next((lower[name] for name in usual if name in lower), None)


def _look_at_colours(found: Found) -> None:
    """Decode some of the images, evenly over the data set."""
    usable = found.rows[found.rows["usable"]].reset_index(drop=True)
    some = usable.iloc[np.unique(np.linspace(0, len(usable) - 1, LOOKED_AT).astype(int))]
    for _, images in read_encoded(some):
        for data in images:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            found.modes[image.mode] += 1
            found.transparent += image.has_transparency_data
            found.animated += getattr(image, "n_frames", 1) > 1
            if found.grey:
                small = open_image(data, "rgb", (64, 64))
                small.thumbnail((64, 64))
                found.grey = np.ptp(np.asarray(small).astype(int), axis=2).max() <= _SAME
