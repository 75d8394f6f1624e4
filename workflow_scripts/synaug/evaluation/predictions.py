"""What a network says of images."""

import numpy as np
import pandas as pd
import torch

from synaug.images.store import iterate_pixels
from synaug.networks.classifier import Classifier


def predict(model: Classifier, manifest: pd.DataFrame, size: int, color: str) -> pd.DataFrame:
    """Rows of the manifest `predictions`, one per row of `manifest`, which is `real` or part of it."""
    probabilities = np.empty((len(manifest), len(model.config["classes"])), np.float32)
    for positions, pixels in iterate_pixels(manifest, size, color):
        probabilities[positions] = model.probabilities(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return manifest[["image_id", "split", "label", "label_name"]].assign(
        predicted=probabilities.argmax(1), probabilities=list(probabilities)
    )
