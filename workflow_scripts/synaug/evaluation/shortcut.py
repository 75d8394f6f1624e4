"""Whether a network uses a shortcut: the combination of group and source (real or synthetic) instead of the class.

If synthetic images are added to the rare groups of a class only, the pair (group, source) predicts the class, and a
network can learn this pair instead of the appearance of the class (Qraitem et al. 2023, From Fake to Real, arXiv
2308.04553). Two metrics measure it on images that no network is trained on, synthetic probe images and at most as many
test images of every cell:

- pair_probe: share of images whose pair (group, source) a linear probe on the features predicts, mean over pairs. Every
  class is equally frequent in every pair: it has as many images there as in its rarest pair, so a class that has none
  in one pair is left out. Chance is 1 / (2 x groups).
- swap_drop: accuracy in the groups that contain the synthetic training images of a class minus accuracy in its other
  groups, mean over classes. On synthetic images (subset `synthetic`) it is the accuracy that is lost if the synthetic
  images of a class change groups. On real images (subset `real`) it is the reference: how much easier these groups are
  for other reasons.
"""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch

from synaug.evaluation.bootstrap import Resamples, at_most_1, group_sums, resample, value_with_interval
from synaug.evaluation.linear_probe import FOLDS, probe_correct
from synaug.evaluation.predictions import compute_features
from synaug.networks.classifier import Classifier

log = logging.getLogger(__name__)
_CELL = ["label", "group"]

MetricRow = tuple[str, str, str, float, float, float]  # metric, subset, weighting, value, low, high


def balanced_probe_images(synthetic: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Rows of both tables with a column `source`: of every cell all synthetic images, and at most as many test images.

    A cell without images of both sources is omitted. Images are chosen by id, which is a hash.
    """
    rows = pd.concat([synthetic.assign(source="synthetic"), test.assign(source="real")], ignore_index=True)
    rows = rows.astype({"group": str, "label": int}).sort_values(["label", "group", "source", "image_id"])
    sizes = rows.groupby([*_CELL, "source"]).size().unstack(fill_value=0)
    sizes = sizes.reindex(columns=["real", "synthetic"], fill_value=0)
    of_cell = sizes.loc[pd.MultiIndex.from_frame(rows[_CELL])]
    used = (of_cell["real"] > 0) & (rows.groupby([*_CELL, "source"]).cumcount().to_numpy() < of_cell["synthetic"])
    return rows[used.to_numpy()].reset_index(drop=True)


def shortcut_metrics(
    model: Classifier,
    images: pd.DataFrame,
    training: pd.DataFrame,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
) -> Iterator[MetricRow]:
    """The metrics of a network, with 95 % intervals over images.

    images: from `balanced_probe_images`. training: label and group of the synthetic training images (from the manifest
    `balanced`). A class without synthetic training images is not part of swap_drop. batches: positions in `images` and
    their pixels, as of `iterate_pixels`. No metrics if there are no images.
    """
    if images.empty:
        log.warning("no class in a group has both probe images and test images: the shortcut is not measured")
        return
    features = compute_features(model, len(images), batches)
    predicted = model.probabilities(torch.from_numpy(features)).argmax(1)
    yield "pair_probe", "all", "cells", *_pair_probe(features, images)
    correct = (predicted == images["label"].to_numpy()).astype(float)
    for source in ("synthetic", "real"):
        of_source = (images["source"] == source).to_numpy()
        resamples = resample(images[of_source].groupby(_CELL).ngroup().to_numpy())
        drops = accuracy_drop_on_swap(correct[of_source], images[of_source], training, resamples)
        if drops is not None:
            yield "swap_drop", source, "classes", *value_with_interval(drops)


def accuracy_drop_on_swap(
    correct: np.ndarray, images: pd.DataFrame, training: pd.DataFrame, resamples: Resamples
) -> np.ndarray | None:
    """The metric swap_drop in each resample: float64.

    None if there is one group only, or no class has synthetic training images, and test images in every group.
    correct: 0 or 1, N. images: label and group, N. training: label and group of the synthetic training images.
    resamples: of `images` within their cells.

    Let w_g be the share of a class's synthetic training images in group g of G. After the swap, group g has what the
    other groups had, in equal parts: (1 - w_g) / (G - 1). The drop is sum_g (w_g - (1 - w_g) / (G - 1)) accuracy_g,
    mean over classes.
    """
    training = training.astype({"group": str, "label": int})
    labels, groups = sorted(images["label"].unique()), sorted({*images["group"], *training["group"]})
    if len(groups) < 2:
        return None
    trained = training.groupby(_CELL).size().unstack(fill_value=0)
    trained = trained.reindex(index=labels, columns=groups, fill_value=0).to_numpy(float)
    has_synthetic = trained.sum(1) > 0
    if not has_synthetic.any():
        return None
    shares = trained / trained.sum(1, keepdims=True).clip(1)
    weights = shares - (1 - shares) / (len(groups) - 1)
    cell = pd.Categorical(images["label"], labels).codes.astype(int) * len(groups)
    cell += pd.Categorical(images["group"], groups).codes.astype(int)
    cells = len(labels) * len(groups)
    sizes = np.bincount(cell, minlength=cells)
    accuracy = group_sums(resamples, cell, correct, cells, for_means=True) / sizes.clip(1)
    accuracy = accuracy.reshape(len(resamples), len(labels), len(groups))
    # Without test images in one of its groups, the drop of a class is not known.
    counted = has_synthetic & (sizes.reshape(len(labels), len(groups)) > 0).all(1)
    return (accuracy * weights).sum(2)[:, counted].mean(1) if counted.any() else None


def _pair_probe(features: np.ndarray, images: pd.DataFrame) -> tuple[float, float, float]:
    """The metric pair_probe and its interval. With too few images it is chance, and the interval is 0 to 1."""
    cells = images.groupby([*_CELL, "source"])
    in_pairs = cells.size().unstack(["group", "source"], fill_value=0)
    rarest = in_pairs.min(axis=1)
    if rarest.sum() < FOLDS:
        return 1 / in_pairs.shape[1], 0.0, 1.0
    used = (cells.cumcount() < images["label"].map(rarest)).to_numpy()
    pairs = images[used].groupby(["group", "source"]).ngroup().to_numpy()
    correct = probe_correct(features[used], pairs)
    resamples = resample(cells.ngroup()[used].to_numpy())
    sums = group_sums(resamples, pairs, correct, in_pairs.shape[1], for_means=True)
    return value_with_interval(at_most_1((sums / rarest.sum()).mean(1)))
