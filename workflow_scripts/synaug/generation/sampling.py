"""The sampling loop: rows of the plan in, pixels out."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F


def sample(pipeline, rows: pd.DataFrame, batch_size: int) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield (rows of a batch, their pixels: uint8, N x stored_size x stored_size x channels), batch by batch.

    rows: of the plan, all of one model. Every image has a random generator of its own, on the CPU, and every batch
    the same shape (the last one is padded with copies that are thrown away): an image depends neither on the device's
    random numbers nor on its neighbours. Rows that differ in steps, guidance or size are not sampled together.
    """
    for _, alike in rows.groupby(["size", "stored_size", "color", "steps", "guidance", "negative_prompt"], sort=True):
        for start in range(0, len(alike), batch_size):
            batch = alike.iloc[start : start + batch_size]
            yield batch, _sample_batch(pipeline, batch, batch_size)


@torch.inference_mode()
def _sample_batch(pipeline, batch: pd.DataFrame, batch_size: int) -> np.ndarray:
    first = batch.iloc[0]
    padded = batch.iloc[np.minimum(np.arange(batch_size), len(batch) - 1)]
    negative = {"negative_prompt": [first["negative_prompt"]] * batch_size} if first["negative_prompt"] else {}
    images = pipeline(
        padded["prompt"].tolist(),
        num_inference_steps=int(first["steps"]),
        guidance_scale=float(first["guidance"]),
        height=int(first["size"]),
        width=int(first["size"]),
        generator=[torch.Generator("cpu").manual_seed(int(seed)) for seed in padded["seed"]],
        output_type="pt",
        **negative,
    ).images
    return to_uint8(images, int(first["stored_size"]), first["color"])[: len(batch)]


def to_uint8(images: torch.Tensor, size: int, color: str) -> np.ndarray:
    """Float images in 0 to 1 (N x 1 or 3 x H x W) to uint8, N x size x size x channels, computed on their device.

    Scaled down with antialiasing (bicubic, as the real images are). A NaN becomes 0: screening finds it as blank.
    """
    images = images.float().nan_to_num()
    if color == "grey" and images.shape[1] == 3:
        # ITU-R 601 luma, the weights of Pillow's conversion of the real images.
        images = (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    elif color == "rgb" and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[-1] != size or images.shape[-2] != size:
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
