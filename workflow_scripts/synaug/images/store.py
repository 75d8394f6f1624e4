"""Reading the images that the rows of a manifest point to, from tables and image files.

The rows have the columns `path`, `row` (null: `path` is an image file) and `column` (null: `image`). `read_encoded` is
quick, and holds the images of one table in memory; `stream_images` holds a few images at a time.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.images.codec import CHANNELS, decode_image
from synaug.runtime.errors import UserError

_BATCH = 1024  # images that are read from files, or decoded, at once
_STREAMED = 64  # images of a table that `stream_images` holds in memory: some megabytes of photographs


def read_encoded(manifest: pd.DataFrame) -> Iterator[tuple[np.ndarray, list[bytes | None]]]:
    """Yield (positions in `manifest`, encoded images), table by table, so that no table is opened twice.

    Raises UserError if a file or a row is missing.
    """
    manifest = manifest.reset_index(drop=True)
    columns = manifest["column"].astype("object").fillna("image") if "column" in manifest else "image"
    manifest = manifest.assign(column=columns)
    in_table = manifest["row"].notna()
    for (path, name), group in manifest[in_table].groupby(["path", "column"], sort=True):
        rows = group["row"].to_numpy(np.int64)
        try:
            column = pq.read_table(path, columns=[name], partitioning=None).column(name)
        except (FileNotFoundError, OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: cannot be read ({error}); run the workflow again to create it") from None
        if rows.max(initial=-1) >= len(column):
            raise UserError(f"{path}: has no row {rows.max()}, only {len(column)} rows; delete it and run again")
        yield group.index.to_numpy(), encoded_images(column.take(pa.array(rows)))
    files = manifest[~in_table]
    for start in range(0, len(files), _BATCH):
        group = files.iloc[start : start + _BATCH]
        with ThreadPoolExecutor() as pool:
            yield group.index.to_numpy(), list(pool.map(_read_file, group["path"]))


def encoded_images(column: pa.ChunkedArray) -> list[bytes | None]:
    """The encoded images of a column of binary values, or of structs with a field `bytes` (as in Hugging Face data)."""
    values = column.combine_chunks()
    return (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist()


def iterate_pixels(manifest: pd.DataFrame, size: int, color: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions in `manifest`, their images: uint8, n x size x size x channels), up to 1,024 at a time.

    Raises UserError if an image is missing or cannot be decoded.
    """

    def decode(position: int, data: bytes) -> np.ndarray:
        try:
            return decode_image(data, size, color)
        except Exception as error:
            image = manifest.iloc[position]
            raise UserError(f"{image['path']} (row {image['row']}): cannot be decoded: {error}") from None

    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)) as pool:
        for positions, images in read_encoded(manifest):
            for start in range(0, len(images), _BATCH):
                batch = slice(start, start + _BATCH)
                yield positions[batch], np.stack(list(pool.map(decode, positions[batch], images[batch])))


def load_pixels(manifest: pd.DataFrame, size: int, color: str) -> np.ndarray:
    """All images of `manifest`, in its order: uint8, N x size x size x channels. Raises UserError as iterate_pixels."""
    pixels = np.empty((len(manifest), size, size, CHANNELS[color]), np.uint8)
    for positions, images in iterate_pixels(manifest, size, color):
        pixels[positions] = images
    return pixels


def stream_images(
    rows: pd.DataFrame, root: Path, columns: Sequence[str] = ()
) -> Iterator[tuple[int, bytes | None, dict]]:
    """Yield (position in `rows`, encoded image, its values of other `columns` of the table), first the image files.

    root: folder that relative paths start from. The dict lacks columns that the table does not have, and is empty for
    an image file. Raises UserError if an image is missing.
    """
    rows = rows.reset_index(drop=True)
    is_file = rows["row"].isna()
    for position, path in rows.loc[is_file, "path"].items():
        yield position, _read_file(root / path), {}
    names = rows["column"].fillna("image")
    for (path, name), group in rows[~is_file].groupby(["path", names[~is_file]], sort=True):
        yield from _stream_table(root / path, name, group["row"].astype("int64").sort_values(), columns)


def _stream_table(
    path: Path, name: str, rows: pd.Series, columns: Sequence[str]
) -> Iterator[tuple[int, bytes | None, dict]]:
    """Yield as `stream_images`, from one table. rows: of the table, ascending; their index holds the positions."""
    numbers, positions, done = rows.to_numpy(), rows.index.to_numpy(), 0
    try:
        with pq.ParquetFile(path) as file:
            present = [column for column in columns if column in file.schema_arrow.names]
            start = 0  # row of the table at which the next batch begins
            for group in range(file.num_row_groups):
                end = start + file.metadata.row_group(group).num_rows
                # A row group without a wanted row is not read.
                if np.searchsorted(numbers, end) > done:
                    for batch in file.iter_batches(_STREAMED, [group], [name, *present]):
                        stop = np.searchsorted(numbers, start + batch.num_rows)
                        wanted = pa.Table.from_batches([batch]).take(numbers[done:stop] - start)
                        images = encoded_images(wanted.column(name))
                        values = wanted.select(present).to_pylist() if present else [{}] * wanted.num_rows
                        yield from zip(positions[done:stop].tolist(), images, values, strict=True)
                        start, done = start + batch.num_rows, stop
                start = end
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: cannot be read ({text}); run the workflow again to create it") from None
    if done < len(numbers):
        raise UserError(f"{path}: has no row {numbers[done]}; delete it and run again")


def _read_file(path: str | os.PathLike) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); index the data set again") from None
