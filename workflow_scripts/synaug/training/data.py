"""Training images: all decoded in memory, augmented in batches on the device."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from synaug.images import load_pixels


@dataclass(frozen=True)
class TrainingSet:
    """images: uint8, N x C x H x W. labels: int64, N. synthetic: bool, N. weights: float32, N."""

    images: torch.Tensor
    labels: torch.Tensor
    synthetic: torch.Tensor
    weights: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load_training_set(balanced: pd.DataFrame, size: int, color: str, device: str) -> TrainingSet:
    """Decode the images of (rows of) the manifest `balanced` on to the device, in an order that its bytes decide.

    Sorted by content, so that an image that moved to another shard changes nothing.
    """
    rows = balanced.sort_values(["image_id", "label"], ignore_index=True)
    return TrainingSet(
        torch.from_numpy(load_pixels(rows, size, color)).permute(0, 3, 1, 2).contiguous().to(device),
        torch.tensor(rows["label"].to_numpy(), dtype=torch.int64, device=device),
        torch.tensor((rows["source"] == "synthetic").to_numpy(), device=device),
        torch.tensor(rows["weight"].to_numpy(), dtype=torch.float32, device=device),
    )


def augment(images: torch.Tensor, shift: int, flip: bool, rng: np.random.Generator) -> torch.Tensor:
    """Random translation by up to `shift` pixels (edges filled with 0) and horizontal flip, image by image.

    images: N x C x H x W, any type; the same comes back.
    """
    count, _, height, width = images.shape
    if shift:
        offsets = torch.from_numpy(rng.integers(0, 2 * shift + 1, (2, count, 1))).to(images.device)
        padded = F.pad(images, (shift, shift, shift, shift))
        rows = offsets[0] + torch.arange(height, device=images.device)
        columns = offsets[1] + torch.arange(width, device=images.device)
        which = torch.arange(count, device=images.device)[:, None, None]
        images = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if flip:
        turned = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
        images = torch.where(turned[:, None, None, None], images.flip(3), images)
    return images
