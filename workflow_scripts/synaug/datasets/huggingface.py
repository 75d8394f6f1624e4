"""Hugging Face data sets on disk, read without the library `datasets`.

Either the Arrow files that its `save_to_disk` writes, or Parquet files as on the Hub (<split>-00000-of-00003.parquet).
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from synaug.config import Dataset
from synaug.datasets.columns import is_text, texts
from synaug.datasets.tree import Boundary, check_holds_no_results, files_below, named_file, read_image_file
from synaug.images.tables import ImageTable, is_binary
from synaug.runtime.errors import UserError, short_text

log = logging.getLogger(__name__)
# The name of a file on the Hub: <split>-00000-of-00003.parquet.
_OF_HUB = re.compile(r"(.+)-(\d{5})-of-(\d{5})")


def files(dataset: Dataset) -> list[Path]:
    """The files of the splits that are used.

    Raises UserError if there are none, if `path` holds several data sets or configurations, for files of several
    downloads or of an incomplete one, and if `path` holds the results of the workflow, which are Parquet too.
    """
    root = Path(dataset.path)
    saved = _saved_files(root) if root.is_dir() else []
    present = saved or (_files_of_hub(root) if root.is_dir() else [])
    if not present:
        raise UserError(
            f"dataset.path: {root} holds neither data-*.arrow nor *.parquet; give the folder that "
            "`load_dataset(...).save_to_disk(folder)` wrote, or a folder of Parquet files from the Hub"
        )
    if not saved:
        check_holds_no_results(root)
    if dataset.unsplit:
        return present
    for split in dataset.given_splits:
        if not any(_split(file, dataset) == split for file in present):
            names = ", ".join(sorted({_split(file, dataset) for file in present})[:8])
            raise UserError(
                f"dataset.path: {root} has no split {split!r} (its splits: {names}); "
                "set dataset.{train,test,validation}_split, or have splits made: dataset.make_splits"
            )
    return [file for file in present if _split(file, dataset) in dataset.given_splits]


def _saved_files(root: Path) -> list[Path]:
    """The Arrow files that `save_to_disk` wrote, as its state.json lists them: an earlier one may have left others."""
    saved = [file.parent for file in files_below(root, "dataset_dict.json")]
    if len(saved) > 1:
        _ask_for_one(root, saved)
    if saved and saved[0] != root:
        raise UserError(f"dataset.path: {root} holds a data set in {saved[0].relative_to(root)}; give {saved[0]}")
    files = []
    for folder in sorted({file.parent for file in files_below(root, "data-*.arrow")}):
        state = folder / "state.json"
        if not state.is_file():
            files += sorted(folder.glob("data-*.arrow"))
            continue
        try:
            names = [str(entry["filename"]) for entry in json.loads(state.read_bytes())["_data_files"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{state}: cannot be read ({short_text(error)}); save the data set again, or delete this file"
            ) from None
        if gone := [name for name in names if Path(name).name != name or not (folder / name).is_file()]:
            raise UserError(f"{state}: lists {gone[0]!r}, which is not in its folder; save the data set again")
        files += [folder / name for name in names]
    return sorted(files)


def _files_of_hub(root: Path) -> list[Path]:
    """The Parquet files. On the Hub they are `<split>-00000-of-00003.parquet`, or `<split>/0000.parquet`."""
    files = files_below(root, "*.parquet")
    folders: dict[str, set[Path]] = {}  # split -> where it is
    numbers: dict[tuple[Path, str], set[str]] = {}  # folder and split -> how many files it has, by their names
    for file in files:
        if match := _OF_HUB.fullmatch(file.stem):
            folders.setdefault(match[1], set()).add(file.parent)
            numbers.setdefault((file.parent, match[1]), set()).add(match[3])
        elif file.stem.isdecimal() and file.parent != root:
            folders.setdefault(file.parent.name, set()).add(file.parent.parent)
    for split_folders in folders.values():
        if len(split_folders) > 1:
            _ask_for_one(root, sorted(split_folders))
    for (folder, split), of_split in numbers.items():
        if len(of_split) > 1:
            first, second = sorted(of_split)[:2]
            raise UserError(
                f"{folder}: holds files of two downloads, {split}-*-of-{first} and {split}-*-of-{second}; delete those "
                "of the older one"
            )
    return files


def _ask_for_one(root: Path, folders: list[Path]) -> None:
    """Raise UserError, with the folders of several data sets or configurations."""
    names = ", ".join(str(folder.relative_to(root)) for folder in folders[:8])
    raise UserError(
        f"dataset.path: {root} holds several data sets or configurations ({names}); give the folder of one, such as "
        f"{folders[0]}"
    )


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes`, `data` (bytes) and `reason` (None: it may be usable) of every row.

    Numbers of classes become their names.

    Raises UserError for an unreadable file, a missing column and a row without class or group.
    """
    boundary = Boundary(Path(dataset.path))
    label_and_groups = [dataset.label_column, *dataset.group_columns]
    wanted = [("image_column", dataset.image_column), ("label_column", dataset.label_column)]
    wanted += [("group_columns", name) for name in dataset.group_columns]
    for file in files(dataset):
        split, row = dataset.train_split if dataset.unsplit else _split(file, dataset), 0
        try:
            for batch, names in _batches(file):
                for key, name in wanted:
                    if name not in batch.schema.names:
                        present = ", ".join(batch.schema.names)
                        raise UserError(f"{file}: has no column {name!r} (its columns: {present}); set dataset.{key}")
                images = batch.column(dataset.image_column)
                columns = [
                    _names(batch.column(name), names.get(name), f"{file}: column {name!r}", row)
                    for name in label_and_groups
                ]
                # One by one: a batch of an Arrow file may hold gigabytes, which are not in memory yet.
                for image, *values in zip(images, *columns, strict=True):
                    for name, value in zip(label_and_groups, values, strict=True):
                        if value is None or not value.strip():
                            raise UserError(f"{file}: row {row} has no {name}; fill it in or remove the row")
                    data, reason = _encoded(image.as_py(), file, row, boundary, dataset.max_megapixels)
                    found = {"split": split, "label_name": values[0], "attributes": values[1:]}
                    yield found | {"data": data, "reason": reason}
                    row += 1
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error}); save or download it again") from None


