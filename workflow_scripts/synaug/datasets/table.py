"""Images listed in a table: Parquet, CSV or JSON lines, a row per image, the image inside (Parquet) or as a path."""

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.images.store import encoded_images
from synaug.runtime.errors import UserError


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row`, `attributes` (values of the group columns) and `data` (the bytes, or the
    path of the file) of every row.

    Raises UserError for a missing table or column, and for a row without class, group or split.
    """
    root = Path(dataset.path)
    inside = (root if root.is_dir() else root.parent).resolve()
    for file in files(dataset):
        table = _read(file, dataset)
        images, embedded = _images(file, table, dataset.image_column)
        said = [dataset.label_column, *([] if dataset.unsplit else [dataset.split_column]), *dataset.group_columns]
        columns = {name: _whole(table.column(name).to_pandas()) for name in said}
        for name, values in columns.items():
            empty = values.isna() | (values.astype("str").str.strip() == "")
            if empty.any():
                raise UserError(
                    f"{file}: row {int(empty.to_numpy().argmax())} has no {name}; fill it in or remove the row"
                )
        train = [dataset.train_split] * len(images)
        splits = train if dataset.unsplit else columns[dataset.split_column]
        groups = zip(*(columns[name] for name in dataset.group_columns), strict=True)
        groups = groups if dataset.group_columns else [()] * len(images)
        values = zip(images, columns[dataset.label_column], splits, groups, strict=True)
        for row, (image, label, split, group) in enumerate(values):
            found = {"split": str(split), "label_name": str(label), "path": str(file), "row": row}
            found["attributes"] = [str(value) for value in group]
            if embedded:
                yield found | {"column": dataset.image_column, "data": image or b""}
            elif not (image or "").strip():
                yield found | {"row": row, "data": None, "reason": "the row names no file"}
            else:
                path = file.parent / image
                yield found | {"path": str(path), "row": None, "data": path if is_inside(path, inside) else None}


def files(dataset: Dataset) -> list[Path]:
    """The table, or all tables of the folder. Raises UserError if there is none."""
    root = Path(dataset.path)
    if root.is_dir():
        tables = sorted(root.glob("*.parquet"))
        if not tables:
            raise UserError(f"dataset.path: {root} holds no *.parquet; for a folder of image files use source: folder")
        return tables
    if not root.is_file():
        raise UserError(f"dataset.path: {root} does not exist; give a table (.parquet, .csv) or a folder of *.parquet")
    return [root]


def _images(file: Path, table: pa.Table, name: str) -> tuple[list, bool]:
    """The values of the column `name`, and whether they are encoded images (and not paths)."""
    column = table.column(name)
    kind = column.type
    if pa.types.is_binary(kind) or (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        return encoded_images(column), True
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.to_pylist(), False
    raise UserError(f"{file}: column {name!r} holds neither images nor paths but {kind}; set dataset.image_column")


def _whole(values: pd.Series) -> pd.Series:
    """Whole numbers that pandas made floats, which it does if one is missing, as what they were: 7, not 7.0."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        return values.astype("Int64")
    return values


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path`, its links followed, lies below `folder` (resolved)."""
    try:
        return path.resolve().is_relative_to(folder)
    except ValueError:  # a NUL byte in the name
        return False


def open_table(file: Path, columns: list[str] | None = None) -> pa.Table:
    """The table in `file`, of CSV and JSON lines all as text. columns: of Parquet, only these. Raises UserError."""
    try:
        if file.suffix.lower() == ".csv":
            # Everything as text: a label 007 is not the number 7.
            header = pd.read_csv(file, nrows=0).columns
            types = dict.fromkeys(header, pa.string())
            text = pa_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
            return pa_csv.read_csv(file, convert_options=text)
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            return _read_lines(file)
        return pq.read_table(file, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, pd.errors.ParserError, OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read as {file.suffix or 'Parquet'} ({error})") from None


def _read(file: Path, dataset: Dataset) -> pa.Table:
    wanted = {
        "dataset.image_column": dataset.image_column,
        "dataset.label_column": dataset.label_column,
        **({} if dataset.unsplit else {"dataset.split_column": dataset.split_column}),
        **{f"dataset.group_columns[{i}]": name for i, name in enumerate(dataset.group_columns)},
    }
    table = open_table(file)
    for key, name in wanted.items():
        if key == "dataset.split_column" and name not in table.column_names:
            there = ", ".join(table.column_names)
            raise UserError(
                f"{file}: has no column {name!r} (there: {there}); set {key}, or have splits made: dataset.make_splits"
            )
        if table.column_names.count(name) > 1:
            raise UserError(f"{file}: has {table.column_names.count(name)} columns {name!r}; rename all but one")
        if name not in table.column_names:
            raise UserError(f"{file}: has no column {name!r} (there: {', '.join(table.column_names)}); set {key}")
    return table.select(list(dict.fromkeys(wanted.values())))


def _read_lines(file: Path) -> pa.Table:
    """JSON lines as text: a column for every key of any line; a number as it is written, null and NaN as nothing."""
    rows = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line, parse_float=str, parse_int=str, parse_constant=lambda _: None)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{file}: line {number}: is no JSON ({error.msg}); each line should be an object"
                ) from None
            if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
                raise UserError(
                    f'{file}: line {number}: should be one object of texts and numbers, as {{"label": "cat"}}'
                )
            rows.append({key: None if value is None else str(value) for key, value in row.items()})
    names = dict.fromkeys(key for row in rows for key in row)
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})
