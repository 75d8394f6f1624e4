"""Reading and writing manifests, the Parquet tables between rules. `schemas` declares their columns.

No other code writes them. The rows are sorted by SORT_KEYS, so the same rows give the same bytes. Writing is atomic.
"""

import base64
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synaug.manifests.content import CONTENT_KEY, ContentDigest
from synaug.manifests.schemas import OPTIONAL, SCHEMA_VERSION, SCHEMAS
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path, check_regular_file
from synaug.runtime.paths import local_path, results_root

SORT_KEYS = {
    "real": ["split", "label", "image_id"],
    "imbalance": ["kind", "label", "group"],
    "plan": ["label", "group", "fill", "index"],
    "shard": ["label_name", "image_id"],
    "shard_scores": ["image_id"],
    "real_scores": ["split", "label", "image_id"],
    "gate": ["fill", "label"],
    "scores": ["label", "group", "fill", "index"],
    "features": ["source", "label", "image_id"],
    "synthetic": ["label", "image_id"],
    "quality": ["fill", "label_name", "metric"],
    "balanced": ["label", "source", "image_id"],
    "packed": ["image_id"],
    "backbone_features": ["image_id"],
    "history": ["step"],
    "predictions": ["split", "label", "image_id"],
    "metrics": ["recipe", "stage", "seed", "metric", "subset"],
    "differences": ["recipe", "stage", "baseline_recipe", "baseline_stage", "metric", "subset"],
    "summary": ["recipe", "stage", "metric", "subset"],
    "selection": ["method", "criterion"],
    "candidates": ["recipe", "stage"],
    "chosen": ["recipe", "stage"],
}
SORT_KEYS["study"] = ["variant", *SORT_KEYS["summary"]]
SORT_KEYS["study_selection"] = ["variant", *SORT_KEYS["selection"]]
SORT_KEYS["study_differences"] = ["variant", *SORT_KEYS["differences"]]


# What reading a damaged file raises; ValueError: text that is not UTF-8.
_DAMAGED = (pa.ArrowException, OSError, ValueError)

# Rows in a row group. Only shards have others.
ROW_GROUP = 131072
# A row group of shards has at most so many images and bytes: a reader of one image loads its row group.
GROUP_ROWS = 1000
GROUP_BYTES = 1 << 25
# Columns of shards that are written as they are read, since they may not fit into memory.
_STREAMED = ["image", "sha256"]


def write_manifest(kind: str, rows: pd.DataFrame | pa.Table, path: str | os.PathLike) -> None:
    """Write `rows` as manifest `kind` (a key of SCHEMAS) to `path`: sorted, byte-stable, atomic.

    A column that `rows` lacks is filled with its default, or with null; columns of OPTIONAL are left out. Raises
    ValueError for a column that the schema does not have, for a null in a column that is not nullable, and for integers
    that were rounded to floats.
    """
    table = _complete(kind, rows, SCHEMAS[kind])
    if kind == "shard":
        images = table.select(_STREAMED)
        # Rows one by one: to take them all at once, Arrow joins the chunks, which fails above 2 GiB.
        one_by_one = lambda order: (images.slice(row, 1) for row in order.tolist())  # noqa: E731
        write_shard(table.drop_columns(_STREAMED), one_by_one, path, images.nbytes)
        return
    schema = _schema_with(kind, [name for name in table.column_names if table.column(name).null_count < table.num_rows])
    table = table.select(schema.names)
    order, table = _sort_order(table, SORT_KEYS[kind]), table.combine_chunks()
    groups = (table.take(order[start : start + ROW_GROUP]) for start in range(0, table.num_rows, ROW_GROUP))
    _write_row_groups(kind, schema, groups, path, table.nbytes)


