"""Images that many networks read: large ones packed into one file, small ones decoded once and kept."""

import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from synaug.images import codec
from synaug.images.codec import CHANNELS
from synaug.images.store import iterate_pixels, read_encoded
from synaug.manifests import read_manifest
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, delete_all_leftovers, file_hash, locked_if_possible, text_hash

_KEY = 32  # bytes of a SHA-256


def pack_images(rows: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Write the encoded images of `rows` (columns image_id, path, row, column) to the file `path`, each id once.

    Returns rows of the manifest `packed`. Raises UserError if an image is gone.
    """
    rows = rows.drop_duplicates("image_id").reset_index(drop=True)
    offsets, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    end = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for positions, images in read_encoded(rows):
            for position, encoded in zip(positions, images, strict=True):
                file.write(encoded)
                offsets[position], lengths[position] = end, len(encoded)
                end += len(encoded)
    return rows[["image_id"]].assign(offset=offsets, length=lengths)


def packed_rows(index: str | os.PathLike, image_ids: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Offset and length (int64, N) of the images `image_ids`. index: the manifest `packed`.

    Raises UserError if the index lacks one.
    """
    rows = read_manifest("packed", index).set_index("image_id").reindex(image_ids)
    if rows["length"].isna().any():
        problem = f"{index}: has no image {rows.index[rows['length'].isna()][0]}"
        raise UserError(problem, advice="delete it and run the workflow again")
    return rows["offset"].to_numpy(np.int64), rows["length"].to_numpy(np.int64)


class PixelCache:
    """Decoded images in a folder that several processes share: each image is decoded by the first one that needs it.

    The key of an image is the hash of its file, so the same file is decoded once, wherever it lies. Another size,
    colour, version of Pillow or of the decoding code has a folder of its own. A process writes all images that it
    decodes into one new file `<name>.pixels`: their pixels (uint8, size x size x channels), one image after the other,
    and then their keys (32 bytes each). No file changes once it has its name, so that processes of several machines
    cannot damage each other's images, even where the file system has no locks.
    """

    def __init__(self, folder: str | os.PathLike, size: int, color: str):
        self.shape = (size, size, CHANNELS[color])
        self.size, self.color = size, color
        version = text_hash(file_hash(str(codec.__file__)), PIL.__version__)[:8]
        self.folder = Path(folder) / f"{size}-{color}-{version}"

    def pixels(self, rows: pd.DataFrame) -> "CachedPixels":
        """The images of `rows` (columns sha256, path, row, column), in their order.

        Raises UserError if an image is gone or cannot be decoded.
        """
        keys = [bytes.fromhex(sha256) for sha256 in rows["sha256"]]
        with space_for(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked_if_possible(self.folder / "lock", "another job may decode the same images"):
                places, files = self._find()
                missing = rows[[key not in places for key in keys]].drop_duplicates("sha256")
                if len(missing):
                    self._add(missing)
                    places, files = self._find()
        place = np.array([places[key] for key in keys], np.int64).reshape(-1, 2)
        return CachedPixels(files, place[:, 0], place[:, 1], self.shape)

    def _find(self) -> tuple[dict[bytes, tuple[int, int]], list[np.memmap]]:
        """For each key the number of its file and its position there, and the pixels of all files."""
        places: dict[bytes, tuple[int, int]] = {}
        files = []
        length = math.prod(self.shape)
        for number, path in enumerate(sorted(self.folder.glob("*.pixels"))):
            count = path.stat().st_size // (length + _KEY)
            files.append(np.memmap(path, np.uint8, "r", shape=(count, *self.shape)))
            with path.open("rb") as file:
                file.seek(count * length)
                keys = file.read(count * _KEY)
            places |= {keys[_KEY * i : _KEY * (i + 1)]: (number, i) for i in range(count)}
        return places, files

    def _add(self, rows: pd.DataFrame) -> None:
        """Decode `rows` into a new file. No other process may choose its name: a file that is in use never changes."""
        length = math.prod(self.shape)
        delete_all_leftovers(self.folder, ".pixels")
        path = self.folder / f"{uuid.uuid4().hex}.pixels"
        with atomic_path(path, len(rows) * (length + _KEY)) as temporary, open(temporary, "wb") as file:
            for positions, images in iterate_pixels(rows, self.size, self.color):
                for position, image in zip(positions.tolist(), images, strict=True):
                    file.seek(position * length)
                    file.write(image.tobytes())
            file.seek(len(rows) * length)
            file.write(b"".join(bytes.fromhex(sha256) for sha256 in rows["sha256"]))


@dataclass(frozen=True)
class CachedPixels:
    """Images of a `PixelCache`. An index reads those at the given positions: uint8, n x size x size x channels.

    files: their pixels, memory-mapped. file, row: number of the file and position there of each image, int64, N. shape:
    of an image.
    """

    files: list[np.memmap]
    file: np.ndarray
    row: np.ndarray
    shape: tuple[int, int, int]

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        files, rows = self.file[positions], self.row[positions]
        pixels = np.empty((len(files), *self.shape), np.uint8)
        for number in np.unique(files):
            here = files == number
            pixels[here] = self.files[number][rows[here]]
        return pixels
