"""Detect what a folder or table of images holds: source, columns, splits, colours (for `synaug init`)."""

import io
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image
from pydantic import ValidationError

from synaug.config import Dataset
from synaug.config.errors import describe
from synaug.datasets import PACKED, as_table, huggingface, index_dataset, input_files, write_table
from synaug.datasets.columns import check_columns, texts
from synaug.datasets.folder import TABLES, looks_like_image
from synaug.datasets.table import files, open_table, table_schema
from synaug.datasets.tree import is_skipped
from synaug.images.codec import FORMATS, open_image, uses_few_bits
from synaug.images.store import read_encoded
from synaug.images.tables import holds_images
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

# Usual names of the splits, in lower case.
TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation", "dev")
# Shares of every class that become a split which the data set does not have.
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.15
# Usual names of the columns, the most likely first.
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
COLOR_SAMPLE = 200  # images that are decoded to detect colours
_GREY_TOLERANCE = 8  # of 255: by how much the channels of a grey image may differ if it is stored in colour (JPEG)


@dataclass
class DetectedDataset:
    """A data set as it was detected. Counts of images are those of a sample of COLOR_SAMPLE images."""

    dataset: dict  # block of the config, without image_size and color
    rows: pd.DataFrame  # of `index_dataset`
    modes: Counter = field(default_factory=Counter)  # mode of Pillow -> images
    transparent: int = 0  # images with transparent pixels
    animated: int = 0  # images with several frames
    few_bits: int = 0  # images that are nearly black, see `uses_few_bits`
    grey: bool = True  # whether all images are grey
    notes: list[str] = field(default_factory=list)  # decisions, one line each

    @property
    def searched(self) -> bool:
        """Whether faults were looked for: `rows` have the columns of `find_faults`."""
        return "label_quality" in self.rows


def detect(
    path: Path,
    image: str | None,
    label: str | None,
    split: str | None,
    groups: list[str],
    given: dict[str, bool] | None = None,
    examine: Callable[[DetectedDataset], None] | None = None,
    source: str | None = None,
) -> DetectedDataset:
    """Detect classes, splits, sizes, colours and faults of the images at `path`, a folder or a table.

    image, label, split, groups: names of columns of a table; None: detected by their usual names. given: more keys of
    the block `dataset`. examine: is called with the result while the images can be read where its rows say, those of
    tars too. source: that of the config, if it is known.
    Raises UserError, with what to do, if the workflow cannot use the data.
    """
    notes: list[str] = []
    source = source or _source(path)
    if source == "folder" and (image or label or split or groups):
        raise UserError(f"{path}: is a folder of images, which has no columns; leave --image, --label, ... out")
    check_columns_are_read(path, source, image, split)
    if source == "folder":
        block = _folder_block(path, notes)
    elif source == "table":
        block = _table_block(path, image, label, split, groups, notes)
    else:
        block = _packed_block(source, path, image, label, groups, notes)
    block |= given or {}
    input_files(_dataset(block))  # as at the start of the workflow: the current folder may lie in the data set
    with tempfile.TemporaryDirectory() as folder:
        rows = _index(block, notes, folder)
        detected = DetectedDataset(block, rows, notes=notes)
        _detect_colors(detected)
        if examine:
            examine(detected)
    if source in PACKED:
        detected.rows["path"] = str(path) + ", image " + detected.rows["row"].astype("str")
        detected.rows["row"] = pd.NA
    return detected


def check_columns_are_read(path: Path, source: str, image: str | None, split: str | None) -> None:
    """Raise UserError if a column is named that the `source` of the data at `path` does not read."""
    why = {
        "webdataset": "is a data set in tars: an image is a file of a sample, and splits are in the names of the tars",
        "huggingface": "is a data set of the library datasets, whose splits are in the names of its files and folders",
    }
    for option, name, sources in (("image", image, ["webdataset"]), ("split", split, ["webdataset", "huggingface"])):
        if name and source in sources:
            raise UserError(f"--{option} is for a table, and {path} {why[source]}", advice="leave it out")


def _dataset(block: dict) -> Dataset:
    """The block `dataset` of the config. Raises UserError for what it does not allow, such as a column's name."""
    try:
        return Dataset(image_size=32, **block)
    except ValidationError as error:
        raise UserError(f"{block['path']}: {describe(error.errors(), block, Dataset)}") from None