def write_sorted(kind: str, batches: Iterable[pa.Table | pa.RecordBatch], rows: int, path: str | os.PathLike) -> None:
    """As `write_manifest`, for `rows` rows in `batches` that are in the order of the manifest: one row group in memory.

    The bytes of the file do not depend on how many rows a batch has. Raises ValueError also for rows in another order,
    and for another number of them; the file at `path` is then unchanged.
    """
    tables = map(_as_table, batches)
    beginning = [table for table in [next(tables, None)] if table is not None]
    schema = _schema_with(kind, beginning[0].column_names if beginning else [])
    groups = _in_order(kind, _cut(_complete(kind, table, schema) for table in chain(beginning, tables)))
    first = next(groups, None)
    size = first.nbytes * rows // first.num_rows if first else 0
    written = 0

    def counted() -> Iterator[pa.Table]:
        nonlocal written
        for group in chain([first] if first else [], groups):
            written += group.num_rows
            yield group
        if written != rows:
            raise ValueError(f"{path}: {rows} rows were announced, but there are {written}")

    _write_row_groups(kind, schema, counted(), path, size)


def _schema_with(kind: str, names: list[str]) -> pa.Schema:
    """The schema of manifest `kind`, without its OPTIONAL columns if none of them is among `names`."""
    schema, optional = SCHEMAS[kind], OPTIONAL.get(kind, [])
    left_out = [] if set(optional) & set(names) else optional
    return pa.schema([field for field in schema if field.name not in left_out])


def _write_row_groups(
    kind: str, schema: pa.Schema, groups: Iterable[pa.Table], path: str | os.PathLike, size: int
) -> None:
    """Write `groups`, of all columns of `schema` as plain strings, each as a row group. size: bytes, about."""
    content = ContentDigest()
    content.update(schema.empty_table())
    with atomic_path(path, size) as temporary, _writer(schema, temporary) as writer:
        for group in groups:
            # Encoded here, because a dictionary holds its values in order of appearance.
            row_group = group.combine_chunks().cast(schema)
            writer.write_table(row_group, row_group_size=ROW_GROUP)
            content.update(row_group)
        metadata = _metadata(kind) | {CONTENT_KEY: content.hexdigest()}
        # Not only in the footer, but also in Arrow's schema: a program that changes rows and writes them keeps it. The
        # digest is known only now, so the schema that was written at the beginning is replaced.
        schema_with_digest = base64.b64encode(schema.with_metadata(metadata).serialize()).decode()
        writer.add_key_value_metadata(metadata | {"ARROW:schema": schema_with_digest})


