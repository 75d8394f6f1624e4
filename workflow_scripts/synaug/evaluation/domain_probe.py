"""The domain gap in the features of a network: how well they separate real from synthetic images."""

import numpy as np
import pandas as pd
import torch

from synaug.evaluation.bootstrap import group_sums, resample, value_with_interval
from synaug.evaluation.linear_probe import FOLDS, probe_correct
from synaug.images.store import iterate_pixels
from synaug.networks.classifier import Classifier

PER_CLASS = 100  # images of each domain at most


def paired_images(balanced: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest `balanced`: equally many real and synthetic images per class, at most PER_CLASS of each.

    Equal numbers ensure that the class does not predict the domain. Images are chosen by id, which is a hash.
    """
    counts = balanced.groupby(["label", "source"]).size().unstack(fill_value=0)
    limit = counts.reindex(columns=["real", "synthetic"], fill_value=0).min(axis=1).clip(upper=PER_CLASS)
    rows = balanced.sort_values(["label", "source", "image_id"])
    return rows[rows.groupby(["label", "source"]).cumcount() < rows["label"].map(limit)].reset_index(drop=True)


def domain_probe(model: Classifier, rows: pd.DataFrame, size: int, color: str) -> tuple[float, float, float]:
    """Share of images whose domain a linear probe on the features predicts (mean of both domains), and its interval.

    rows: from `paired_images`. The 95 % interval is over images. 0.5 is chance. If there are too few images for the
    probe, the result is 0.5 with the interval 0 to 1.
    """
    synthetic = (rows["source"] == "synthetic").to_numpy(int)
    if min(synthetic.sum(), len(rows) - synthetic.sum()) < FOLDS:
        return 0.5, 0.0, 1.0
    features = np.empty((len(rows), model.head.in_features), np.float32)
    model.eval()
    with torch.inference_mode():
        for positions, pixels in iterate_pixels(rows, size, color):
            features[positions] = model.features(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    correct = probe_correct(features, synthetic)
    shares = (group_sums(resample(synthetic), synthetic, correct, 2) / np.bincount(synthetic)).mean(1)
    return value_with_interval(shares)