def _index(block: dict, notes: list[str], folder: str) -> pd.DataFrame:
    """The rows of `index_dataset`. `block` loses the validation split if it cannot be made: every class is too small.

    folder: for the table of a packed data set.
    """
    dataset = _dataset(block)
    if dataset.source in PACKED:
        table = Path(folder) / "images.parquet"
        with space_for(table):
            write_table(dataset, table)

    def index() -> pd.DataFrame:
        dataset = _dataset(block)
        return index_dataset(as_table(dataset, f"{folder}/images.parquet") if dataset.source in PACKED else dataset)

    made = dataset.validation_split in dataset.make_splits
    try:
        rows = index()
    except UserError:
        if not made:
            raise
        # No validation image, or another fault, which is raised again.
        del block["validation_split"], block["make_splits"][dataset.validation_split]
        if not block["make_splits"]:
            del block["make_splits"]
        rows = index()
        notes.append("every class is too small for a validation image, so that no recipe can be chosen")
        return rows
    if made:
        notes.append(f"no validation split: {VALIDATION_SHARE:.0%} of every class become one, to choose a recipe by")
    return rows


def _source(path: Path) -> str:
    """The `dataset.source` that reads the data at `path`. Raises UserError if it does not exist."""
    if not path.exists():
        raise UserError(f"{path}: does not exist; give a folder <class>/<image>, or a table ({', '.join(TABLES)})")
    if path.is_file():
        return "webdataset" if path.suffix.lower() == ".tar" else "table"
    check_regular_file(path)
    saved = ("dataset_dict.json", "dataset_info.json", "*/dataset_dict.json")
    # On the Hub the split is in the names of the files, not in a column. A folder may have one below for each language.
    configurations = any(path.glob("*/*-[0-9]*-of-[0-9]*.parquet")) and not any(path.glob("*.parquet"))
    if configurations or any(any(path.glob(name)) for name in saved):
        return "huggingface"
    tables = [file.stem for file in [*path.glob("*.parquet"), *path.glob("data/*.parquet")]]
    if tables and not set(tables) <= {file.stem for file in path.glob("*.tar")}:  # img2dataset writes a table per tar
        return "huggingface" if all(re.search(r"-\d{5}-of-\d{5}", stem) for stem in tables) else "table"
    return "webdataset" if any(path.glob("*.tar")) or any(path.glob("*/*.tar")) else "folder"


def _packed_block(
    source: str, path: Path, image: str | None, label: str | None, groups: list[str], notes: list[str]
) -> dict:
    """The block `dataset` of tars, or of a Hugging Face data set on disk."""
    packed_files = PACKED[source].files(
        Dataset(source=source, path=str(path), image_size=32, make_splits={"test": TEST_SHARE})
    )
    names = [file.relative_to(path).with_suffix("") if path.is_dir() else Path(file.stem) for file in packed_files]
    # train-00000-of-00003, train_0001, and folders with such names.
    splits = _known_splits(sorted({re.split(r"[-_.\d]", part)[0] for name in names for part in name.parts}))
    columns = {"label_column": label} if label else {}
    if source == "huggingface":
        schema = huggingface.schema(packed_files[0])
        image = image or next(iter(_embedded_images(schema)), None)
        label = label or _usual([name for name in schema.names if name != image], LABEL_COLUMNS)
        for option, name, content in (("image", image, "the images"), ("label", label, "the class")):
            if name is None:
                raise UserError(
                    f"{path}: which column holds {content}? Name it with --{option} (its columns: "
                    f"{', '.join(schema.names)})"
                )
        notes.append(f"columns: {image} is the image, {label} is the label")
        columns = {"image_column": image, "label_column": label}
    columns = {key: name for key, name in columns.items() if name != key.removesuffix("_column")}
    block = _split_block(source, path, splits, notes, **columns, **({"group_columns": groups} if groups else {}))
    read = set(PACKED[source].files(_dataset(block)))
    if skipped := [file for file in packed_files if file not in read]:
        notes.append(f"files of no split that is used are skipped ({len(skipped):,}), such as {skipped[0]}")
    return block


def _folder_block(path: Path, notes: list[str]) -> dict:
    """The block `dataset` of a folder of images."""
    entries = sorted(entry for entry in path.iterdir() if not is_skipped(entry.name))
    folders = [entry.name for entry in entries if entry.is_dir()]
    tables = [entry for entry in entries if entry.suffix.lower() in TABLES]
    if len(folders) < 2 and tables:
        raise UserError(
            f"{path}: holds the table {tables[0].name}; if it lists the images, call: synaug init {tables[0]}"
        )
    if not folders:
        raise UserError(
            f"{path}: holds no folders; put the images into <class>/, or list them with their labels in a table"
        )
    splits = _split_folders(path, folders, notes)
    if not splits:
        if len(folders) == 1:
            raise UserError(
                f"{path}: holds one folder, {folders[0]!r}, and needs one for each class; "
                f"if the classes are below it, call: synaug init {path / folders[0]}"
            )
        _note_other_files(path, notes)
        _note_folders_in_classes([path / folder for folder in folders], notes)
        return _split_block("folder", path, {}, notes)
    for name in sorted(set(folders) - set(splits.values())):
        notes.append(f"folder {name!r} is not a split and is skipped (files: {_count_files(path / name):,})")
    parents = [path / name for name in splits.values()]
    for folder in (path, *parents):
        _note_other_files(folder, notes)
    _note_folders_in_classes([parent / name for parent in parents for name in _folders_in(parent)], notes)
    if len(splits) == 1:
        path = path / splits["train"]
        splits = {}
    return _split_block("folder", path, splits, notes)


