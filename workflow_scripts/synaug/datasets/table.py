"""Images listed in a table (Parquet, CSV or JSON lines), one row per image: as a path, or embedded (Parquet only)."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets.columns import check_columns, check_separator, is_text, not_utf8, texts
from synaug.datasets.conversion import REASON
from synaug.datasets.tree import Boundary, named_file
from synaug.images.tables import ImageTable, encoded_images, holds_images
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file
from synaug.runtime.shown_text import from_csv_cell

_TEXT_FILES = (".csv", ".jsonl", ".ndjson")


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per row of the table, as `folder.find` does, with the values of `group_columns` as `attributes`.

    Raises UserError for a missing table or column, and for a row without class, group or split.
    """
    root = Path(dataset.path)
    boundary = Boundary(root if root.is_dir() else root.parent, dataset.follow_links)
    for file in files(dataset):
        table, image_type = _read(file, dataset)
        named = [dataset.label_column, *([] if dataset.unsplit else [dataset.split_column]), *dataset.group_columns]
        columns = {name: texts(table.column(name), f"{file}: column {name!r}") for name in named}
        if file.suffix.lower() == ".csv":  # `synaug export` puts an apostrophe before =, +, - and @
            columns = {
                name: [value if value is None else from_csv_cell(value) for value in values]
                for name, values in columns.items()
            }
        for name, values in columns.items():
            empty = next((row for row, value in enumerate(values) if value is None or not value.strip()), None)
            if empty is not None:
                raise UserError(
                    f"{file}: row {empty} has no {name} (the first row below a header is 0); fill it in or remove it"
                )
        splits = [dataset.train_split] * table.num_rows if dataset.unsplit else columns[dataset.split_column]
        groups = zip(*(columns[name] for name in dataset.group_columns), strict=True)
        groups = groups if dataset.group_columns else [()] * table.num_rows
        reasons = table.column(REASON).to_pylist() if REASON in table.column_names else [None] * table.num_rows
        if holds_images(image_type):
            images = _embedded_images(file, dataset.image_column)
        else:
            images = ((None, path) for path in _paths(table.column(dataset.image_column)))
        values = zip(images, columns[dataset.label_column], splits, groups, strict=True)
        for row, ((image, path), label, split, group) in enumerate(values):
            listed = {"split": split, "label_name": label, "path": str(file), "row": row, "attributes": list(group)}
            names_file = image is None and (path or "").strip() != ""
            if reason := reasons[row]:
                yield listed | {"data": None, "reason": reason}
            elif names_file:
                yield listed | boundary.row(named_file(file.parent, path))
            elif holds_images(image_type):
                yield listed | {"column": dataset.image_column, "data": image or b""}
            else:
                yield listed | {"data": None, "reason": "the row names no file"}


def files(dataset: Dataset) -> list[Path]:
    """The table, or all tables of the folder. Raises UserError if there are none."""
    root = Path(dataset.path)
    if root.is_dir():
        tables = sorted(path for path in root.glob("*.parquet") if path.is_file() and not path.name.startswith("."))
        if not tables:
            raise UserError(f"dataset.path: {root} holds no *.parquet; for a folder of image files use source: folder")
        return tables
    if not root.is_file():
        raise UserError(f"dataset.path: {root} does not exist; give a table (.parquet, .csv) or a folder of *.parquet")
    return [root]


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all image files that the tables list. Raises UserError as `files`, and for an unreadable table."""
    name = dataset.image_column
    for file in files(dataset):
        if file.suffix.lower() in _TEXT_FILES:
            table = open_table(file)
            paths = _paths(table.column(name)) if table.schema.names.count(name) == 1 else []
        else:
            paths = _paths_in_parquet(file, name)
        yield from (str(named_file(file.parent, path)) for path in paths if (path or "").strip())


def _embedded_images(file: Path, name: str) -> Iterator[tuple[bytes | None, str | None]]:
    """The encoded images in the column `name`, and the paths beside them, some megabytes at a time."""
    with ImageTable(file) as table:
        for _, batch in table.stream([name]):
            yield from zip(encoded_images(batch.column(name)), _paths(batch.column(name)), strict=True)


def _paths(column: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """The paths in a column of texts, or of structs with a field `path`; None where there is none."""
    if is_text(column.type):
        return column.to_pylist()
    if not _has_paths(column.type):
        return [None] * len(column)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [path for chunk in chunks for path in chunk.field("path").to_pylist()]


def _has_paths(data_type: pa.DataType) -> bool:
    """Whether values of this type are texts, or structs with a text `path`, as in Hugging Face data."""
    if pa.types.is_struct(data_type):
        field = data_type.get_field_index("path")
        return field >= 0 and is_text(data_type.field(field).type)
    return is_text(data_type)


def _paths_in_parquet(file: Path, name: str) -> Iterator[str | None]:
    """The paths in the column `name` of a Parquet table, without those of row groups whose images are all embedded."""
    check_regular_file(file)
    try:
        with pq.ParquetFile(file) as table:
            schema = table.schema_arrow
            if schema.names.count(name) != 1 or not _has_paths(schema.field(name).type):
                return
            column = name if is_text(schema.field(name).type) else f"{name}.path"
            for group in range(table.num_row_groups):
                if not _all_embedded(table.metadata.row_group(group), name):
                    for batch in table.iter_batches(row_groups=[group], columns=[column]):
                        yield from _paths(batch.column(0))
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({short_text(error)})", advice="write it again") from None


def _all_embedded(group: pq.RowGroupMetaData, name: str) -> bool:
    """Whether no row of a row group lacks the bytes of its image, as its statistics say."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == f"{name}.bytes":
            statistics = column.statistics
            return statistics is not None and statistics.has_null_count and statistics.null_count == 0
    return False


