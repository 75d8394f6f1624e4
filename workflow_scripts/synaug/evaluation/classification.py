"""Accuracy over all images, per class and per shot group, and calibration, each with its interval over test images."""

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import Resamples, at_most_1, both_group_sums, group_sums, percentile_interval

SHOTS = ("many", "medium", "few")
BINS = 15


def score(predictions: pd.DataFrame, shots: dict[int, str], resamples: Resamples) -> pd.DataFrame:
    """The metrics of one network in each resample: rows (metric, subset, weighting), a column per resample.

    predictions: the manifest of this name, N rows. shots: label -> many, medium or few. resamples: of these images;
    column 0 is the metric on the test set. A shot group without classes has no row.
    """
    metrics = _accuracies(predictions, shots, resamples) | _calibration_errors(predictions, shots, resamples)
    index = pd.MultiIndex.from_tuples(metrics, names=["metric", "subset", "weighting"])
    return pd.DataFrame(np.stack(list(metrics.values())), index=index)


def with_intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows (metric, subset, weighting, value, low, high) from the result of `score`."""
    values = scores.to_numpy()
    low, high = percentile_interval(values[:, 1:])
    return pd.DataFrame({"value": values[:, 0], "low": low, "high": high}, index=scores.index).reset_index()


def calibration_bin(confidence: np.ndarray) -> np.ndarray:
    """Bin of each top probability, 0 to BINS - 1. Bins have equal width and include their upper end, not their lower.

    Guo et al. 2017, section 2. confidence: 0 to 1, N.
    """
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def _accuracies(predictions: pd.DataFrame, shots: dict[int, str], resamples: Resamples) -> dict[tuple, np.ndarray]:
    """`all` is the share of correct predictions over all images. If all classes have equally many test images,
    it equals the mean over classes.

    balanced, harmonic_mean, geometric_mean and worst_class are the means and the minimum of the accuracies of all
    classes; the last three are 0 if one class is at 0. The accuracy of a shot group is the mean over its classes.
    Of a class with one test image, only the means over images and over classes vary between resamples.
    """
    names = predictions.groupby("label")["label_name"].first()
    position = np.searchsorted(names.index, predictions["label"])
    correct = (predictions["predicted"] == predictions["label"]).to_numpy(float)
    sizes = np.bincount(position)
    own_sums, sums = both_group_sums(resamples, position, correct, len(names))
    per_class, for_means = own_sums / sizes, sums / sizes
    with np.errstate(divide="ignore"):  # a class at 0 gives 1 / inf and exp(-inf): 0, as intended
        harmonic = 1 / (1 / per_class).mean(1)
        geometric = np.exp(np.log(per_class).mean(1))
    metrics = {
        ("accuracy", "all", "images"): at_most_1(sums.sum(1) / len(predictions)),
        ("accuracy", "balanced", "classes"): at_most_1(for_means.mean(1)),
        ("accuracy", "harmonic_mean", "classes"): harmonic,
        ("accuracy", "geometric_mean", "classes"): geometric,
        ("accuracy", "worst_class", "classes"): per_class.min(1),
    }
    for shot in SHOTS:
        members = names.index.map(shots) == shot
        if members.any():
            metrics["accuracy", shot, "classes"] = at_most_1(for_means[:, members].mean(1))
    return metrics | {
        ("accuracy", f"class:{name}", "images"): per_class[:, i] for i, name in enumerate(names.to_list())
    }


def _calibration_errors(
    predictions: pd.DataFrame, shots: dict[int, str], resamples: Resamples
) -> dict[tuple, np.ndarray]:
    """Expected calibration error of the top probability over all images, and over the images of each shot group.

    sum_b |B_b| / n |acc(B_b) - conf(B_b)| over the bins of `calibration_bin` (Guo et al. 2017, eq. 3). This equals
    sum_b |sum_{i in B_b} (correct_i - confidence_i)| / n, so one sum per bin is enough.
    """
    confidence = np.stack(predictions["probabilities"].to_list()).max(1).astype(float)
    correct = (predictions["predicted"] == predictions["label"]).to_numpy(float)
    shot = predictions["label"].map(shots)
    group = shot.map({name: i for i, name in enumerate(SHOTS)}).fillna(len(SHOTS)).to_numpy(int)
    bins = group * BINS + calibration_bin(confidence)
    gaps = group_sums(resamples, bins, correct - confidence, (len(SHOTS) + 1) * BINS)
    gaps = gaps.reshape(len(resamples), len(SHOTS) + 1, BINS)
    metrics = {("ece", "all", "images"): np.abs(gaps.sum(1)).sum(1) / len(predictions)}
    for i, name in enumerate(SHOTS):
        if (group == i).any():
            metrics["ece", name, "images"] = np.abs(gaps[:, i]).sum(1) / (group == i).sum()
    return metrics
