"""Hugging Face data sets on disk: what `save_to_disk` of the library `datasets` writes (Arrow files), or folders of
Parquet as the hub has them (<split>-00000-of-00003.parquet). Read without that library.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.runtime.errors import UserError


def files(dataset: Dataset) -> list[Path]:
    """The files of the splits that are used. Raises UserError if there are none."""
    root = Path(dataset.path)
    there = sorted(root.rglob("data-*.arrow")) or sorted(root.rglob("*.parquet")) if root.is_dir() else []
    if not there:
        raise UserError(
            f"dataset.path: {root} holds neither data-*.arrow nor *.parquet; give the folder that "
            "`load_dataset(...).save_to_disk(folder)` wrote, or one of Parquet files of the hub"
        )
    if dataset.unsplit:
        return there
    given = [split for split in dataset.splits if split not in dataset.make_splits]
    for split in given:
        if not any(_split(file, dataset) == split for file in there):
            names = ", ".join(sorted({_split(file, dataset) for file in there})[:8])
            raise UserError(
                f"dataset.path: {root} has no split {split!r} (there: {names}); "
                "set dataset.{train,test,validation}_split, or have splits made: dataset.make_splits"
            )
    return [file for file in there if _split(file, dataset) in given]


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` and `data` (bytes) of every row. Numbers of classes become their names.

    Raises UserError for a file that cannot be read, a column that is missing, and a row without class or group.
    """
    said = [dataset.label_column, *dataset.group_columns]
    wanted = [("image_column", dataset.image_column), ("label_column", dataset.label_column)]
    wanted += [("group_columns", name) for name in dataset.group_columns]
    for file in files(dataset):
        split, row = dataset.train_split if dataset.unsplit else _split(file, dataset), 0
        try:
            for batch, names in _batches(file):
                for key, name in wanted:
                    if name not in batch.schema.names:
                        there = ", ".join(batch.schema.names)
                        raise UserError(f"{file}: has no column {name!r} (there: {there}); set dataset.{key}")
                images = batch.column(dataset.image_column)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                columns = [_names(batch.column(name).to_pylist(), names.get(name)) for name in said]
                for data, *values in zip(images.to_pylist(), *columns, strict=True):
                    for name, value in zip(said, values, strict=True):
                        if value is None or not value.strip():
                            raise UserError(f"{file}: row {row} has no {name}; fill it in or remove the row")
                    yield {"split": split, "label_name": values[0], "attributes": values[1:], "data": data or b""}
                    row += 1
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise UserError(f"{file}: cannot be read ({error}); save or download it again") from None


def _split(file: Path, dataset: Dataset) -> str:
    """<split>/data-00000-of-00001.arrow; train-00000-of-00001.parquet, or any in a folder of that name."""
    inner = file.relative_to(dataset.path).parts
    if file.suffix == ".arrow":
        return inner[0] if len(inner) > 1 else "train"
    stem = file.stem.split("-")[0]
    return stem if stem in dataset.splits or len(inner) == 1 else inner[-2] if inner[-2] != "data" else stem


def schema(file: Path) -> pa.Schema:
    """Names and types of the columns. Raises UserError if the file cannot be read."""
    try:
        for batch, _ in _batches(file):
            return batch.schema
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error}); save or download it again") from None
    raise UserError(f"{file}: holds no rows; save or download it again")


def _batches(file: Path) -> Iterator[tuple[pa.RecordBatch, dict[str, list[str]]]]:
    """Some rows at a time, and the class names of the columns that hold their numbers."""
    if file.suffix == ".arrow":
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            names = _class_names(stream.schema)
            for batch in stream:
                yield batch, names
    else:
        with pq.ParquetFile(file) as table:
            names = _class_names(table.schema_arrow)
            for batch in table.iter_batches(1024):
                yield batch, names


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of its classes, as `datasets` notes them in the schema."""
    noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = noted.get("info", {}).get("features", {})
    return {name: one["names"] for name, one in features.items() if isinstance(one, dict) and one.get("names")}


def _names(values: list, names: list[str] | None) -> list[str | None]:
    """Texts; -1 is how `datasets` writes a class that is not known."""
    if names is None:
        return [None if value is None or value != value else str(value) for value in values]
    return [names[value] if value is not None and 0 <= value < len(names) else None for value in values]