def open_table(file: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table; CSV and JSON lines entirely as text. columns: read only these of a Parquet file.

    In JSON lines, a value of `columns` may not be a list or an object; those of other columns become JSON text.
    Raises UserError if the file cannot be read.
    """
    check_regular_file(file)
    try:
        if file.suffix.lower() == ".csv":
            return _read_csv(file)
        if file.suffix.lower() in (".jsonl", ".ndjson"):
            return _read_lines(file, columns or ())
        return pq.read_table(file, columns=columns, partitioning=None)
    except (pa.ArrowInvalid, pd.errors.ParserError, OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) or "invalid UTF8" in str(error):
            raise not_utf8(str(file)) from None
        raise UserError(
            f"{file}: cannot be read as {file.suffix or 'Parquet'} ({short_text(error)})", advice="write it again"
        ) from None


def _read(file: Path, dataset: Dataset) -> tuple[pa.Table, pa.DataType]:
    """The table without embedded images, and the type of the column of the images or of their paths."""
    wanted = {
        dataset.image_column: "set dataset.image_column",
        dataset.label_column: "set dataset.label_column",
        **{name: f"set dataset.group_columns[{i}]" for i, name in enumerate(dataset.group_columns)},
    }
    if not dataset.unsplit:
        wanted[dataset.split_column] = "set dataset.split_column, or have splits made: dataset.make_splits"
    name_of_image = dataset.image_column
    text = open_table(file, list(wanted)) if file.suffix.lower() in _TEXT_FILES else None
    schema = table_schema(file) if text is None else text.schema
    check_columns(str(file), schema.names, wanted)
    image_type = schema.field(name_of_image).type
    if not (holds_images(image_type) or _has_paths(image_type)):
        raise UserError(
            f"{file}: column {name_of_image!r} holds {image_type}, not images or paths; set dataset.image_column"
        )
    read = [name for name in wanted if name != name_of_image or not holds_images(image_type)]
    read += [REASON] if REASON in schema.names else []
    return (open_table(file, read) if text is None else text).select(read), image_type


def table_schema(file: Path) -> pa.Schema:
    """Names and types of the columns of a table. Raises UserError if the file cannot be read."""
    if file.suffix.lower() in _TEXT_FILES:
        return open_table(file).schema
    check_regular_file(file)
    try:
        return pq.read_schema(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file}: cannot be read as Parquet ({short_text(error)})", advice="write it again") from None


def _read_csv(file: Path) -> pa.Table:
    # As text, because a label 007 is not the number 7.
    header = pd.read_csv(file, nrows=0).columns
    check_separator(str(file), header)
    types = dict.fromkeys(header, pa.string())
    convert = pa_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    # A row has to fit into a block, and may be long: a caption of several lines, for example.
    read = pa_csv.ReadOptions(block_size=max(1 << 20, min(file.stat().st_size, 1 << 30)))
    return pa_csv.read_csv(file, read, pa_csv.ParseOptions(newlines_in_values=True), convert)


def _read_lines(file: Path, columns: Sequence[str]) -> pa.Table:
    """JSON lines as text: a column for each key of any line. Numbers stay as written; null and NaN are missing.

    columns: those whose values may not be lists or objects.
    """
    decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=lambda _: None).decode
    rows = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = decode(line)
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{file}: line {number}: is not JSON ({error.msg}); each line should be an object"
                ) from None
            if not isinstance(row, dict):
                raise UserError(
                    f'{file}: line {number}: should be one object of texts and numbers, as {{"label": "cat"}}'
                )
            for name in columns:
                if isinstance(row.get(name), dict | list):
                    raise UserError(
                        f"{file}: line {number}: {name!r} should be one text or number, not {_as_text(row[name]):.40}"
                    )
            rows.append({key: value if type(value) is str else _as_text(value) for key, value in row.items()})
    names = dict.fromkeys(key for row in rows for key in row)
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
