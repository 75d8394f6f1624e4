"""Hugging Face data sets on disk, read without the library `datasets`.

Either the Arrow files that its `save_to_disk` writes, or Parquet files as on the Hub (<split>-00000-of-00003.parquet).
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from synaug.config import Dataset
from synaug.images.tables import ImageTable
from synaug.runtime.errors import UserError


def files(dataset: Dataset) -> list[Path]:
    """The files of the splits that are used. Raises UserError if there are none."""
    root = Path(dataset.path)
    present = sorted(root.rglob("data-*.arrow")) or sorted(root.rglob("*.parquet")) if root.is_dir() else []
    if not present:
        raise UserError(
            f"dataset.path: {root} holds neither data-*.arrow nor *.parquet; give the folder that "
            "`load_dataset(...).save_to_disk(folder)` wrote, or a folder of Parquet files from the Hub"
        )
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


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` and `data` (bytes) of every row. Numbers of classes become their names.

    Raises UserError for an unreadable file, a missing column, and a row without class or group.
    """
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
                images = images.field("bytes") if pa.types.is_struct(images.type) else images
                columns = [_names(batch.column(name).to_pylist(), names.get(name)) for name in label_and_groups]
                # One by one: a batch of an Arrow file may hold gigabytes, which are not in memory yet.
                for image, *values in zip(images, *columns, strict=True):
                    for name, value in zip(label_and_groups, values, strict=True):
                        if value is None or not value.strip():
                            raise UserError(f"{file}: row {row} has no {name}; fill it in or remove the row")
                    data = image.as_py() or b""
                    yield {"split": split, "label_name": values[0], "attributes": values[1:], "data": data}
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


def _names(values: list, names: list[str] | None) -> list[str | None]:
    """`values` as text, None for a missing one. names: of the classes, if the values are numbers of classes.

    `datasets` writes -1 for an unknown class.
    """
    if names is None:
        return [None if value is None or value != value else str(value) for value in values]
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
