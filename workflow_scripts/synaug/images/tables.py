"""Reading encoded images from one Parquet table of any size, a few megabytes at a time.

No column of images is ever joined: more than 2 GiB of them do not fit into one Arrow array.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import check_regular_file

# In memory at a time, also of a row group that is larger.
_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 25
_REPEATED_ROWS = 16

_Item = TypeVar("_Item")


class ImageTable:
    """A Parquet table with a column of encoded images, read by row group. A context manager.

    Raises UserError if the file is no Parquet file. The file is memory-mapped, since a row group of a file that others
    wrote may be larger than the memory.
    """

    def __init__(self, path: str | Path):
        self.path = path
        check_regular_file(path)
        try:
            self.file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from None
        self.schema = self.file.schema_arrow
        self.num_rows = self.file.metadata.num_rows

    def __enter__(self) -> "ImageTable":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def size(self, column: str, rows: np.ndarray) -> int:
        """About how many bytes the images in `column` at `rows` (int64, ascending) have together."""
        total = end = 0
        for group in range(self.file.num_row_groups):
            start, end = end, end + self.file.metadata.row_group(group).num_rows
            total += (np.searchsorted(rows, end) - np.searchsorted(rows, start)) * self._bytes_per_row(group, [column])
        return int(total)

    def stream(
        self, columns: Sequence[str], rows: np.ndarray | None = None, damaged: dict[int, str] | None = None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield (row numbers, their values), some megabytes at a time.

        rows: wanted row numbers, int64, ascending, and a row may occur twice; None: all rows. Row groups without a
        wanted row are not read. damaged: filled with {row: what is wrong} for the wanted rows that cannot be read,
        which are then skipped; None: they raise UserError. Raises UserError also for a column or row that the table
        does not have.
        """
        if missing := [name for name in columns if name not in self.schema.names]:
            raise UserError(f"{self.path}: has no column {missing[0]!r}", advice="delete it and run again")
        if rows is not None and len(rows) and (rows[-1] >= self.num_rows or rows[0] < 0):
            wrong = rows[0] if rows[0] < 0 else rows[-1]
            raise UserError(
                f"{self.path}: has no row {wrong}, only {self.num_rows} rows", advice="delete it and run again"
            )
        end = 0
        for group in range(self.file.num_row_groups):
            start, end = end, end + self.file.metadata.row_group(group).num_rows
            wanted = np.arange(start, end) if rows is None else rows[slice(*np.searchsorted(rows, [start, end]))]
            yield from self._stream_group(group, start, wanted, columns, damaged)

    def _stream_group(
        self, group: int, start: int, wanted: np.ndarray, columns: Sequence[str], damaged: dict[int, str] | None
    ) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Yield as `stream`, from one row group. start: its first row."""
        if not len(wanted):
            return
        size, done = self._rows_at_once(group, columns), 0
        try:
            for batch in self.file.iter_batches(size, [group], columns):
                stop = done + int(np.searchsorted(wanted[done:], start + batch.num_rows))
                inside = wanted[done:stop] - start
                if np.array_equal(inside, np.arange(batch.num_rows)):
                    yield wanted[done:stop], batch
                elif stop > done:
                    yield wanted[done:stop], batch.take(pa.array(inside))
                start, done = start + batch.num_rows, stop
                if done == len(wanted):
                    return
            raise pa.ArrowInvalid("there are fewer rows than the file says")
        except (pa.ArrowException, OSError) as error:
            lost = wanted[done:]
            reason = f"rows {lost[0]:,} to {lost[-1]:,} cannot be read ({short_text(error)})"
            if damaged is None:
                advice = "`synaug verify` names the remedy if it is a shard; otherwise restore the file"
                raise UserError(f"{self.path}: {reason}", advice=advice) from None
            damaged.update(dict.fromkeys(lost.tolist(), reason))

    def _rows_at_once(self, group: int, columns: Sequence[str]) -> int:
        # Equal images in a dictionary are written once, so that the file does not tell how large they are.
        metadata = self.file.metadata.row_group(group)
        of_images = [name for name in columns if holds_images(self.schema.field(name).type)]
        repeated = any(
            metadata.column(number).has_dictionary_page
            for number in range(metadata.num_columns)
            if metadata.column(number).path_in_schema.removesuffix(".bytes") in of_images
        )
        rows = _BATCH_BYTES / max(1, self._bytes_per_row(group, columns))
        return int(np.clip(rows, 1, _REPEATED_ROWS if repeated else _BATCH_ROWS))

    def _bytes_per_row(self, group: int, columns: Sequence[str]) -> float:
        """Mean size of a row in a row group, without compression."""
        metadata = self.file.metadata.row_group(group)
        total = 0
        for number in range(metadata.num_columns):
            column = metadata.column(number)
            if column.path_in_schema.split(".")[0] in columns:
                total += column.total_uncompressed_size
        return total / max(1, metadata.num_rows)

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: cannot be read ({short_text(error)})", advice="run the workflow again to create it"
        )


def in_batches(items: Iterable[_Item], size: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """`items` in lists of up to 1,024 items and about 32 MB. size: of an item, bytes."""
    batch, total = [], 0
    for item in items:
        batch.append(item)
        total += size(item)
        if len(batch) == _BATCH_ROWS or total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def encoded_images(column: pa.Array | pa.ChunkedArray) -> list[bytes | None]:
    """The encoded images of a column of binary values, or of structs with a field `bytes` (as in Hugging Face data)."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    is_struct = pa.types.is_struct(column.type)
    return [image for chunk in chunks for image in (chunk.field("bytes") if is_struct else chunk).to_pylist()]


def holds_images(data_type: pa.DataType) -> bool:
    """Whether a column of this type may hold encoded images: bytes, or the struct that Hugging Face uses."""
    if pa.types.is_struct(data_type):
        return data_type.get_field_index("bytes") >= 0
    return is_binary(data_type)


def is_binary(data_type: pa.DataType) -> bool:
    """Whether values of this type are bytes, in any layout of Arrow and also in a dictionary."""
    data_type = value_type(data_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(data_type) for test in tests)


def value_type(data_type: pa.DataType) -> pa.DataType:
    """The type of the values of a dictionary, or `data_type` itself."""
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type
