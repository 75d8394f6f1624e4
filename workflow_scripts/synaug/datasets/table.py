"""Images listed in a table (Parquet, CSV or JSON lines), one row per image: as a path, or embedded (Parquet only)."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.images.tables import ImageTable, encoded_images, holds_images
from synaug.runtime.errors import UserError

_TEXT = (".csv", ".jsonl", ".ndjson")


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per row of the table, as `folder.find` does, with the values of `group_columns` as `attributes`.

    Raises UserError for a missing table or column, and for a row without class, group or split.
    """
    root = Path(dataset.path)
    inside = (root if root.is_dir() else root.parent).resolve()
    for file in files(dataset):
        table, images, embedded = _read(file, dataset)
        named = [dataset.label_column, *([] if dataset.unsplit else [dataset.split_column]), *dataset.group_columns]
        columns = {name: _restore_integers(table.column(name).to_pandas()) for name in named}
        for name, values in columns.items():
            empty = values.isna() | (values.astype("str").str.strip() == "")
            if empty.any():
                raise UserError(
                    f"{file}: row {int(empty.to_numpy().argmax())} has no {name}; fill it in or remove the row"
                )
        splits = [dataset.train_split] * table.num_rows if dataset.unsplit else columns[dataset.split_column]
        groups = zip(*(columns[name] for name in dataset.group_columns), strict=True)
        groups = groups if dataset.group_columns else [()] * table.num_rows
        values = zip(images, columns[dataset.label_column], splits, groups, strict=True)
        for row, (image, label, split, group) in enumerate(values):
            listed = {"split": str(split), "label_name": str(label), "path": str(file), "row": row}
            listed["attributes"] = [str(value) for value in group]
            if embedded:
                yield listed | {"column": dataset.image_column, "data": image or b""}
            elif not (image or "").strip():
                yield listed | {"data": None, "reason": "the row names no file"}
            else:
                path = file.parent / image
                yield listed | {"path": str(path), "row": None, "data": path if is_inside(path, inside) else None}


def files(dataset: Dataset) -> list[Path]:
    """The table, or all tables of the folder. Raises UserError if there are none."""
    root = Path(dataset.path)
    if root.is_dir():
        tables = sorted(root.glob("*.parquet"))
        if not tables:
            raise UserError(f"dataset.path: {root} holds no *.parquet; for a folder of image files use source: folder")
        return tables
    if not root.is_file():
        raise UserError(f"dataset.path: {root} does not exist; give a table (.parquet, .csv) or a folder of *.parquet")
    return [root]


def _embedded_images(file: Path, name: str) -> Iterator[bytes | None]:
    """The encoded images in the column `name`, some megabytes at a time."""
    with ImageTable(file) as table:
        for _, batch in table.stream([name]):
            yield from encoded_images(batch.column(name))


def _restore_integers(values: pd.Series) -> pd.Series:
    """pandas reads a column of integers with a missing one as floats: class 7 should not become 7.0."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        return values.astype("Int64")
    return values


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path`, with its links resolved, lies below `folder` (resolved)."""
    try:
        return path.resolve().is_relative_to(folder)
    except ValueError:  # a NUL byte in the name
        return False


def open_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a table; CSV and JSON lines entirely as text. columns: read only these of a Parquet file.

    Raises UserError if the file cannot be read.
    """
    try:
        if file.suffix.lower() == ".csv":
            # As text, because a label 007 is not the number 7.
            header = pd.read_csv(file, nrows=0).columns
            types = dict.fromkeys(header, pa.string())
            text = pa_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            return pa_csv.read_csv(file, convert_options=text)
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            return _read_lines(file)
        return pq.read_table(file, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, pd.errors.ParserError, OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as {file.suffix or 'Parquet'} ({error})") from None


def _read(file: Path, dataset: Dataset) -> tuple[pa.Table, Iterable[str | bytes | None], bool]:
    """The table without its images, its images or their paths, and whether they are images."""
    wanted = {
        "dataset.image_column": dataset.image_column,
        "dataset.label_column": dataset.label_column,
        **({} if dataset.unsplit else {"dataset.split_column": dataset.split_column}),
        **{f"dataset.group_columns[{i}]": name for i, name in enumerate(dataset.group_columns)},
    }
    name_of_image = dataset.image_column
    text = open_table(file) if file.suffix.lower() in _TEXT else None
    schema = table_schema(file) if text is None else text.schema
    embedded = schema.names.count(name_of_image) == 1 and holds_images(schema.field(name_of_image).type)
    for key, name in wanted.items():
        count = schema.names.count(name)
        if not count:
            present = ", ".join(schema.names)
            instead = ", or have splits made: dataset.make_splits" if key == "dataset.split_column" else ""
            raise UserError(f"{file}: has no column {name!r} (its columns: {present}); set {key}{instead}")
        if count > 1:
            raise UserError(f"{file}: has {count} columns {name!r}; rename all but one")
    read = [name for name in dict.fromkeys(wanted.values()) if not (embedded and name == name_of_image)]
    table = (open_table(file, read) if text is None else text).select(read)
    if embedded:
        return table, _embedded_images(file, name_of_image), True
    data_type = schema.field(name_of_image).type
    if not (pa.types.is_string(data_type) or pa.types.is_large_string(data_type)):
        raise UserError(
            f"{file}: column {name_of_image!r} holds {data_type}, not images or paths; set dataset.image_column"
        )
    return table, table.column(name_of_image).to_pylist(), False


def table_schema(file: Path) -> pa.Schema:
    """Names and types of the columns of a table. Raises UserError if the file cannot be read."""
    if file.suffix.lower() in _TEXT:
        return open_table(file).schema
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({error})") from None


def _read_lines(file: Path) -> pa.Table:
    """JSON lines as text: a column for each key of any line. Numbers stay as written; null and NaN are missing."""
    rows = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_float=str, parse_int=str, parse_constant=lambda _: None)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{file}: line {number}: is not JSON ({error.msg}); each line should be an object"
                ) from None
            if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
                raise UserError(
                    f'{file}: line {number}: should be one object of texts and numbers, as {{"label": "cat"}}'
                )
            rows.append({key: None if value is None else str(value) for key, value in row.items()})
    names = dict.fromkeys(key for row in rows for key in row)
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})
