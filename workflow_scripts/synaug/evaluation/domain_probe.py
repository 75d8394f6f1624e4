"""The domain gap in the features of a network: how well they separate real from synthetic images.

It is measured on images that no network is trained on. A network may know its training images by heart; their features
then differ between the domains even if new images of both domains look alike.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import group_sums, resample, value_with_interval
from synaug.evaluation.linear_probe import FOLDS, probe_correct
from synaug.evaluation.predictions import compute_features
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


def domain_probe(
    model: Classifier, rows: pd.DataFrame, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, float, float]:
    """Share of images whose domain a linear probe on the features predicts (mean of both domains), and its interval.

    rows: from `paired_images`. batches: positions in `rows` and their pixels, as of `iterate_pixels`. The 95 % interval
    is over images. 0.5 is chance. With too few images for the probe, the result is 0.5 with the interval 0 to 1.
    """
    synthetic = (rows["source"] == "synthetic").to_numpy(int)
    if min(synthetic.sum(), len(rows) - synthetic.sum()) < FOLDS:
        return 0.5, 0.0, 1.0
    correct = probe_correct(compute_features(model, len(rows), batches), synthetic)
    shares = (group_sums(resample(synthetic), synthetic, correct, 2) / np.bincount(synthetic)).mean(1)
    return value_with_interval(shares)