def _as_table(batch: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch


def _cut(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of `tables`, cut into row groups."""
    pending, count = [], 0
    for table in tables:
        while count + table.num_rows >= ROW_GROUP:
            part = table.slice(0, ROW_GROUP - count)
            yield pa.concat_tables([*pending, part]).combine_chunks()
            pending, count, table = [], 0, table.slice(part.num_rows)
        pending, count = [*pending, table], count + table.num_rows
    if count:
        yield pa.concat_tables(pending).combine_chunks()


def _in_order(kind: str, groups: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same `groups`. Raises ValueError at a row that must not follow the row before."""
    keys = SORT_KEYS[kind]
    last = None  # row of the group before
    for group in groups:
        rows = group.select(keys)
        joined = pa.concat_tables([last, rows]).combine_chunks() if last else rows
        if not np.array_equal(_sort_order(joined, keys), np.arange(joined.num_rows)):
            raise ValueError(f"manifest {kind!r}: the rows are not sorted by {', '.join(keys)}")
        last = rows.slice(rows.num_rows - 1)
        yield group


def write_shard(
    rows: pd.DataFrame | pa.Table,
    images: Callable[[np.ndarray], Iterable[pa.Table]],
    path: str | os.PathLike,
    size: int,
    group_bytes: int = GROUP_BYTES,
) -> None:
    """Write the manifest `shard` to `path` as `write_manifest` does, with one row group in memory.

    rows: all columns but image and sha256. images: is called with positions in `rows` (int64), and returns tables of
    the columns image and sha256 of these rows, in this order. size: about how many bytes the images have together.
    group_bytes: of the images in a row group, at most. The bytes of the file do not depend on how many rows the tables
    of `images` have.
    """
    schema = SCHEMAS["shard"]
    in_memory = pa.schema([field for field in schema if field.name not in _STREAMED])
    streamed = pa.schema([schema.field(name) for name in _STREAMED])
    table = _complete("shard", rows, in_memory)
    order = _sort_order(table, SORT_KEYS["shard"])
    table = table.take(order).combine_chunks().cast(in_memory)
    content = ContentDigest()
    content.update(table)
    content.update(streamed.empty_table().select(["sha256"]))  # the hash stands for the image
    schema = schema.with_metadata(_metadata("shard"))
    start, pieces = 0, (_complete("shard", piece, streamed) for piece in images(order.to_numpy().astype(np.int64)))
    with atomic_path(path, table.nbytes + size) as temporary, _writer(schema, temporary) as writer:
        for group in _row_groups(pieces, group_bytes):
            others = table.slice(start, group.num_rows)
            columns = [(group if name in _STREAMED else others).column(name) for name in schema.names]
            row_group = pa.Table.from_arrays(columns, schema=schema)
            writer.write_table(row_group, row_group_size=GROUP_ROWS)
            content.update(group.select(["sha256"]))
            start += group.num_rows
        writer.add_key_value_metadata({CONTENT_KEY: content.hexdigest()})
    if start != table.num_rows:
        raise ValueError(f"{path}: {table.num_rows} rows, but {start} images")


def _row_groups(pieces: Iterable[pa.Table], most_bytes: int) -> Iterator[pa.Table]:
    """The rows of `pieces` (columns image and sha256), cut into row groups."""
    pending, count, total = [], 0, 0
    for piece in pieces:
        begin = 0
        for row, length in enumerate(pc.binary_length(pc.struct_field(piece.column("image"), "bytes")).to_pylist()):
            if count and (count == GROUP_ROWS or total + (length or 0) > most_bytes):
                yield pa.concat_tables([*pending, piece.slice(begin, row - begin)]).combine_chunks()
                pending, count, total, begin = [], 0, 0, row
            count, total = count + 1, total + (length or 0)
        pending.append(piece.slice(begin))
    if count:
        yield pa.concat_tables(pending).combine_chunks()


def _complete(kind: str, rows: pd.DataFrame | pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with all columns of `schema`, a part of that of `kind`, in its types; dictionaries as plain strings."""
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    extra = set(rows.column_names) - set(schema.names)
    if extra:
        raise ValueError(f"manifest {kind!r} has no column {', '.join(sorted(extra))}")
    columns = []
    for field in schema:
        plain_type = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if field.name in rows.column_names:
            _check_integers(kind, field, rows.column(field.name))
            column = rows.column(field.name).cast(plain_type) if rows.num_rows else pa.chunked_array([], plain_type)
        elif b"default" in field.metadata:
            column = pa.chunked_array([_default_values(field, rows.num_rows).cast(plain_type)])
        else:
            column = pa.chunked_array([pa.nulls(rows.num_rows, plain_type)])
        if column.null_count and not field.nullable:
            raise ValueError(f"manifest {kind!r}: {column.null_count} rows have no {field.name}")
        columns.append(column)
    # Dictionary columns are encoded after sorting, because a dictionary holds its values in order of appearance.
    return pa.Table.from_arrays(columns, names=schema.names)


def _metadata(kind: str) -> dict[str, str]:
    metadata = {"synaug:manifest": kind, "synaug:schema_version": SCHEMA_VERSION}
    if kind == "shard":
        # With this, Hugging Face `datasets` and the Hub's viewer show the column as images.
        metadata["huggingface"] = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    return metadata


def _writer(schema: pa.Schema, path: Path) -> pq.ParquetWriter:
    # Encoded images do not compress further, and plain encoding keeps them readable without a dictionary page.
    compression = {name: ("NONE" if name == "image.bytes" else "ZSTD") for name in _parquet_columns(schema)}
    dictionary = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    return pq.ParquetWriter(
        path,
        schema,
        compression=compression,
        use_dictionary=dictionary or False,
        store_schema=True,
        write_page_checksum=True,
    )


def _check_integers(kind: str, field: pa.Field, column: pa.ChunkedArray) -> None:
    """Raise ValueError if integers became floats and are too large to be exact.

    pandas turns integers into floats when it joins tables with missing rows. A cast back cannot detect the rounding.
    """
    if pa.types.is_integer(field.type) and pa.types.is_floating(column.type):
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and largest > 2**53:
            raise ValueError(
                f"manifest {kind!r}: column {field.name} holds floats too large to be exact integers; they were rounded"
            )


def read_manifest(
    kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """Read manifest `kind` at `path` as a data frame; `columns` and `filters` as in pyarrow.parquet.read_table.

    Raises UserError if the file is missing, is not Parquet, lacks a column of the schema, or holds other values there.
    """
    table = read_table(kind, path, columns, filters)
    try:
        return to_frame(table)
    except _DAMAGED as error:  # a flipped bit that no check of Parquet finds, such as text that is not UTF-8
        raise _damaged(Path(path), error) from None


def read_table(kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None) -> pa.Table:
    """As `read_manifest`, but returns an Arrow table: a data frame would copy the bytes of images.

    A column that the file lacks because it was written by an older version gets its default, if it has one.
    """
    path, wanted = Path(path), list(columns or SCHEMAS[kind].names)
    stored, defaults = stored_columns(kind, path, wanted)
    try:
        table = pq.read_table(path, columns=stored, filters=filters, partitioning=None)
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    return _declared(kind, path, table, wanted, defaults)


def stream_table(
    kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, only: tuple[str, str] | None = None
) -> Iterator[pa.Table]:
    """As `read_table`, row group by row group; a file without rows is one table.

    only: a column of strings and a value: only rows with it. Of a row group without such a row only this column is
    read.
    """
    path, wanted = Path(path), list(columns or SCHEMAS[kind].names)
    stored, defaults = stored_columns(kind, path, wanted)
    try:
        with pq.ParquetFile(path) as file:
            if not file.num_row_groups:
                yield _declared(kind, path, file.read(stored), wanted, defaults)
            for number in range(file.num_row_groups):
                rows = None
                if only:
                    values = file.read_row_group(number, [only[0]], use_threads=False).column(0).cast(pa.string())
                    rows = np.flatnonzero(pc.equal(values, only[1]).to_numpy())
                    if not len(rows):
                        continue
                table = file.read_row_group(number, stored, use_threads=False)
                yield _declared(kind, path, table if rows is None else table.take(rows), wanted, defaults)
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def runs(tables: Iterable[pa.Table], column: str) -> Iterator[tuple[Any, pa.Table]]:
    """The rows of `tables`, cut where the value of `column` changes: (value, rows). A run may come in several parts."""
    for table in tables:
        values = table.column(column).to_numpy()
        starts = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1), len(values)]
        for start, end in pairwise(starts):
            if start < end:
                yield values[start], table.slice(start, end - start)


def row_count(kind: str, path: str | os.PathLike) -> int:
    """The number of rows of manifest `kind` at `path`. Raises UserError as `read_table`."""
    stored_columns(kind, path, SCHEMAS[kind].names)
    try:
        return pq.read_metadata(path).num_rows
    except _DAMAGED as error:
        raise _damaged(Path(path), error) from None


def count_rows(kind: str, path: str | os.PathLike, columns: Sequence[str]) -> pd.DataFrame:
    """The different rows that the columns `columns` of manifest `kind` have, in order of appearance.

    A further column `rows` says how many rows of the file each of them stands for.
    """
    counts: dict[tuple, int] = {}
    for table in stream_table(kind, path, columns):
        plain = pa.table({name: _plain(table.column(name)) for name in columns})
        of_group = plain.group_by(list(columns), use_threads=False).aggregate([([], "count_all")])
        *values, numbers = (of_group.column(name).to_pylist() for name in [*columns, "count_all"])
        for row, number in zip(zip(*values, strict=True), numbers, strict=True):
            counts[row] = counts.get(row, 0) + number
    rows = pd.DataFrame(list(counts), columns=list(columns))
    return rows.assign(rows=list(counts.values()))


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: is damaged ({short_text(error)})", advice="delete it and run again")


def _declared(kind: str, path: Path, table: pa.Table, wanted: list[str], defaults: dict[str, str]) -> pa.Table:
    """The columns `wanted` of `table`, which was read from `path`, with `defaults` for those that the file lacks."""
    for name in defaults:
        field = SCHEMAS[kind].field(name)
        table = table.append_column(field, _default_values(field, table.num_rows))
    table = table.select(wanted)
    for name in wanted:
        fault = _fault(SCHEMAS[kind].field(name), table.column(name))
        if fault:
            raise UserError(f"{path}: column {name} {fault}", advice="delete it and run again")
    return table


def _fault(field: pa.Field, column: pa.ChunkedArray) -> str | None:
    """Why `column` is not what the schema declares; None: it is. Widths of numbers may differ."""
    if column.null_count and not field.nullable:
        return f"has no value in {column.null_count} rows"
    declared, stored = (
        type_.value_type if pa.types.is_dictionary(type_) else type_ for type_ in (field.type, column.type)
    )
    stored = pa.string() if pa.types.is_large_string(stored) else stored
    alike = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_list)
    if any(is_type(declared) and not is_type(stored) for is_type in alike) and not pa.types.is_null(stored):
        return f"holds {stored} instead of {declared}"
    return None


def stored_columns(kind: str, path: str | os.PathLike, wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those of the columns `wanted` of manifest `kind` that the file at `path` has, and the defaults of the others.

    Raises UserError if the file is missing, is not Parquet, or lacks a column without a default.
    """
    check_regular_file(path)
    try:
        names = pq.read_schema(path).names
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", advice="run the workflow to create it") from None
    except _DAMAGED as error:
        raise UserError(
            f"{path}: cannot be read as Parquet ({short_text(error)})", advice="delete it and run again"
        ) from None
    missing = [name for name in wanted if name not in names]
    defaults = {name: SCHEMAS[kind].field(name).metadata.get(b"default") for name in missing}
    if None in defaults.values():
        lacking = ", ".join(name for name, default in defaults.items() if default is None)
        raise UserError(f"{path}: has no column {lacking}", advice="delete it and run again")
    return [name for name in wanted if name in names], {name: text.decode() for name, text in defaults.items()}


def _default_values(field: pa.Field, count: int) -> pa.Array:
    """The default of a column that has one, `count` times."""
    default = field.metadata[b"default"].decode()
    if field.nullable and not default:
        return pa.nulls(count, field.type)
    return pa.repeat(default, count).cast(field.type)


def read_with_local_paths(
    kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """As `read_manifest`, with local paths of the images in the column `path`: this job can open them.

    Do not write these rows to another manifest, which must hold logical paths (see `synaug.runtime.paths`).
    """
    rows, root = read_manifest(kind, path, columns, filters), results_root(path)
    if root.resolve() == Path.cwd():  # no storage: both are the same, and a million files need not be looked for
        return rows
    local_paths = {logical: local_path(logical, root) for logical in rows["path"].dropna().unique()}
    return rows.assign(path=rows["path"].map(local_paths))


def with_group(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with a column `group`: an empty string if it is missing, as in a data set without groups."""
    return rows if "group" in rows else rows.assign(group="")


def with_fill(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with a column `fill`: an empty string if it is missing, as in an experiment without `fills`."""
    return rows if "fill" in rows else rows.assign(fill="")


def class_names(real: pd.DataFrame) -> list[str]:
    """The classes of an experiment: name number i is that of `label` i. real: the manifest `real`.

    An image without a class (label -1, an empty name) is never usable, and does not count. No class is lost that way:
    `index_dataset` refuses a data set in which a class has no usable training image.
    """
    return real[real["usable"]].drop_duplicates("label").sort_values("label")["label_name"].tolist()


def to_frame(table: pa.Table) -> pd.DataFrame:
    """`table` as a data frame. Dictionaries become plain strings: pandas groups and merges categoricals differently.

    Raises pyarrow.ArrowInvalid if text is not UTF-8, which would otherwise be found where it is used.
    """
    table.validate(full=True)
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # here and not in pandas, where each column takes milliseconds
            table = table.set_column(position, field.name, _plain(table.column(position)))
    return table.to_pandas(strings_to_categorical=False)


def _sort_order(table: pa.Table, keys: list[str]) -> pa.Array:
    plain = {key: _plain(table.column(key)) for key in keys}
    return pc.sort_indices(pa.table(plain), sort_keys=[(key, "ascending") for key in keys])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """`column` without a dictionary."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _parquet_columns(schema: pa.Schema) -> list[str]:
    """Names of the columns in the Parquet file, where each field of a struct is a column of its own."""
    names = []
    for field in schema:
        if pa.types.is_struct(field.type):
            names += [f"{field.name}.{child.name}" for child in field.type]
        elif pa.types.is_list(field.type):
            names.append(f"{field.name}.list.element")
        else:
            names.append(field.name)
    return names
