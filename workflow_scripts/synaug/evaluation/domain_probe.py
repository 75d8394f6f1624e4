"""The domain gap as a network sees it: how well real and synthetic images can be told apart by its features."""

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from synaug.evaluation.bootstrap import group_sums, percentile_interval, resample
from synaug.images.store import iterate_pixels
from synaug.networks.classifier import Classifier

PER_CLASS = 100  # images of each domain at most
FOLDS = 5


def paired_images(balanced: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest `balanced`: of each class as many real images as synthetic ones, PER_CLASS at most.

    So the class says nothing of the domain. Chosen by id, which is a hash.
    """
    counts = balanced.groupby(["label", "source"]).size().unstack(fill_value=0)
    most = counts.reindex(columns=["real", "synthetic"], fill_value=0).min(axis=1).clip(upper=PER_CLASS)
    rows = balanced.sort_values(["label", "source", "image_id"])
    return rows[rows.groupby(["label", "source"]).cumcount() < rows["label"].map(most)].reset_index(drop=True)


def domain_probe(model: Classifier, rows: pd.DataFrame, size: int, color: str) -> tuple[float, float, float]:
    """Share of images whose domain a logistic regression on the network's features gets right, mean of both domains,
    and its 95 % interval over images.

    rows: of `paired_images`. Cross-validated, so that no image is asked that was learned from. 0.5: they cannot be
    told apart (or there are too few to try).
    """
    synthetic = (rows["source"] == "synthetic").to_numpy(int)
    if min(synthetic.sum(), len(rows) - synthetic.sum()) < FOLDS:
        return 0.5, 0.0, 1.0
    features = np.empty((len(rows), model.head.in_features), np.float32)
    model.eval()
    with torch.inference_mode():
        for positions, pixels in iterate_pixels(rows, size, color):
            features[positions] = model.features(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    told = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        features,
        synthetic,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
    )
    right = (told == synthetic).astype(float)
    shares = (group_sums(resample(synthetic), synthetic, right, 2) / np.bincount(synthetic)).mean(1)
    low, high = percentile_interval(shares[None, 1:])
    return float(shares[0]), float(low[0]), float(high[0])
