"""The only code that reads and writes the tables between rules; `schemas` declares their columns.

A manifest is a Parquet file, sorted by a stable key and byte-stable: the same rows give the same bytes.
Writing is atomic.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from synaug.manifests.schemas import SCHEMA_VERSION, SCHEMAS
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path

SORT_KEYS = {
    "real": ["split", "label", "image_id"],
    "imbalance": ["kind", "label", "group"],
    "plan": ["label", "group", "index"],
    "shard": ["label_name", "image_id"],
    "scores": ["label", "group", "index"],
    "features": ["source", "label", "image_id"],
    "synthetic": ["label", "image_id"],
    "quality": ["label_name", "metric"],
    "balanced": ["label", "source", "image_id"],
    "packed": ["label", "source", "image_id"],
    "history": ["step"],
    "predictions": ["split", "label", "image_id"],
    "metrics": ["recipe", "stage", "seed", "metric", "subset"],
    "differences": ["recipe", "stage", "baseline_recipe", "baseline_stage", "metric", "subset"],
    "summary": ["recipe", "stage", "metric", "subset"],
    "selection": ["method", "criterion"],
}
SORT_KEYS["study"] = ["variant", *SORT_KEYS["summary"]]
SORT_KEYS["study_selection"] = ["variant", *SORT_KEYS["selection"]]
SORT_KEYS["study_differences"] = ["variant", *SORT_KEYS["differences"]]


def write_manifest(kind: str, rows: pd.DataFrame | pa.Table, path: str | os.PathLike) -> None:
    """Write `rows` as manifest `kind` (a key of SCHEMAS) to `path`: sorted, byte-stable, atomic.

    Columns that the schema does not have raise ValueError; columns that `rows` lacks are filled with their default or
    null, and a null in a column that may not have one raises ValueError; so do whole numbers that became floats which
    cannot hold them.
    """
    schema = SCHEMAS[kind]
    if isinstance(rows, pd.DataFrame):
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    extra = set(rows.column_names) - set(schema.names)
    if extra:
        raise ValueError(f"manifest {kind!r} has no column {', '.join(sorted(extra))}")
    columns = []
    for field in schema:
        if field.name in rows.column_names:
            plain = pa.string() if pa.types.is_dictionary(field.type) else field.type
            _check_whole(kind, field, rows.column(field.name))
            column = pa.chunked_array([], plain) if not rows.num_rows else rows.column(field.name).cast(plain)
        elif b"default" in field.metadata:
            column = pa.chunked_array([pa.repeat(field.metadata[b"default"].decode(), rows.num_rows)])
        else:
            column = pa.chunked_array([pa.nulls(rows.num_rows, field.type)])
        if column.null_count and not field.nullable:
            raise ValueError(f"manifest {kind!r}: {column.null_count} rows have no {field.name}")
        columns.append(column)
    # Dictionaries are made after sorting: they hold their values in the order in which they come.
    table = pa.Table.from_arrays(columns, names=schema.names)
    table = table.take(_sort_order(table, SORT_KEYS[kind])).combine_chunks().cast(schema)
    metadata = {"synaug:manifest": kind, "synaug:schema_version": SCHEMA_VERSION}
    if kind == "shard":
        # So that `datasets` and the Hub viewer show the column as images.
        metadata["huggingface"] = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    # Encoded images do not compress, and PLAIN keeps them readable without a dictionary page.
    plain = {name: ("NONE" if name == "image.bytes" else "ZSTD") for name in _leaves(table.schema)}
    dictionary = [f.name for f in schema if pa.types.is_dictionary(f.type)]
    with space_for(path, table.nbytes), atomic_path(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(metadata),
            temporary,
            compression=plain,
            use_dictionary=dictionary or False,
            row_group_size=1000 if kind == "shard" else 131072,
            store_schema=True,
        )


def _check_whole(kind: str, field: pa.Field, column: pa.ChunkedArray) -> None:
    """pandas makes floats of whole numbers when columns are joined, and a cast back does not see what it rounded."""
    if pa.types.is_integer(field.type) and pa.types.is_floating(column.type):
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and largest > 2**53:
            raise ValueError(f"manifest {kind!r}: {field.name} are floats, and too large for that: they were rounded")


def read_manifest(
    kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """Read manifest `kind` at `path` as a data frame; `columns` and `filters` as in pyarrow.parquet.read_table.

    Raises UserError if the file is not there, is no Parquet, or lacks a column of the schema.
    """
    return read_table(kind, path, columns, filters).to_pandas(strings_to_categorical=False).pipe(_plain_strings)


def read_table(kind: str, path: str | os.PathLike, columns: Sequence[str] | None = None, filters=None) -> pa.Table:
    """As read_manifest, but an Arrow table (for image bytes, which a data frame would copy).

    A column that has a default and is not in the file, since that is older than the column, holds its default.
    """
    path = Path(path)
    try:
        names = pq.read_schema(path).names
    except FileNotFoundError:
        raise UserError(f"{path}: no such file", advice="run the workflow to make it") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is not a readable Parquet file ({error})", advice="delete it and run again") from None
    wanted = list(columns or SCHEMAS[kind].names)
    missing = [name for name in wanted if name not in names]
    defaults = {name: SCHEMAS[kind].field(name).metadata.get(b"default") for name in missing}
    if None in defaults.values():
        lacking = ", ".join(name for name, default in defaults.items() if default is None)
        raise UserError(f"{path}: has no column {lacking}", advice="delete it and run again")
    try:
        there = [name for name in wanted if name in names]
        table = pq.read_table(path, columns=there, filters=filters, partitioning=None)
        for name, default in defaults.items():
            values = pa.repeat(default.decode(), table.num_rows).cast(SCHEMAS[kind].field(name).type)
            table = table.append_column(SCHEMAS[kind].field(name), values)
        return table.select(wanted) if defaults else table
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: is damaged ({error})", advice="delete it and run again") from None


def with_group(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with a column `group`: empty text if it has none, as in a data set without groups."""
    return rows if "group" in rows else rows.assign(group="")


def _plain_strings(frame: pd.DataFrame) -> pd.DataFrame:
    """Dictionary columns as plain strings: a categorical's group-by and merge surprise."""
    repeated = [name for name, kind in frame.dtypes.items() if isinstance(kind, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(repeated, "str"))


def _sort_order(table: pa.Table, keys: list[str]) -> pa.Array:
    plain = {}
    for key in keys:
        column = table.column(key)
        plain[key] = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
    return pc.sort_indices(pa.table(plain), sort_keys=[(key, "ascending") for key in keys])


def _leaves(schema: pa.Schema) -> list[str]:
    """Names of the Parquet columns: an image struct is two of them."""
    names = []
    for field in schema:
        if pa.types.is_struct(field.type):
            names += [f"{field.name}.{child.name}" for child in field.type]
        elif pa.types.is_list(field.type):
            names.append(f"{field.name}.list.element")
        else:
            names.append(field.name)
    return names
