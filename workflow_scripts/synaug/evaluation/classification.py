"""Accuracy over all images, per class and per shot group, and calibration, each with its interval over test images."""

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import group_sums, percentile_interval

SHOTS = ("many", "medium", "few")
BINS = 15


def score(predictions: pd.DataFrame, shots: dict[int, str], counts: np.ndarray) -> pd.DataFrame:
    """The figures of one network in each resample: rows (metric, subset, weighting), a column per row of `counts`.

    predictions: the manifest of this name, N rows. shots: label -> many, medium or few. counts: as `bootstrap.resample`
    gives them for these images; column 0 is the figure itself. A shot group without classes has no row.
    """
    figures = _accuracies(predictions, shots, counts) | _calibration_errors(predictions, shots, counts)
    index = pd.MultiIndex.from_tuples(figures, names=["metric", "subset", "weighting"])
    return pd.DataFrame(np.stack(list(figures.values())), index=index)


def with_intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows (metric, subset, weighting, value, low, high) of what `score` returns."""
    values = scores.to_numpy()
    low, high = percentile_interval(values[:, 1:])
    return pd.DataFrame({"value": values[:, 0], "low": low, "high": high}, index=scores.index).reset_index()


def _accuracies(predictions: pd.DataFrame, shots: dict[int, str], counts: np.ndarray) -> dict[tuple, np.ndarray]:
    """`all` is the share of right answers over all images; on a balanced test set also the mean over classes.

    balanced, harmonic_mean, geometric_mean, worst_class: means and minimum of the accuracies of all classes; the last
    three are 0 if one class is. A shot group is the mean over its classes.
    """
    names = predictions.groupby("label")["label_name"].first()
    position = np.searchsorted(names.index, predictions["label"])
    right = (predictions["predicted"] == predictions["label"]).to_numpy(float)
    sums = group_sums(counts, position, right, len(names))
    per_class = sums / np.bincount(position)  # a resample leaves the size of a class as it is
    with np.errstate(divide="ignore"):  # of a class at 0: 1 / inf and exp(-inf) are the 0 that is wanted
        harmonic = 1 / (1 / per_class).mean(1)
        geometric = np.exp(np.log(per_class).mean(1))
    figures = {
        ("accuracy", "all", "images"): sums.sum(1) / len(predictions),
        ("accuracy", "balanced", "classes"): per_class.mean(1),
        ("accuracy", "harmonic_mean", "classes"): harmonic,
        ("accuracy", "geometric_mean", "classes"): geometric,
        ("accuracy", "worst_class", "classes"): per_class.min(1),
    }
    for shot in SHOTS:
        members = names.index.map(shots) == shot
        if members.any():
            figures["accuracy", shot, "classes"] = per_class[:, members].mean(1)
    return figures | {
        ("accuracy", f"class:{name}", "images"): per_class[:, i] for i, name in enumerate(names.to_list())
    }


def _calibration_errors(
    predictions: pd.DataFrame, shots: dict[int, str], counts: np.ndarray
) -> dict[tuple, np.ndarray]:
    """Expected calibration error of the top probability over all images, and over those of each shot group.

    sum_b |B_b| / n |acc(B_b) - conf(B_b)| over BINS bins of equal width, each without its lower and with its upper end
    (Guo et al. 2017, eq. 3). This is sum_b |sum_{i in B_b} (right_i - confidence_i)| / n: one sum per bin is enough.
    """
    confidence = np.stack(predictions["probabilities"].to_list()).max(1).astype(float)
    right = (predictions["predicted"] == predictions["label"]).to_numpy(float)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    shot = predictions["label"].map(shots)
    group = shot.map({name: i for i, name in enumerate(SHOTS)}).fillna(len(SHOTS)).to_numpy(int)
    gaps = group_sums(counts, group * BINS + bins, right - confidence, (len(SHOTS) + 1) * BINS)
    gaps = gaps.reshape(len(counts), len(SHOTS) + 1, BINS)
    figures = {("ece", "all", "images"): np.abs(gaps.sum(1)).sum(1) / len(predictions)}
    for i, name in enumerate(SHOTS):
        if (group == i).any():
            figures["ece", name, "images"] = np.abs(gaps[:, i]).sum(1) / (group == i).sum()
    return figures
