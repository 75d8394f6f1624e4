"""Fashion-MNIST in its authors' files (idx: a header of sizes, then one byte per pixel or label), gzipped or not."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from synaug.runtime.errors import UserError

CLASSES = [
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
]
_PREFIX = {"train": "train", "test": "t10k"}
_LARGEST = 60_000 * 28 * 28  # bytes of the largest array
_DIMENSIONS = {"images": 3, "labels": 1}  # number of dimensions of the array in each kind of file


def files(root: Path, name: str) -> list[Path]:
    """Paths of the four files, in `root` or where torchvision puts them below `root`. They need not exist.

    name: always fashion_mnist; the readers of all published data sets have the same arguments.
    """
    return [_path(root, part, content) for part in _PREFIX for content in _DIMENSIONS]


def read(root: Path, name: str, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (uint8, N x 28 x 28 x 1), labels (int64, N) and class names of `part` (train or test), as stored.

    Raises UserError if a file is missing or damaged.
    """
    images, labels = (_read_idx(_path(root, part, content), number) for content, number in _DIMENSIONS.items())
    path = _path(root, part, "labels")
    if len(images) != len(labels):
        raise UserError(f"{path}: has {len(labels)} labels for {len(images)} images; download it again")
    if labels.max(initial=0) >= len(CLASSES):
        raise UserError(f"{path}: has the label {labels.max()}, the largest should be 9; download it again")
    return images[..., None], labels.astype(np.int64), CLASSES


def _path(root: Path, part: str, content: str) -> Path:
    """The file of `content` (images, labels) of `part`: the first one that exists, or else the first possible one."""
    name = f"{_PREFIX[part]}-{content}-idx{_DIMENSIONS[content]}-ubyte"
    folders = (root / "FashionMNIST" / "raw", root)
    paths = [folder / file for folder in folders for file in (name, f"{name}.gz")]
    return next((path for path in paths if path.is_file()), paths[0])


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an idx file: two zero bytes, 8 (uint8), the number of dimensions, sizes (big-endian), values."""
    incomplete = UserError(f"{path}: is not a complete idx file with {dimensions} dimensions; download it again")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
                raise incomplete
            sizes = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(sizes)
            # A small compressed file may hold gigabytes: no more is read than the published files have.
            content = file.read(size + 1) if size <= _LARGEST else b""
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); download it again") from None
    if len(content) != size:
        raise incomplete
    return np.frombuffer(content, np.uint8).reshape(sizes)
