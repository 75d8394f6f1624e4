"""The real images that image-to-image starts from."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from synaug.images.codec import decode_image
from synaug.images.store import read_encoded
from synaug.manifests import read_with_local_paths
from synaug.runtime.errors import UserError


class RealImages(Mapping):
    """image_id -> uint8, size x size x 3.

    The first access reads all of them: a shard whose images exist needs none. The encoded images are kept in memory,
    and one is decoded on each access. Raises UserError, at the first access, if an image is missing.
    """

    def __init__(self, real: str | Path, image_ids: Iterable[str], size: int) -> None:
        """The images `image_ids` of the manifest `real`."""
        self.real, self.wanted, self.size = real, set(image_ids), size

    @functools.cached_property
    def encoded(self) -> dict:
        """image_id -> the encoded image."""
        rows = read_with_local_paths(
            "real", self.real, ["image_id", "path", "row", "column"], filters=[("image_id", "in", self.wanted)]
        )
        if missing := self.wanted - set(rows["image_id"]):
            raise UserError(
                f"{self.real}: has no image {min(missing)}, which a synthetic image starts from; run the workflow again"
            )
        names = rows["image_id"].tolist()
        return {
            names[i]: data
            for positions, images in read_encoded(rows)
            for i, data in zip(positions, images, strict=True)
        }

    def __getitem__(self, image_id: str) -> np.ndarray:
        return decode_image(self.encoded[image_id], self.size, "rgb")

    def __iter__(self) -> Iterator[str]:
        return iter(self.encoded)

    def __len__(self) -> int:
        return len(self.encoded)
