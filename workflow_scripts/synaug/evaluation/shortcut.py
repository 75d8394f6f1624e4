"""Whether a network has learned which group synthetic images of a class are in, instead of what the class looks like.

Where the rare groups of a class are filled and the others are not, (group, real or synthetic) together say much of the
class, and a network can use that (Qraitem et al. 2023, From Fake to Real, arXiv 2308.04553). Two measures, on images
that nothing was trained on: synthetic ones made for it, and test images, as many in every cell.

- pair_probe: share of images whose pair of group and kind (real or synthetic) a linear classifier on the features
  tells, mean over pairs. Every class is in every pair alike; chance is 1 / (2 x groups).
- swap_drop: accuracy in the groups that a class has its synthetic training images in, minus that in its other groups,
  mean over classes. Of `synthetic` images: what is lost when the synthetic images of a class are swapped between its
  groups. Of `real` ones: how much easier these groups are anyway, for comparison.
"""

from collections.abc import Iterator

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

FOLDS = 5
_CELL = ["label", "group"]

Figure = tuple[str, str, str, float, float, float]  # metric, subset, weighting, value, low, high


def even_images(synthetic: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Rows of both with a column `source`, as many of every cell and kind; cells that either lacks are left out.

    Chosen by id, which is a hash.
    """
    rows = pd.concat([synthetic.assign(source="synthetic"), test.assign(source="real")], ignore_index=True)
    rows = rows.astype({"group": str, "label": int}).sort_values(["label", "group", "source", "image_id"])
    sizes = rows.groupby([*_CELL, "source"]).size().unstack(fill_value=0)
    sizes = sizes.reindex(columns=["real", "synthetic"], fill_value=0).min(axis=1)
    rows = rows[sizes.loc[pd.MultiIndex.from_frame(rows[_CELL])].to_numpy() > 0]
    return rows[rows.groupby([*_CELL, "source"]).cumcount() < sizes[sizes > 0].min()].reset_index(drop=True)


def shortcut_figures(
    model: Classifier, images: pd.DataFrame, training: pd.DataFrame, size: int, color: str
) -> Iterator[Figure]:
    """The measures of a network, with 95 % intervals over images.

    images: of `even_images`. training: label and group of the synthetic training images (of the manifest `balanced`).
    A class without any has no share in swap_drop.
    """
    features = np.empty((len(images), model.head.in_features), np.float32)
    predicted = np.empty(len(images), np.int64)
    model.eval()
    with torch.inference_mode():
        for positions, pixels in iterate_pixels(images, size, color):
            some = model.features(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            features[positions] = some.numpy()
            predicted[positions] = model.head(some).argmax(1).numpy()
    strata = images.groupby([*_CELL, "source"]).ngroup().to_numpy()
    counts = resample(strata)
    yield "pair_probe", "all", "cells", *_pair_probe(features, images, counts)
    right = (predicted == images["label"].to_numpy()).astype(float)
    for kind in ("synthetic", "real"):
        of_kind = (images["source"] == kind).to_numpy()
        drops = swap_drop(right[of_kind], images[of_kind], training, counts[:, of_kind])
        if drops is not None:
            yield "swap_drop", kind, "classes", *_with_interval(drops)


def swap_drop(right: np.ndarray, images: pd.DataFrame, training: pd.DataFrame, counts: np.ndarray) -> np.ndarray | None:
    """The drop in each resample: rows. None if there is nothing to swap.

    right: 0 or 1, N. images: label and group, N. training: label and group of the synthetic training images. counts:
    as `bootstrap.resample` gives them, rows x N.

    A class has the share w_g of its synthetic training images in group g of G. Swapped, group g gets what the others
    had, in equal parts: (1 - w_g) / (G - 1). The drop is sum_g (w_g - (1 - w_g) / (G - 1)) accuracy_g, mean over
    classes.
    """
    labels, groups = sorted(images["label"].unique()), sorted(images["group"].unique())
    if len(groups) < 2:
        return None
    made = training.astype({"group": str, "label": int}).groupby(_CELL).size().unstack(fill_value=0)
    made = made.reindex(index=labels, columns=groups, fill_value=0).to_numpy(float)
    swapped = made.sum(1) > 0
    if not swapped.any():
        return None
    shares = made / made.sum(1, keepdims=True).clip(1)
    weights = shares - (1 - shares) / (len(groups) - 1)
    cell = pd.Categorical(images["label"], labels).codes.astype(int) * len(groups)
    cell += pd.Categorical(images["group"], groups).codes.astype(int)
    places = len(labels) * len(groups)
    sizes = np.bincount(cell, minlength=places)
    accuracy = group_sums(counts, cell, right, places) / sizes.clip(1)
    accuracy = accuracy.reshape(len(counts), len(labels), len(groups))
    return (accuracy * weights).sum(2)[:, swapped].mean(1)


def _pair_probe(features: np.ndarray, images: pd.DataFrame, counts: np.ndarray) -> tuple[float, float, float]:
    pairs = images.groupby(["group", "source"]).ngroup().to_numpy()
    sizes = np.bincount(pairs)
    if len(sizes) < 2 or sizes.min() < FOLDS:
        return 1 / len(sizes), 0.0, 1.0  # too few to try
    told = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        features,
        pairs,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
    )
    return _with_interval((group_sums(counts, pairs, (told == pairs).astype(float), len(sizes)) / sizes).mean(1))


def _with_interval(values: np.ndarray) -> tuple[float, float, float]:
    low, high = percentile_interval(values[None, 1:])
    return float(values[0]), float(low[0]), float(high[0])