def _split_folders(path: Path, folders: list[str], notes: list[str]) -> dict[str, str]:
    """train, test, validation -> its folder among `folders`; empty if all of them are classes.

    A class may have the name of a split: then a folder beside it that is no split holds images, as a class does.
    Raises UserError if classes and splits lie beside each other, or if only the training split is missing.
    """
    splits = _known_splits(folders)
    others = [name for name in folders if name not in splits.values()]
    with_images = {name for name in folders if _holds_images(path / name)}
    below = {name: set(_folders_in(path / name)) for name in folders}
    classes = [name for name in others if name in with_images]
    train = splits.get("train")
    in_splits = [name for name in splits.values() if name not in with_images]  # splits that hold classes
    shared = any(below[split] & below[name] for split in in_splits for name in others)
    if train in in_splits and any(below[name] & below[train] for name in in_splits if name != train):
        classes = []  # two splits with the same classes: the others are neither split nor class
    elif train is None and (shared or len(in_splits) == len(folders)):
        raise UserError(
            f"{path}: holds the split {in_splits[0]!r} and no training split; call the folder of the training images "
            "'train'"
        )
    for name in in_splits:
        if both := sorted(below[name] & set(classes)):
            raise UserError(
                f"{path}: holds the class {both[0]!r} both beside and in the split {name!r}; move the training images "
                "to train/<class>/"
            )
    if train is None or classes or (train in with_images and others):
        for name in splits.values():
            notes.append(f"folder {name!r} is taken for a class and not for a split, as the folders beside it are")
        return {}
    for split, name in list(splits.items()):
        if name in with_images and train not in with_images:
            del splits[split]
            notes.append(f"folder {name!r} has images without classes, and cannot be a split")
    return splits


def _folders_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not is_skipped(entry.name)]


