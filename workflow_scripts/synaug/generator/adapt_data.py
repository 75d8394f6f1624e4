"""The images and captions that an adapter is trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from synaug.config import Prompts
from synaug.generator.train_autoencoder import encode
from synaug.images.codec import open_image
from synaug.images.store import stream_images
from synaug.manifests import read_manifest, with_group
from synaug.plan.prompts import cell_prompts
from synaug.runtime.errors import UserError

_ENCODED_AT_ONCE = 8  # images of 1,024 pixels that fit into the memory of a small GPU together


@dataclass(frozen=True)
class TrainingImages:
    """The images of an experiment that an adapter is trained on.

    rows: their rows of the manifest `real`. cells: the classes (in groups) that have images, sorted. labels: for each
    row, its position in `cells` (int, N). captions: for each cell, its captions.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame
    labels: np.ndarray
    captions: list[list[str]]


def read_training_images(
    real: str, train_split: str, prompts: Prompts, group_columns: Sequence[str] = ()
) -> TrainingImages:
    """The usable images of the split `train_split` in the manifest `real`, and no other images.

    prompts: from `plan.prompts.caption_prompts`. Raises UserError if there is no such image.
    """
    rows = with_group(read_manifest("real", real))
    known = rows[rows["usable"]].drop_duplicates(["label", "group"])
    rows = rows[rows["usable"] & (rows["split"] == train_split)].reset_index(drop=True)
    if rows.empty:
        raise UserError(
            f"{real}: has no usable image in the split {train_split!r}, and an adapter needs some",
            advice="add images, or leave the block adaptation out",
        )
    key = ["label", "group"]
    # Prompts may name classes that have no training image.
    known = known.sort_values(key, ignore_index=True)
    captions_of = dict(zip(map(tuple, known[key].to_numpy()), cell_prompts(prompts, known, group_columns), strict=True))
    cells = rows.drop_duplicates(key).sort_values(key, ignore_index=True)
    number_of = pd.Series(cells.index, pd.MultiIndex.from_frame(cells[key]))
    labels = number_of.loc[pd.MultiIndex.from_frame(rows[key])].to_numpy(np.int64, copy=True)
    return TrainingImages(rows, cells, labels, [captions_of[tuple(cell)] for cell in cells[key].to_numpy()])


def whole_image(data: bytes, size: int, color: str) -> np.ndarray:
    """Decode to uint8, size x size x channels, with nothing cut off.

    The longer side is scaled to `size` (bicubic, antialiased), and the rest is filled with the mirror image: bars of
    one colour, or streaks, would be learnt and appear in synthetic images.
    """
    image = open_image(data, color)
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).reshape(height, width, -1)
    missing = [(size - side) for side in (height, width)]
    return np.pad(pixels, [(total // 2, total - total // 2) for total in missing] + [(0, 0)], mode="symmetric")


def encode_images(
    autoencoder, rows: pd.DataFrame, root: Path, size: int, flip: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations of the latents of `rows`, as the denoiser sees them: float16, M x N x L x s x s.

    M is 2 with `flip` (the second: of the mirrored images), otherwise 1. root: folder that relative paths start from.
    autoencoder: in float32, since that of SDXL overflows at half precision.
    """
    color = "grey" if autoencoder.config.in_channels == 1 else "rgb"
    shift, scale = _latent_scale(autoencoder.config)
    mean, std = torch.empty(0), torch.empty(0)
    for positions, pixels in _batches(rows, root, size, color):
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        for i, part in enumerate([images, images.flip(3)] if flip else [images]):
            means, stds = encode(autoencoder, part)
            if not len(mean):  # the shape of the latents is known
                shape = (2 if flip else 1, len(rows), *means.shape[1:])
                mean, std = torch.empty(shape, dtype=torch.float16), torch.empty(shape, dtype=torch.float16)
            mean[i, positions], std[i, positions] = ((means - shift) * scale).half(), (stds * scale).half()
    return mean, std


def _batches(rows: pd.DataFrame, root: Path, size: int, color: str) -> Iterator[tuple[list[int], np.ndarray]]:
    positions, pixels = [], []
    for position, data, _ in stream_images(rows, root):
        positions.append(position)
        pixels.append(whole_image(data, size, color))
        if len(positions) == _ENCODED_AT_ONCE:
            yield positions, np.stack(pixels)
            positions, pixels = [], []
    if positions:
        yield positions, np.stack(pixels)


def _latent_scale(config) -> tuple[torch.Tensor | float, torch.Tensor | float]:
    """Shift and scale between the autoencoder's latents and the denoiser's: (latents - shift) * scale."""

    def per_channel(name: str, default: float) -> torch.Tensor | float:
        values = getattr(config, name, None)
        return default if values is None else torch.tensor(values)[:, None, None]

    shift = per_channel("latents_mean", getattr(config, "shift_factor", None) or 0.0)
    return shift, config.scaling_factor / per_channel("latents_std", 1.0)