def _split(file: Path, dataset: Dataset) -> str:
    """The split in the path: <split>/data-00000-of-00001.arrow, <split>-00000-of-00001.parquet, <split>/*.parquet."""
    parts = file.relative_to(dataset.path).parts
    if file.suffix == ".arrow":
        return parts[0] if len(parts) > 1 else "train"
    stem = file.stem.split("-")[0]
    if stem in dataset.splits or len(parts) == 1 or parts[-2] == "data":
        return stem
    return parts[-2]


def schema(file: Path) -> pa.Schema:
    """Names and types of the columns. Raises UserError if the file cannot be read."""
    try:
        for batch, _ in _batches(file):  # the first: a file without rows is of no use
            return batch.schema
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error}); save or download it again") from None
    raise UserError(f"{file}: holds no rows; save or download it again")


def _batches(file: Path) -> Iterator[tuple[pa.RecordBatch, dict[str, list[str]]]]:
    """Yield the file in batches, each with the class names of the columns that hold numbers of classes."""
    if file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            names = _class_names(stream.schema)
            for batch in stream:
                yield batch, names
    else:
        try:
            with ImageTable(file) as table:
                names = _class_names(table.schema)
                for _, batch in table.stream(table.schema.names):
                    yield batch, names
        except UserError as error:
            raise UserError(error.problem, advice="save or download it again") from None


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its classes, which `datasets` stores in the metadata of the schema."""
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    return {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("names")
    }


def _names(column: pa.Array, names: list[str] | None, where: str, first: int) -> list[str | None]:
    """The values of `column` as text, None for a missing one. names: of the classes, if it holds numbers of classes.

    `datasets` writes -1 for an unknown class. where: file and column, and first: row of the first value, for errors.
    """
    if is_text(column.type) or is_binary(column.type) or pa.types.is_nested(column.type):
        return texts(column, where, first)
    values = column.to_pylist()
    if names is None:
        return [None if value is None or value != value else str(value) for value in values]
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]


def _encoded(
    image: dict | bytes | None, file: Path, row: int, boundary: Boundary, max_megapixels: float
) -> tuple[bytes, str | None]:
    """The encoded image in a value of the image column: bytes, a struct with bytes, or one with the path of a file.

    And the reason, with a warning, if the file cannot be read or lies outside the data set's folder.
    """
    if not isinstance(image, dict):
        return image or b"", None
    if image.get("bytes") is not None or not image.get("path"):
        return image.get("bytes") or b"", None
    listed = boundary.row(named_file(file.parent, image["path"]))
    path = listed["data"]
    data, reason = (b"", listed["reason"]) if path is None else read_image_file(path, max_megapixels)
    if reason:
        log.warning("%s: row %d: %s %s", file, row, image["path"], reason)
    return data, reason
