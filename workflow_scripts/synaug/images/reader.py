"""The images that the rows of a manifest point at, read as a stream."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.runtime.errors import UserError

# Images that are in memory at once: some megabytes of photographs.
_AT_ONCE = 64


def workflow_folder(manifest: Path) -> Path:
    """The folder from which snakemake was called: paths in the manifests of results/<experiment>/ begin there."""
    return Path(os.path.abspath(manifest)).parents[2]


def stream_images(rows: pd.DataFrame, root: Path, columns: Sequence[str] = ()) -> Iterator[tuple[int, bytes, dict]]:
    """Yield (position in `rows`, encoded image, other `columns` of its table) file by file, never a whole file at once.

    rows: columns path, row (null: the file itself is the image) and column. root: where relative paths begin. Columns
    that the table does not have are left out, and so are all of them for an image that is a file.
    Raises UserError if an image is gone.
    """
    rows = rows.reset_index(drop=True)
    alone = rows["row"].isna()
    for position, path in rows.loc[alone, "path"].items():
        try:
            yield position, (root / path).read_bytes(), {}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); run the workflow again") from None
    names = rows["column"].fillna("image")
    for (path, name), some in rows[~alone].groupby(["path", names[~alone]], sort=True):
        yield from _stream_table(root / path, name, some["row"].astype("int64").sort_values(), columns)


def _stream_table(
    path: Path, name: str, wanted: pd.Series, columns: Sequence[str]
) -> Iterator[tuple[int, bytes, dict]]:
    """wanted: rows of the table, ascending; its index are the positions to yield."""
    numbers, positions, done = wanted.to_numpy(), wanted.index.to_numpy(), 0
    try:
        with pq.ParquetFile(path) as file:
            there = [column for column in columns if column in file.schema_arrow.names]
            start = 0
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                # A row group that nothing is wanted of is not read.
                if np.searchsorted(numbers, end) > done:
                    for batch in file.iter_batches(_AT_ONCE, [group], [name, *there]):
                        stop = np.searchsorted(numbers, start + batch.num_rows)
                        few = pa.Table.from_batches([batch]).take(numbers[done:stop] - start)
                        images = few.column(name).combine_chunks()
                        images = images.field("bytes") if pa.types.is_struct(images.type) else images
                        others = few.select(there).to_pylist() if there else [{}] * few.num_rows
                        yield from zip(positions[done:stop].tolist(), images.to_pylist(), others, strict=True)
                        start, done = start + batch.num_rows, stop
                start = end
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({text}); run the workflow again to make it") from None
    if done < len(numbers):
        raise UserError(f"{path}: has no row {numbers[done]}; delete it and run the workflow again")