def _holds_images(folder: Path) -> bool:
    """Whether a folder itself holds an image."""
    files = (entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return any(map(looks_like_image, files))


def _count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _note_other_files(folder: Path, notes: list[str]) -> None:
    """Note the files beside the class folders, which are not read."""
    others = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if others:
        table = next((entry for entry in others if entry.suffix.lower() in TABLES), None)
        instead = f"; if {table.name} lists the images, call: synaug init {table}" if table else ""
        notes.append(f"files in {folder} itself are skipped ({len(others):,}), such as {others[0].name}{instead}")


def _note_folders_in_classes(classes: list[Path], notes: list[str]) -> None:
    """Note the folders below class folders, which make no difference."""
    if below := sorted({name for folder in classes for name in _folders_in(folder)}):
        named = ", ".join(map(repr, below[:3])) + (f" and {len(below) - 3} more" if len(below) > 3 else "")
        notes.append(f"the class folders hold folders ({named}): all images below a class folder are of this class")


def _known_splits(names: list[str]) -> dict[str, str]:
    """train, test, validation -> its name among `names`."""
    splits = {}
    for split, usual in {"train": TRAIN, "test": TEST, "validation": VALIDATION}.items():
        matches = [name for name in names if name.lower() in usual]
        if matches:
            splits[split] = matches[0]
    return splits


def _used_splits(splits: dict[str, str]) -> dict[str, str]:
    """`splits` (see `_known_splits`) if they are of use: a training split, and another one."""
    return splits if "train" in splits and len(splits) > 1 else {}


def _split_block(source: str, path: Path, splits: dict[str, str], notes: list[str], **columns) -> dict:
    """The block `dataset` with the splits of the data set (see `_known_splits`), and `make_splits` for the others."""
    block = {"source": source, "path": str(path), **columns}
    splits = _used_splits(splits)
    if not splits:
        notes.append(f"no test split: {TEST_SHARE:.0%} of every class become one, near-duplicates stay together")
        block.pop("split_column", None)
        splits, shares = {}, {"test": TEST_SHARE}
    else:
        if "test" not in splits:
            notes.append(f"no split 'test': {splits['validation']!r} is the test split")
            splits = {"train": splits["train"], "test": splits["validation"]}
        shares = {}
    if "validation" not in splits:
        splits = splits | {"validation": "choice" if "validation" in splits.values() else "validation"}
        shares |= {splits["validation"]: VALIDATION_SHARE}
    block |= {f"{split}_split": name for split, name in splits.items() if split == "validation" or name != split}
    return block | ({"make_splits": shares} if shares else {})


def _table_block(
    path: Path, image: str | None, label: str | None, split: str | None, groups: list[str], notes: list[str]
) -> dict:
    """The block `dataset` of a table, or of a folder of Parquet tables."""
    if path.is_file() and path.suffix.lower() not in TABLES:
        raise UserError(f"{path}: is not a readable table; give one of {', '.join(TABLES)}, or a folder of images")
    tables = files(Dataset(source="table", path=str(path), image_size=32))
    file = tables[0]
    schema = table_schema(file)
    names = schema.names
    image = image or next(iter(_embedded_images(schema)), None) or _usual(names, IMAGE_COLUMNS)
    label = label or _usual([name for name in names if name != image], LABEL_COLUMNS)
    for option, name, content in (("image", image, "the images or their paths"), ("label", label, "the class")):
        if name is None:
            raise UserError(
                f"{file}: which column holds {content}? Name it with --{option} (its columns: {', '.join(names)})"
            )
    split = split or _usual(names, SPLIT_COLUMNS)
    options = {image: "image", label: "label", split: "split", **dict.fromkeys(groups, "group")}
    check_columns(str(file), names, {name: f"change --{option}" for name, option in options.items() if name})
    for table in tables[1:] if split else ():
        check_columns(str(table), table_schema(table).names, {split: "add it, or name another with --split"})
    counts: Counter[str] = Counter()
    for table in tables if split else ():
        values = texts(open_table(table, [split]).column(split), f"{table}: column {split!r}")
        counts.update(value for value in values if value is not None)
    splits = _known_splits(sorted(counts))
    used = _used_splits(splits)
    for value in sorted(set(counts) - set(used.values())) if used else ():
        notes.append(f"rows with {split} {value!r} are skipped ({counts[value]:,}): it is not a split that is used")
    if counts and not used:
        notes.append(f"column {split!r} is not used: its values ({', '.join(sorted(counts)[:5])}) name no two splits")
    roles = {"image": image, "label": label} | ({"split": split} if splits else {})
    notes.append("columns: " + ", ".join(f"{name} is the {role}" for role, name in roles.items()))
    rest = [name for name in names if name not in (image, label, split, *groups)]
    if rest and not groups:
        notes.append(
            f"other columns: {', '.join(rest)}; if one holds groups that must not matter, name it with --group"
        )
    columns = {f"{role}_column": name for role, name in roles.items() if name != role}
    return _split_block("table", path, splits, notes, **columns, **({"group_columns": groups} if groups else {}))


def _embedded_images(schema: pa.Schema) -> list[str]:
    """Names of the columns that may hold encoded images, or structs with their paths."""
    return [
        field.name
        for field in schema
        if holds_images(field.type) or (pa.types.is_struct(field.type) and field.type.get_field_index("path") >= 0)
    ]


def _usual(names: list[str], usual: tuple[str, ...]) -> str | None:
    """The first of the `usual` names that is among `names`, whatever its case."""
    normalised = {name.lower().replace(" ", "_"): name for name in reversed(names)}
    return next((normalised[name] for name in usual if name in normalised), None)


def _is_animated(image: Image.Image) -> bool:
    """Whether an image has several frames, as far as its file can tell."""
    try:
        return getattr(image, "n_frames", 1) > 1
    except Exception:  # the first frame is fine, and those after it are not
        return False


def _detect_colors(detected: DetectedDataset) -> None:
    """Decode up to COLOR_SAMPLE images, spread evenly over the data set."""
    usable = detected.rows[detected.rows["usable"]].reset_index(drop=True)
    sample = usable.iloc[np.unique(np.linspace(0, len(usable) - 1, COLOR_SAMPLE).astype(int))]
    for _, images in read_encoded(sample):
        for data in images:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            detected.modes[image.mode] += 1
            detected.transparent += image.has_transparency_data
            detected.animated += _is_animated(image)
            detected.few_bits += uses_few_bits(data)
            if detected.grey:
                small = open_image(data, "rgb", at_least=lambda *_: (64, 64))
                small.thumbnail((64, 64))
                detected.grey = np.ptp(np.asarray(small).astype(int), axis=2).max() <= _GREY_TOLERANCE
