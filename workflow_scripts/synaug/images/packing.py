"""All images that networks train on or are evaluated on, in one file: decoded once if they are small, else encoded."""

import os

import numpy as np
import pandas as pd

from synaug.images.codec import CHANNELS, LARGE
from synaug.images.store import iterate_pixels, read_encoded
from synaug.manifests import read_manifest
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path


def pack_images(rows: pd.DataFrame, path: str | os.PathLike, size: int, color: str) -> pd.DataFrame:
    """Write the images of `rows` (columns image_id, path, row, column) to the file `path`, each id once.

    size: side of the images that networks see, pixels. Up to LARGE the images are decoded: uint8, size x size x
    channels, in the order of their ids. Larger ones are copied as they are. Returns rows of the manifest `packed`.
    Raises UserError if an image is gone or cannot be decoded.
    """
    rows = rows.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)
    pixels = size**2 * CHANNELS[color]
    with space_for(path, len(rows) * pixels), atomic_path(path) as temporary, open(temporary, "wb") as file:
        if size > LARGE:
            return rows[["image_id"]].assign(**_write_encoded(rows, file))
        for positions, images in iterate_pixels(rows, size, color):
            for position, image in zip(positions.tolist(), images, strict=True):
                file.seek(position * pixels)
                file.write(image.tobytes())
    return rows[["image_id"]].assign(offset=np.arange(len(rows)) * pixels, length=pixels)


def _write_encoded(rows: pd.DataFrame, file) -> dict[str, np.ndarray]:
    """Write the encoded images of `rows` one after the other. Returns offset and length of each."""
    offsets, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    end = 0
    for positions, images in read_encoded(rows):
        for position, encoded in zip(positions, images, strict=True):
            file.write(encoded)
            offsets[position], lengths[position] = end, len(encoded)
            end += len(encoded)
    return {"offset": offsets, "length": lengths}


def packed_rows(index: str | os.PathLike, image_ids: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Offset and length (int64, N) of the images `image_ids`. index: the manifest `packed`.

    Raises UserError if the index lacks one.
    """
    rows = read_manifest("packed", index).set_index("image_id").reindex(image_ids)
    if rows["length"].isna().any():
        problem = f"{index}: has no image {rows.index[rows['length'].isna()][0]}"
        raise UserError(problem, advice="delete it and run the workflow again")
    return rows["offset"].to_numpy(np.int64), rows["length"].to_numpy(np.int64)


def packed_pixels(path: str | os.PathLike, size: int, color: str) -> np.ndarray:
    """The decoded images in the file `path`: uint8, N x size x size x channels, mapped into memory."""
    return np.memmap(path, np.uint8, "r").reshape(-1, size, size, CHANNELS[color])
