"""Augmentation of whole batches on the device."""

import numpy as np
import torch
import torch.nn.functional as F

from synaug.config import Stage1


def augment(images: torch.Tensor, settings: Stage1, rng: np.random.Generator) -> torch.Tensor:
    """Random crop, translation, horizontal flip and RandAugment, as `settings` say, image by image.

    images: uint8, N x C x H x W; the same comes back.
    """
    if settings.crop_area < 1:
        images = crop(images, draw_crops(len(images), settings.crop_area, rng))
    return shift_and_flip(images, settings, rng)


def shift_and_flip(images: torch.Tensor, settings: Stage1, rng: np.random.Generator) -> torch.Tensor:
    """All of `augment` but the crop, which large images had when they were decoded."""
    count, _, height, width = images.shape
    if shift := settings.shift:
        across, down = (
            torch.from_numpy(rng.integers(0, 2 * shift + 1, (2, count, 1)))[:, :, 0].flip(0).to(images.device)
        )
        # A view of all places where the image may be cut out; taking one of each is the only copy.
        places = F.pad(images, (shift, shift, shift, shift)).unfold(2, height, 1).unfold(3, width, 1)
        images = places[torch.arange(count, device=images.device), :, down, across]
    if settings.flip:
        turned = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
        images = torch.where(turned[:, None, None, None], images.flip(3), images)
    if settings.randaugment:
        from torchvision.transforms import v2

        # Its random numbers are those of torch, whose state a checkpoint holds.
        operations = v2.RandAugment(settings.randaugment.operations, settings.randaugment.magnitude)
        images = torch.stack([operations(image) for image in images])
    return images


def draw_crops(count: int, smallest_area: float, rng: np.random.Generator) -> np.ndarray:
    """Random crops as (left, top, width, height), shares of the image's sides: float, N x 4.

    The area is uniform from `smallest_area` to 1 and the aspect, relative to the image's, log-uniform from 3/4 to 4/3
    (Szegedy et al. 2015), as in torchvision; a crop that would not fit is cut to the image instead of drawn again.
    """
    area, aspect, x, y = rng.random((4, count))
    area = smallest_area + (1 - smallest_area) * area
    aspect = (4 / 3) ** (2 * aspect - 1)
    width, height = np.minimum(np.sqrt(area * aspect), 1), np.minimum(np.sqrt(area / aspect), 1)
    return np.stack([x * (1 - width), y * (1 - height), width, height], 1)


def crop(images: torch.Tensor, crops: np.ndarray) -> torch.Tensor:
    """Cut out `crops` (of `draw_crops`) and scale them to the size of the images (bilinear): uint8, N x C x H x W."""
    left, top, width, height = torch.from_numpy(crops).float().to(images.device).T
    transform = torch.zeros(len(images), 2, 3, device=images.device)
    transform[:, 0, 0], transform[:, 1, 1] = width, height
    transform[:, 0, 2], transform[:, 1, 2] = 2 * left + width - 1, 2 * top + height - 1
    grid = F.affine_grid(transform, list(images.shape), align_corners=False)
    cut = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return cut.round().byte()
