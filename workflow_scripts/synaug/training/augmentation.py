"""Random augmentation of whole batches on the device."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from synaug.config import Stage1
from synaug.training.transfer import to_device


def augment(images: torch.Tensor, settings: Stage1, rng: np.random.Generator, *, cropped: bool = False) -> torch.Tensor:
    """Random crop, translation, horizontal flip and RandAugment according to `settings`, drawn anew for each image.

    images: uint8, N x C x H x W; the result has the same type and shape. cropped: the images have had their random
    crop already (large images are cropped while they are decoded).
    """
    if settings.crop_area < 1 and not cropped:
        images = crop(images, draw_crops(len(images), settings.crop_area, rng))
    if settings.shift:
        images = translate(images, settings.shift, rng)
    if settings.flip:
        images = flip(images, rng)
    if settings.randaugment:
        from synaug.training.randaugment import rand_augment  # it imports torchvision, which takes seconds

        images = rand_augment(images, settings.randaugment.operations, settings.randaugment.magnitude)
    return images


def translate(images: torch.Tensor, max_shift: int, rng: np.random.Generator) -> torch.Tensor:
    """Shift each image by up to `max_shift` pixels in both directions; what comes into view is black."""
    count, _, height, width = images.shape
    top, left = to_device(rng.integers(0, 2 * max_shift + 1, (2, count)), images.device)
    # A view of every window of the padded images. Indexing it is the only copy.
    windows = F.pad(images, (max_shift,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, top, left]


def flip(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror each image horizontally with probability 1/2."""
    flipped = to_device(rng.random(len(images)) < 0.5, images.device)
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def draw_crops(count: int, min_area: float, rng: np.random.Generator) -> np.ndarray:
    """Random crops as (x, y, width, height): float, N x 4.

    width, height: shares of the side of a square with the image's area. The area is uniform from `min_area` to 1 and
    the aspect ratio log-uniform from 3/4 to 4/3, as in torchvision (Szegedy et al. 2015). x, y: where the crop lies,
    from 0 (left, top) to 1 (right, bottom). See `place_crops`.
    """
    area, aspect, x, y = rng.random((4, count))
    area = min_area + (1 - min_area) * area
    aspect = (4 / 3) ** (2 * aspect - 1)
    return np.stack([x, y, np.sqrt(area * aspect), np.sqrt(area / aspect)], 1)


def place_crops(crops: np.ndarray, width: int, height: int) -> np.ndarray:
    """`crops` (of `draw_crops`, N x 4) in images of this size, as left, top, width, height in pixels: float, N x 4.

    A crop that does not fit is cut to the image. (torchvision draws it again.)
    """
    sides = np.array([width, height])
    sizes = np.minimum(crops[:, 2:] * math.sqrt(width * height), sides)
    return np.concatenate([crops[:, :2] * (sides - sizes), sizes], 1)


def crop(images: torch.Tensor, crops: np.ndarray) -> torch.Tensor:
    """Cut out `crops` (of `draw_crops`) and scale them to the size of the images (bilinear): uint8, N x C x H x W."""
    size = images.shape[-1]
    placed = place_crops(crops, size, size) / size
    left, top, width, height = to_device(placed.astype(np.float32), images.device).T
    # Affine maps from the coordinates of the result to those of the image; both run from -1 to 1.
    transform = torch.zeros(len(images), 2, 3, device=images.device)
    transform[:, 0, 0], transform[:, 1, 1] = width, height
    transform[:, 0, 2], transform[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    cropped = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return cropped.round().byte()
