"""Predictions of a network for images."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from synaug.manifests import with_group
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier, images_at_once

_BATCH = 256  # images of up to 64 pixels whose features are computed at once; as many pixels of larger ones


def predict(model: Classifier, images: pd.DataFrame, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """Rows of the manifest `predictions`, one per row of `images` (manifest `real`).

    batches: positions in `images` and their pixels, as of `iterate_pixels`.
    """
    probabilities = np.empty((len(images), len(model.config["classes"])), np.float32)
    for positions, pixels in batches:
        probabilities[positions] = model.probabilities(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return _predictions(images, probabilities)


def predict_from_features(model: Classifier, images: pd.DataFrame, features: np.ndarray) -> pd.DataFrame:
    """As `predict`, from the features of the images by the body of `model`: float32, N x D."""
    return _predictions(images, model.probabilities(torch.from_numpy(features)))


@torch.inference_mode()
@gpu_arithmetic()
def compute_features(model: Classifier, count: int, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Features of `count` images by the body of `model`, on its device: float32, N x D. batches: as for `predict`."""
    features = np.empty((count, model.head.in_features), np.float32)
    model.eval()
    device = model.head.weight.device
    for positions, pixels in batches:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        parts = images.split(images_at_once(images.shape, _BATCH))
        features[positions] = torch.cat([model.features(part.to(device)) for part in parts]).float().cpu().numpy()
    return features


def _predictions(images: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    return with_group(images)[["image_id", "split", "label", "label_name", "group"]].assign(
        predicted=probabilities.argmax(1), probabilities=list(probabilities)
    )
