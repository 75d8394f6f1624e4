"""Sorting rows that may not fit into memory: duckdb sorts them, and spills to a folder beside the table."""

import math
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from synaug.manifests.schemas import OPTIONAL, SCHEMAS
from synaug.manifests.tables import SORT_KEYS, runs
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import temporary_folder

# Of duckdb. What it returns, and what makes the rows, comes on top of the memory.
_LIMITS = {"memory_limit": "2GB"}
# Of duckdb for up to 1 GB of rows, in bytes, where their size is known. To merge its sorted runs, duckdb has a block of
# each in memory. There are size / memory of them, so what it needs grows with the root of the size.
_MEMORY_FOR_A_GIGABYTE = 128e6
# A class with more bytes than this is left to duckdb.
_CLASS_BYTES = 1 << 28
# Rows that duckdb returns at once. They are outside of its limit.
_BATCH_ROWS = 16384
# What duckdb says if it cannot spill, because the disk is full.
_FULL = re.compile(r"failed to offload|No space left|File too large|Disk quota", re.IGNORECASE)


def sorted_in_classes(
    kind: str, batches: Iterable[pa.Table], path: Path, threads: int = 1
) -> Iterator[pa.Table | pa.RecordBatch]:
    """As `sorted_rows`, for `batches` that are sorted by class: a class that fits into memory is sorted there."""
    schema, keys = _plain_schema(kind), [(key, "ascending") for key in SORT_KEYS[kind]]
    plain = (table.select(schema.names).cast(schema) for table in batches)
    for _, runs_of_class in groupby(runs(plain, SORT_KEYS[kind][0]), itemgetter(0)):
        parts = (rows for _, rows in runs_of_class)
        taken, size = [], 0
        for rows in parts:
            taken.append(rows)
            size += rows.nbytes
            if size > _CLASS_BYTES:
                yield from sorted_rows(kind, chain(taken, parts), path, threads)
                break
        else:
            yield pa.concat_tables(taken).combine_chunks().sort_by(keys)


def _plain_schema(kind: str) -> pa.Schema:
    """The columns of the manifest `kind` that every file has, those with a dictionary as plain strings."""
    return pa.schema(
        [
            pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
            for field in SCHEMAS[kind]
            if field.name not in OPTIONAL.get(kind, [])
        ]
    )


def _memory_for(size: int) -> str:
    """The memory of duckdb for rows of `size` bytes."""
    return f"{_MEMORY_FOR_A_GIGABYTE * max(1, math.sqrt(size / 1e9)) / 1e6:.0f}MB"


def sorted_rows(
    kind: str, batches: Iterable[pa.Table], path: Path, threads: int = 1, size: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of `batches`, of all columns of the manifest `kind` that every file has, in the order of this manifest.

    path: where the manifest will be written. Beside it is a temporary folder for rows that do not fit into memory.
    threads: of duckdb. size: bytes of the rows, if known; duckdb then gets no more memory than it needs for them.
    Raises UserError if the disk is full or the memory does not suffice, and what `batches` raises.
    """
    import duckdb  # takes a while, which jobs without it need not wait for

    schema = _plain_schema(kind)
    failures = []
    taken = 0  # bytes

    def plain() -> Iterator[pa.RecordBatch]:
        nonlocal taken
        try:
            for table in batches:
                taken += table.nbytes
                yield from table.select(schema.names).cast(schema).to_batches()
        except Exception as error:  # duckdb would raise one of its own, with the text of this one
            failures.append(error)
            raise

    rows = pa.RecordBatchReader.from_batches(schema, plain())
    keys = ", ".join(f'"{key}"' for key in SORT_KEYS[kind])
    with space_for(path), temporary_folder(path.with_name(f"{path.name}.spill")) as folder:
        config = _LIMITS | ({} if size is None else {"memory_limit": _memory_for(size)})
        config |= {"threads": threads, "temp_directory": str(folder), "preserve_insertion_order": "false"}
        with duckdb.connect(config=config) as connection:
            connection.register("rows", rows)
            try:
                yield from connection.sql(f"SELECT * FROM rows ORDER BY {keys}").to_arrow_reader(_BATCH_ROWS)
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                if failures:
                    raise failures[0] from None
                free = shutil.disk_usage(path.parent).free
                # While rows are returned, the error comes by way of Arrow, with the text alone.
                no_memory = isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error)
                # With very little space duckdb does not even try to spill, and is out of memory at once.
                if _FULL.search(str(error)) or (no_memory and free < taken):
                    raise UserError(
                        f"{path}: cannot be written, there is no space to sort its rows: {free / 1e6:,.1f} MB are free",
                        advice="make room and run the workflow again, what is finished is kept",
                    ) from error
                if no_memory:
                    raise UserError(
                        f"{path}: cannot be written, sorting its rows needs more than the {config['memory_limit']} of "
                        f"memory that duckdb may use (threads: {threads})",
                        advice="give the job one thread (--set-threads) on a machine with this much free memory, and "
                        "run the workflow again, what is finished is kept",
                    ) from error
                raise
