"""Reading the images that the rows of a manifest point to, from tables and image files.

The rows have the columns `path`, `row` (null: `path` is an image file) and `column` (null: `image`). `read_encoded` is
quick, and holds up to 1 GiB of a table, or some image files, in memory; `stream_images` holds some megabytes.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from synaug.images.codec import CHANNELS, decode_image
from synaug.images.tables import ImageTable, encoded_images
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file
from synaug.runtime.machine import usable_cores

_BATCH = 1024  # images that are read from files, or decoded, at once
_FILES = 64  # image files that `read_encoded` reads at once: photographs have up to tens of megabytes
_IN_MEMORY = 1 << 30  # bytes of encoded images of one table that `read_encoded` holds


def read_encoded(
    manifest: pd.DataFrame, damaged: dict[int, str] | None = None
) -> Iterator[tuple[np.ndarray, list[bytes | None]]]:
    """Yield (positions in `manifest`, encoded images): table by table, each opened once, then the files.

    The images of a table come together and in the order of `manifest`, unless they have more than 1 GiB: then they come
    in the order of the table, some megabytes at a time. damaged: filled with {position: what is wrong} for the images
    of tables that cannot be read, which are None; None: they raise UserError.
    Raises UserError if a file or a row is missing.
    """
    manifest = manifest.reset_index(drop=True)
    columns = manifest["column"].astype("object").fillna("image") if "column" in manifest else "image"
    manifest = manifest.assign(column=columns)
    in_table = manifest["row"].notna()
    for (path, name), group in manifest[in_table].groupby(["path", "column"], sort=True):
        rows = group["row"].astype("int64")
        with ImageTable(path) as table:
            if table.size(name, np.sort(rows.to_numpy())) > _IN_MEMORY:
                yield from _read_pieces(table, name, rows, damaged)
            else:
                encoded = {}
                for positions, images in _read_pieces(table, name, rows, damaged):
                    encoded.update(zip(positions.tolist(), images, strict=True))
                yield rows.index.to_numpy(), [encoded[position] for position in rows.index]
    files = manifest.loc[~in_table, "path"]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), _FILES):
            group = files.iloc[start : start + _FILES]
            yield group.index.to_numpy(), list(pool.map(_read_file, group))


def _read_pieces(
    table: ImageTable, name: str, rows: pd.Series, damaged: dict[int, str] | None
) -> Iterator[tuple[np.ndarray, list[bytes | None]]]:
    """Yield as `read_encoded`, some megabytes at a time. rows: of the table; their index holds the positions."""
    rows = rows.sort_values(kind="stable")
    numbers, positions = rows.to_numpy(), rows.index.to_numpy()
    lost: dict[int, str] | None = None if damaged is None else {}
    done = 0
    for piece, batch in table.stream([name], numbers, lost):
        done = np.searchsorted(numbers, piece[0])
        yield positions[done : done + len(piece)], encoded_images(batch.column(name))
    if lost:
        unread = np.isin(numbers, list(lost))
        damaged.update(zip(positions[unread].tolist(), (lost[row] for row in numbers[unread].tolist()), strict=True))
        yield positions[unread], [None] * int(unread.sum())


def batches_in_order(manifest: pd.DataFrame) -> Iterator[np.ndarray]:
    """Positions in `manifest` (int64), up to 1,024 at a time, in the order of `iterate_pixels`, without reading files.

    The last bits of what a network computes depend on the images that it gets together.
    """
    manifest = manifest.reset_index(drop=True)
    columns = manifest["column"].astype("object").fillna("image")
    in_table = manifest["row"].notna()
    groups = [group.index for _, group in manifest[in_table].groupby(["path", columns[in_table]], sort=True)]
    for positions in [*groups, manifest.index[~in_table]]:
        for start in range(0, len(positions), _BATCH):
            yield positions[start : start + _BATCH].to_numpy(np.int64, copy=True)


def read_tables(manifest: pd.DataFrame) -> Iterator[tuple[np.ndarray, Sequence[bytes | str | None]]]:
    """Yield as `read_encoded`, but of image files the paths, 1,024 at a time, for `encoded_image`.

    So only the files that are being decoded are in memory.
    """
    in_table = manifest["row"].notna().to_numpy()
    tables, files = np.flatnonzero(in_table), np.flatnonzero(~in_table)
    for rows, images in read_encoded(manifest[in_table]):
        yield tables[rows], images
    for start in range(0, len(files), _BATCH):
        positions = files[start : start + _BATCH]
        yield positions, manifest["path"].iloc[positions].astype(str).tolist()


def encoded_image(image: bytes | str | None) -> bytes | None:
    """The encoded image. image: of `read_tables`. Raises UserError if it is a file that cannot be read."""
    return _read_file(image) if isinstance(image, str) else image


def iterate_pixels(manifest: pd.DataFrame, size: int, color: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions in `manifest`, their images: uint8, n x size x size x channels), up to 1,024 at a time.

    Raises UserError if an image is missing or cannot be decoded.
    """

    def decode(position: int, data: bytes | str | None) -> np.ndarray:
        try:
            return decode_image(encoded_image(data), size, color)
        except UserError:
            raise
        except Exception as error:
            image = manifest.iloc[position]
            raise UserError(
                f"{image['path']} (row {image['row']}): cannot be decoded: {error}",
                advice="if it is synthetic, `synaug verify` names the remedy; if it is real, run the workflow again",
            ) from None

    with ThreadPoolExecutor(usable_cores()) as pool:
        for positions, images in read_tables(manifest):
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
    positions, done = rows.index.tolist(), 0
    with ImageTable(path) as table:
        present = [column for column in columns if column in table.schema.names]
        for piece, batch in table.stream([name, *present], rows.to_numpy()):
            images = encoded_images(batch.column(name))
            values = batch.select(present).to_pylist() if present else [{}] * batch.num_rows
            yield from zip(positions[done : done + len(piece)], images, values, strict=True)
            done += len(piece)


def _read_file(path: str | os.PathLike) -> bytes:
    check_regular_file(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); index the data set again") from None
