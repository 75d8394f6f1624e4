"""RandAugment of a batch."""

import numpy as np
import torch
from torchvision.transforms import v2

from synaug.training.transfer import to_device


class BatchRandAugment(v2.RandAugment):
    """torchvision's RandAugment, drawn anew for each image of a batch: uint8, N x C x H x W, 1 or 3 channels.

    Each operation is applied once, to all images that get it. Random numbers come from the global generator of torch,
    whose state is part of a checkpoint.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The augmented images, with the same type and shape."""
        size = images.shape[2:]
        for _ in range(self.num_ops):
            # Even and odd numbers: an operation with a positive and with a negative magnitude, if it has a sign.
            numbers = torch.randint(2 * len(self._AUGMENTATION_SPACE), (len(images),)).numpy()
            order = np.argsort(numbers, kind="stable")
            counts = np.bincount(numbers, minlength=2 * len(self._AUGMENTATION_SPACE))
            parts = iter(images[to_device(order, images.device)].split(counts.tolist()))
            changed = []
            for name, (magnitudes, signed) in self._AUGMENTATION_SPACE.items():
                of_magnitude = magnitudes(self.num_magnitude_bins, *size)
                magnitude = 0.0 if of_magnitude is None else float(of_magnitude[self.magnitude])
                for sign in (1, -1 if signed else 1):
                    changed.append(self._apply(next(parts), name, sign * magnitude))
            images = torch.cat(changed)[to_device(np.argsort(order), images.device)]
        return images

    def _apply(self, images: torch.Tensor, name: str, magnitude: float) -> torch.Tensor:
        if not len(images):
            return images
        return self._apply_image_or_video_transform(images, name, magnitude, self.interpolation, self._fill)
