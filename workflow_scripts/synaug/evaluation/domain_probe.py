"""The domain gap in the features of a network: how well they separate real from synthetic images.

It is measured on images that no network is trained on. A network may know its training images by heart; their features
then differ between the domains even if new images of both domains look alike.
"""

import numpy as np
import pandas as pd
import torch

from synaug.evaluation.bootstrap import group_sums, resample, value_with_interval
from synaug.evaluation.linear_probe import FOLDS, probe_correct
from synaug.images.store import iterate_pixels
from synaug.networks.classifier import Classifier

_CELL = ["label", "group"]


def paired_images(images: pd.DataFrame) -> pd.DataFrame:
    """Rows of `images` (label, group, source, image_id): in every cell equally many real and synthetic ones.

    Equal numbers ensure that neither class nor group predicts the domain. Images are chosen by id, which is a hash.
    """
    counts = images.groupby([*_CELL, "source"]).size().unstack(fill_value=0)
    limits = counts.reindex(columns=["real", "synthetic"], fill_value=0).min(axis=1)
    rows = images.sort_values([*_CELL, "source", "image_id"], ignore_index=True)
    limit = limits.reindex(pd.MultiIndex.from_frame(rows[_CELL])).to_numpy()
    return rows[rows.groupby([*_CELL, "source"]).cumcount().to_numpy() < limit].reset_index(drop=True)


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
