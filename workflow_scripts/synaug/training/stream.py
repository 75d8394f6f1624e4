"""Large training images: packed into one file, decoded by threads while the network works on the batch before."""

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from PIL import Image

from synaug.images.codec import CHANNELS, decode_image, open_image
from synaug.images.store import read_encoded
from synaug.manifests import with_group
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path
from synaug.training.augmentation import draw_crops
from synaug.training.sampling import Halves, Sampler

AHEAD = 3  # batches that are decoded in advance


def pack_images(rows: pd.DataFrame, path: str | os.PathLike) -> pd.DataFrame:
    """Copy the encoded images of `rows` (path, row, column) one behind the other to the file `path`.

    Returns rows of the manifest `packed`. Raises UserError if an image is gone.
    """
    offsets, lengths = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    end = 0
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for positions, images in read_encoded(rows):
            for position, data in zip(positions, images, strict=True):
                file.write(data)
                offsets[position], lengths[position] = end, len(data)
                end += len(data)
    where = with_group(rows)[["image_id", "label", "label_name", "group", "source", "weight"]]
    return where.assign(offset=offsets, length=lengths)


class StreamedImages:
    """Images of a packed file. `images[positions]` is a batch like that of a tensor: uint8, n x C x size x size.

    A batch that was prepared (by `Ahead`) comes with random crops; any other one as it is for a test, whole.
    """

    def __init__(
        self, path: str, offsets: np.ndarray, lengths: np.ndarray, size: int, color: str, device: str, threads: int
    ):
        """path: of `pack_images`. offsets, lengths: int64, N. threads: that decode."""
        self.path, self.offsets, self.lengths = path, offsets, lengths
        self.size, self.color, self.device = size, color, torch.device(device)
        self.shape = (len(offsets), CHANNELS[color], size, size)
        self.threads = threads
        self.bytes = np.memmap(path, np.uint8, "r")
        self.pool = ThreadPoolExecutor(threads)
        self.prepared: tuple[torch.Tensor, list[Future], np.ndarray] | None = None

    def __getitem__(self, positions: torch.Tensor) -> torch.Tensor:
        """The batch at `positions` (int64, n)."""
        prepared, self.prepared = self.prepared, None
        if prepared is None or not torch.equal(prepared[0], positions):
            prepared = self.prepare(positions, None)
        _, jobs, pixels = prepared
        for job in jobs:
            job.result()
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def prepare(self, positions: torch.Tensor, crops: np.ndarray | None) -> tuple:
        """Start to decode a batch. crops: of `draw_crops`, or None for whole images."""
        pixels = np.empty((len(positions), self.size, self.size, CHANNELS[self.color]), np.uint8)
        # A few jobs per thread: one per image would cost more than small images take.
        parts = np.array_split(np.arange(len(positions)), min(len(positions), 4 * self.threads))
        jobs = [self.pool.submit(self._decode, positions, part, crops, pixels) for part in parts]
        return positions, jobs, pixels

    def subset(self, positions: np.ndarray) -> "StreamedImages":
        """The images at `positions` (int64)."""
        where = (self.offsets[positions], self.lengths[positions])
        return StreamedImages(self.path, *where, self.size, self.color, str(self.device), self.threads)

    def _decode(self, positions: torch.Tensor, part: np.ndarray, crops: np.ndarray | None, pixels: np.ndarray) -> None:
        for i in part:
            position = positions[i]
            start = self.offsets[position]
            data = self.bytes[start : start + self.lengths[position]].tobytes()
            try:
                if crops is None:
                    pixels[i] = decode_image(data, self.size, self.color)
                else:
                    pixels[i] = decode_crop(data, crops[i], self.size, self.color)
            except Exception as error:
                raise UserError(f"{self.path}: image {position} cannot be decoded ({error}); delete it") from None


def decode_crop(data: bytes, crop: np.ndarray, size: int, color: str) -> np.ndarray:
    """Cut `crop` (left, top, width, height: shares of the sides) out of an encoded image and scale it to `size`.

    uint8, size x size x channels. A JPEG is decoded at a half, a quarter or an eighth if that is still large enough.
    """
    # As many pixels as the crop needs: the whole image is larger by the inverse of its share.
    image = open_image(data, color, at_least=(round(size / crop[2]), round(size / crop[3])))
    left, top, width, height = crop * np.array([*image.size, *image.size])
    cut = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    return np.asarray(cut).reshape(size, size, CHANNELS[color])


class Ahead:
    """A sampler for `StreamedImages`: it draws batches in advance, so that they are decoded when they are wanted.

    `state` is that before the first batch that was not drawn yet, so a training goes on exactly.
    """

    def __init__(
        self, sampler: Sampler | Halves, images: StreamedImages, crop_area: float, share: Callable | None = None
    ):
        """sampler: with a random generator that nothing else draws from. share: part of a batch to decode here."""
        self.sampler, self.images, self.crop_area = sampler, images, crop_area
        self.share = share or (lambda values: values)
        self.batch_size, self.count = sampler.batch_size, sampler.count
        self.queue: deque[tuple[dict, torch.Tensor, tuple]] = deque()

    def draw(self) -> torch.Tensor:
        """Positions of the next step, int64, batch size."""
        while len(self.queue) <= AHEAD:
            state, positions = self.sampler.state, self.sampler.draw()
            crops = draw_crops(len(positions), self.crop_area, self.sampler.rng) if self.crop_area < 1 else None
            mine = None if crops is None else self.share(torch.from_numpy(crops)).numpy()
            self.queue.append((state, positions, self.images.prepare(self.share(positions), mine)))
        _, positions, self.images.prepared = self.queue.popleft()
        return positions

    @property
    def state(self) -> dict:
        """What decides all that comes."""
        return self.queue[0][0] if self.queue else self.sampler.state

    @state.setter
    def state(self, state: dict) -> None:
        self.queue.clear()
        self.sampler.state = state
