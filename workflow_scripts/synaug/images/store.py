"""Reading the images that a manifest points at."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.images.codec import CHANNELS, decode_image
from synaug.runtime.errors import UserError


def read_encoded(manifest: pd.DataFrame) -> Iterator[tuple[np.ndarray, list[bytes | None]]]:
    """Yield (positions in `manifest`, encoded images), file by file, so that no file is opened twice.

    `manifest` has the columns `path`, `row` (null: the file itself is the image) and `column` (default: image).
    Raises UserError if a file or a row is gone.
    """
    manifest = manifest.reset_index(drop=True)
    columns = manifest["column"].astype("object").fillna("image") if "column" in manifest else "image"
    manifest = manifest.assign(column=columns)
    in_table = manifest["row"].notna()
    for (path, name), group in manifest[in_table].groupby(["path", "column"], sort=True):
        wanted = group["row"].to_numpy(np.int64)
        try:
            column = pq.read_table(path, columns=[name], partitioning=None).column(name)
        except (FileNotFoundError, OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: cannot be read ({error}); run the workflow again to re-make it") from None
        if wanted.max(initial=-1) >= len(column):
            raise UserError(f"{path}: has {len(column)} rows, row {wanted.max()} is wanted; delete it and run again")
        yield group.index.to_numpy(), encoded_images(column.take(pa.array(wanted)))
    files = manifest[~in_table]
    for start in range(0, len(files), 1024):
        group = files.iloc[start : start + 1024]
        with ThreadPoolExecutor() as pool:
            yield group.index.to_numpy(), list(pool.map(_read_file, group["path"]))


def encoded_images(column: pa.ChunkedArray) -> list[bytes | None]:
    """The encoded images of a column of binary, or of structs with a field `bytes` (as Hugging Face writes them)."""
    values = column.combine_chunks()
    return (values.field("bytes") if pa.types.is_struct(values.type) else values).to_pylist()


def iterate_pixels(manifest: pd.DataFrame, size: int, color: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions in `manifest`, their images: uint8, n x size x size x channels), up to 1,024 at a time.

    Raises UserError if an image is gone or cannot be decoded.
    """

    def decode(position: int, data: bytes) -> np.ndarray:
        try:
            return decode_image(data, size, color)
        except Exception as error:
            where = manifest.iloc[position]
            raise UserError(f"{where['path']} (row {where['row']}): cannot be decoded: {error}") from None

    with ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)) as pool:
        for positions, images in read_encoded(manifest):
            for start in range(0, len(images), 1024):
                some = slice(start, start + 1024)
                yield positions[some], np.stack(list(pool.map(decode, positions[some], images[some])))


def load_pixels(manifest: pd.DataFrame, size: int, color: str) -> np.ndarray:
    """All of `iterate_pixels`: uint8, N x size x size x channels, in the order of `manifest` (path, row, column)."""
    pixels = np.empty((len(manifest), size, size, CHANNELS[color]), np.uint8)
    for positions, images in iterate_pixels(manifest, size, color):
        pixels[positions] = images
    return pixels


def _read_file(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); re-index the data set") from None
