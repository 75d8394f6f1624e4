"""Images that many networks read: large ones packed into one file, small ones decoded once and kept."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import PIL

from synaug.images import codec
from synaug.images.codec import CHANNELS
from synaug.images.store import iterate_pixels, read_encoded
from synaug.manifests import read_manifest
from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path, file_hash, open_lock_file, text_hash


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
    colour, version of Pillow or of the decoding code has a folder of its own. `images.bin` holds pixels (uint8, size x
    size x channels), one image after the other, and `hashes.bin` their keys (32 bytes each), written after the pixels:
    what a killed process leaves behind the last key is overwritten.
    """

    def __init__(self, folder: str | os.PathLike, size: int, color: str):
        self.size, self.color = size, color
        version = text_hash(file_hash(str(codec.__file__)), PIL.__version__)[:8]
        self.folder = Path(folder) / f"{size}-{color}-{version}"

    def pixels(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """All images of the folder (uint8, N x size x size x channels, memory-mapped), and positions (int64) of `rows`.

        rows: columns sha256, path, row, column. Raises UserError if an image is gone or cannot be decoded.
        """
        keys = [bytes.fromhex(sha256) for sha256 in rows["sha256"]]
        with space_for(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open_lock_file(self.folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                positions = self._positions()
                missing = rows[[key not in positions for key in keys]].drop_duplicates("sha256")
                if len(missing):
                    self._append(missing, len(positions))
                    positions = self._positions()
        if not positions:  # an empty file cannot be mapped
            return np.empty((0, self.size, self.size, CHANNELS[self.color]), np.uint8), np.empty(0, np.int64)
        shape = (len(positions), self.size, self.size, CHANNELS[self.color])
        pixels = np.memmap(self.folder / "images.bin", np.uint8, "r", shape=shape)
        return pixels, np.array([positions[key] for key in keys], np.int64)

    def _positions(self) -> dict[bytes, int]:
        file = self.folder / "hashes.bin"
        data = file.read_bytes() if file.exists() else b""
        return {data[32 * i : 32 * (i + 1)]: i for i in range(len(data) // 32)}

    def _append(self, rows: pd.DataFrame, count: int) -> None:
        """Decode `rows` behind the first `count` images."""
        length = self.size**2 * CHANNELS[self.color]
        path = self.folder / "images.bin"
        with space_for(path, len(rows) * length), _open_to_change(path) as file:
            for positions, images in iterate_pixels(rows, self.size, self.color):
                for position, image in zip(positions.tolist(), images, strict=True):
                    file.seek((count + position) * length)
                    file.write(image.tobytes())
            file.flush()
            os.fsync(file.fileno())
        hashes = self.folder / "hashes.bin"
        with space_for(hashes, 32 * len(rows)), _open_to_change(hashes) as file:
            file.seek(count * 32)
            file.write(b"".join(bytes.fromhex(sha256) for sha256 in rows["sha256"]))
            file.truncate()
            file.flush()
            os.fsync(file.fileno())


def _open_to_change(path: Path) -> BinaryIO:
    """Open `path` to read and write anywhere in it; it is created if it is missing."""
    path.touch()
    return open(path, "r+b")
