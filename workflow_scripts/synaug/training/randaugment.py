"""RandAugment of a batch."""

import numpy as np
import torch
from torchvision.transforms import v2

from synaug.training.transfer import to_device


def rand_augment(images: torch.Tensor, operations: int, magnitude: int) -> torch.Tensor:
    """torchvision's RandAugment, drawn anew for each image: uint8, N x C x H x W, 1 or 3 channels.

    operations, magnitude: of the config block `randaugment`. Each operation is applied once, to all images that get it.
    Random numbers come from the global generator of torch, whose state is part of a checkpoint.
    """
    transform = v2.RandAugment(operations, magnitude)
    # Each operation twice: with a positive and with a negative magnitude, if it has a sign.
    choices = []
    for name, (magnitudes, signed) in transform._AUGMENTATION_SPACE.items():
        values = magnitudes(transform.num_magnitude_bins, *images.shape[2:])
        value = 0.0 if values is None else float(values[magnitude])
        choices += [(name, value), (name, -value if signed else value)]
    for _ in range(operations):
        drawn = torch.randint(len(choices), (len(images),)).numpy()
        order, counts = np.argsort(drawn, kind="stable"), np.bincount(drawn, minlength=len(choices))
        parts = images[to_device(order, images.device)].split(counts.tolist())
        changed = [
            transform._apply_image_or_video_transform(part, *choice, transform.interpolation, transform._fill)
            for part, choice in zip(parts, choices, strict=True)
            if len(part)
        ]
        images = torch.cat(changed)[to_device(np.argsort(order), images.device)]
    return images
