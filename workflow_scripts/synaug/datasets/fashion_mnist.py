"""Fashion-MNIST in its authors' files (idx: a header of sizes, then one byte per pixel or label), packed or not."""

import gzip
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
_KINDS = {"images": 3, "labels": 1}  # and the number of dimensions


def files(root: Path, name: str) -> list[Path]:
    """Where the four files are: below `root` as torchvision lays them out, or in `root` itself; there or not."""
    return [_place(root, part, kind) for part in _PREFIX for kind in _KINDS]


def read(root: Path, name: str, part: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (uint8, N x 28 x 28 x 1), labels (int64, N) and class names of `part` (train, test), in their order.

    Raises UserError if a file is not what its name says.
    """
    images, labels = (_read_idx(_place(root, part, kind), dimensions) for kind, dimensions in _KINDS.items())
    path = _place(root, part, "labels")
    if len(images) != len(labels):
        raise UserError(f"{path}: has {len(labels)} labels for {len(images)} images; download it again")
    if labels.max(initial=0) >= len(CLASSES):
        raise UserError(f"{path}: has the label {labels.max()}, the largest should be 9; download it again")
    return images[..., None], labels.astype(np.int64), CLASSES


def _place(root: Path, part: str, kind: str) -> Path:
    name = f"{_PREFIX[part]}-{kind}-idx{_KINDS[kind]}-ubyte"
    raw = root / "FashionMNIST" / "raw"
    places = [folder / file for folder in (raw, root) for file in (name, f"{name}.gz")]
    return next((place for place in places if place.is_file()), places[0])


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array in an idx file: two zero bytes, 8 (uint8), the number of dimensions, sizes (big-endian), values."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); download it again") from None
    start = 4 + 4 * dimensions
    sizes = struct.unpack(f">{dimensions}I", content[4:start]) if len(content) >= start else ()
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != start + np.prod(sizes, dtype=np.int64):
        raise UserError(f"{path}: is no whole idx file with {dimensions} dimensions; download it again")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)
