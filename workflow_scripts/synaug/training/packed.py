"""Large images: read from the packed file, and decoded by threads while the network works on an earlier batch."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from synaug.images.codec import CHANNELS, decode_image, open_image
from synaug.runtime.errors import UserError
from synaug.training.augmentation import draw_crops, place_crops
from synaug.training.sampling import Sampler, TwoPhaseSampler

PREFETCHED_BATCHES = 3  # decoded in advance


class DecodingBatch(NamedTuple):
    """A batch that threads are decoding: they fill `pixels` (uint8, n x size x size x C); `jobs` tells when."""

    positions: torch.Tensor
    jobs: list[Future]
    pixels: torch.Tensor

    def wait(self) -> torch.Tensor:
        """`pixels`, when all images are decoded. Raises UserError if an image cannot be decoded."""
        for job in self.jobs:
            job.result()
        return self.pixels


class PackedImages:
    """Images of a packed file. `images[positions]` is a batch as of a tensor: uint8, n x C x size x size.

    A batch that a `Prefetcher` has drawn comes with its random crops. Any other batch is of whole images.
    """

    def __init__(
        self, path: str, offsets: np.ndarray, lengths: np.ndarray, size: int, color: str, device: str, threads: int
    ):
        """path: written by `pack_images`, with encoded images. offsets, lengths: int64, N. threads: that decode."""
        self.path, self.offsets, self.lengths = path, offsets, lengths
        self.size, self.color, self.device = size, color, torch.device(device)
        self.shape = (len(offsets), CHANNELS[color], size, size)
        self.threads = threads
        self.bytes = np.memmap(path, np.uint8, "r")
        self.pool = ThreadPoolExecutor(threads)
        self.prefetched: DecodingBatch | None = None  # the batch that the sampler has drawn last

    def __getitem__(self, positions: torch.Tensor) -> torch.Tensor:
        """The batch at `positions` (int64, n)."""
        batch, self.prefetched = self.prefetched, None
        if batch is None or not torch.equal(batch.positions, positions):
            batch = self.start_decoding(positions, None)
        return batch.wait().permute(0, 3, 1, 2).to(self.device, non_blocking=True)

    def start_decoding(self, positions: torch.Tensor, crops: np.ndarray | None) -> DecodingBatch:
        """Let the threads decode a batch. crops: of `draw_crops`; None: whole images."""
        shape = (len(positions), self.size, self.size, CHANNELS[self.color])
        # In page-locked memory, from which a GPU reads while the CPU goes on.
        pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        # A few jobs per thread: one job per image would cost more than small images take to decode.
        parts = np.array_split(np.arange(len(positions)), min(len(positions), 4 * self.threads))
        jobs = [self.pool.submit(self._decode, positions, part, crops, pixels.numpy()) for part in parts]
        return DecodingBatch(positions, jobs, pixels)

    def subset(self, positions: np.ndarray) -> "PackedImages":
        """The images at `positions` (int64)."""
        offsets, lengths = self.offsets[positions], self.lengths[positions]
        return PackedImages(self.path, offsets, lengths, self.size, self.color, str(self.device), self.threads)

    def _decode(self, positions: torch.Tensor, part: np.ndarray, crops: np.ndarray | None, pixels: np.ndarray) -> None:
        """Decode those images of a batch that `part` (positions in the batch) names, into `pixels`."""
        for i in part:
            position = positions[i]
            start = self.offsets[position]
            encoded = self.bytes[start : start + self.lengths[position]].tobytes()
            try:
                if crops is None:
                    pixels[i] = decode_image(encoded, self.size, self.color)
                else:
                    pixels[i] = decode_crop(encoded, crops[i], self.size, self.color)
            except Exception as error:
                problem = f"{self.path}: image {position} cannot be decoded ({error})"
                raise UserError(problem, advice="delete this file and run again") from None


def decode_crop(encoded: bytes, crop: np.ndarray, size: int, color: str) -> np.ndarray:
    """Cut `crop` (a row of `draw_crops`) out of an encoded image and scale it to `size`.

    uint8, size x size x channels. A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is still large enough.
    """

    def at_least(*sides: int) -> tuple[int, int]:
        """The size of an image whose crop has `size` pixels."""
        of_crop = place_crops(crop[None], *sides)[0, 2:]
        return round(size * sides[0] / of_crop[0]), round(size * sides[1] / of_crop[1])

    image = open_image(encoded, color, at_least)
    left, top, width, height = place_crops(crop[None], *image.size)[0]
    cropped = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    return np.asarray(cropped).reshape(size, size, CHANNELS[color])


class Prefetcher:
    """A sampler that draws batches in advance, so that `PackedImages` has decoded them when they are needed.

    A training that continues from its `state_dict` sees the same batches and crops as one without an interruption.
    """

    def __init__(
        self,
        sampler: Sampler | TwoPhaseSampler,
        images: PackedImages,
        crop_area: float,
        part_of: Callable[[torch.Tensor], torch.Tensor],
    ):
        """sampler: only this class may draw from its random generator. crop_area: smallest area of a crop; 1: no crop.

        part_of: the part of a batch that this process decodes (`Process.part_of`).
        """
        self.sampler, self.images, self.crop_area, self.part_of = sampler, images, crop_area, part_of
        self.batch_size, self.image_count = sampler.batch_size, sampler.image_count
        # For each batch drawn in advance: state of the sampler before it, positions, and this process's part of it.
        self.queue: deque[tuple[dict, torch.Tensor, DecodingBatch]] = deque()

    def draw(self) -> torch.Tensor:
        """Positions of the images of the next batch, int64, batch size."""
        while len(self.queue) <= PREFETCHED_BATCHES:
            state, positions, crops = self.sampler.state_dict(), self.sampler.draw(), None
            if self.crop_area < 1:
                crops = draw_crops(len(positions), self.crop_area, self.sampler.rng)
                crops = self.part_of(torch.from_numpy(crops)).numpy()
            self.queue.append((state, positions, self.images.start_decoding(self.part_of(positions), crops)))
        _, positions, self.images.prefetched = self.queue.popleft()
        return positions

    def state_dict(self) -> dict:
        """State of the sampler before the next batch that `draw` returns."""
        return self.queue[0][0] if self.queue else self.sampler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict`."""
        self.queue.clear()
        self.sampler.load_state_dict(state)
