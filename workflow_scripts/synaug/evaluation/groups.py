"""Accuracy over groups of images, and the gaps between groups, each with its interval over test images.

A group is a value of an attribute (the background, the sex). A cell is a class in a group; the literature on spurious
correlations calls this a group. Images are resampled within their cell, because the sizes of the cells of a test set
are chosen, not random. Minima over cells are lower and gaps between groups wider in a resample than on the test set
itself, so the intervals of these metrics may lie next to the measured value instead of around it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import Resamples, at_most_1, both_group_sums, group_sums


def score_groups(
    label: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    attribute: str,
    resamples: Resamples,
    training: np.ndarray | None = None,
) -> pd.DataFrame:
    """The metrics of one network for one attribute: rows (metric, subset, weighting), a column per resample.

    label, predicted: position in `class_names`, N. group: position in `group_names`, N. attribute: name of the
    attribute, or of a crossing of attributes. resamples: within each image's cell, or a finer division such as the
    cells of a crossing; column 0 is the metric on the test set. training: training images per cell, groups x classes.
    Raises ValueError if `resamples` change the size of a cell.

    Rows, with shares of images throughout:

    - accuracy of `cell:<class>|<group>`, of `group:<group>`, the minima `worst_cell` and `worst_group`; of `all` as the
      share of all images, as the mean over cells, and (given `training`) as the mean over cells weighted by training
      images, the adjusted average accuracy of WILDS (Koh et al. 2021) and of Sagawa et al. 2020.
    - tpr, fpr, selection_rate of each group, one class against the rest: P(predicted c | is c), P(predicted c | is not
      c), P(predicted c). With two classes only for the second one, subset `group:<group>`; else
      `group:<group>|class:<class>`.
    - of `groups:<attribute>`, where largest and smallest are over groups: demographic_parity_difference and _ratio,
      largest minus smallest selection rate and smallest over largest; equal_opportunity_difference, the difference of
      the tpr; equalized_odds_difference and _ratio, the larger difference and the smaller ratio of tpr and fpr (as
      fairlearn's agg="worst_case"). With more than two classes: the largest difference and the smallest ratio over the
      classes, one against the rest. A ratio of zeros is 1, since the groups are equal (fairlearn: NaN).

    An empty cell or group has no row and is not part of any minimum, mean or weight. A rate with an empty denominator
    has no row, and its group is not compared (fairlearn: 0). A class with the rate in fewer than two groups is not
    compared. A metric without any group or class to compare has no row.
    """
    groups, classes = len(group_names), len(class_names)

    def images_per_cell(column: np.ndarray) -> np.ndarray:
        """Images of each group with each value of `column`: rows x G x C."""
        sums = group_sums(resamples, group * classes + column, np.ones(len(column)), groups * classes)
        return sums.reshape(len(resamples), groups, classes)

    sizes = images_per_cell(label)
    if not np.allclose(sizes, sizes[0]):  # the factors of the images are no whole numbers
        raise ValueError("resamples must be within the cells, but some change the size of a cell")
    actual = sizes[0]
    is_correct = (predicted == label).astype(float)
    correct, for_means = (
        sums.reshape(len(resamples), groups, classes)
        for sums in both_group_sums(resamples, group * classes + label, is_correct, groups * classes)
    )
    selected = images_per_cell(predicted)
    metrics = _accuracies(correct, for_means, actual, class_names, group_names, training)
    metrics |= _rates(correct, selected, actual, class_names, group_names, attribute)
    metrics = {key: values for key, values in metrics.items() if not np.isnan(values[0])}
    index = pd.MultiIndex.from_tuples(metrics, names=["metric", "subset", "weighting"])
    return pd.DataFrame(np.stack(list(metrics.values())), index=index)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _accuracies(
    correct: np.ndarray,
    for_means: np.ndarray,
    actual: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    training: np.ndarray | None,
) -> dict[tuple, np.ndarray]:
    """correct: correctly predicted images, rows x G x C. for_means: as `correct`, of the resamples for means. actual:
    images, G x C. training: training images, G x C.
    """
    per_cell, per_group = _share(correct, actual), _share(correct.sum(2), actual.sum(1))
    filled_cells = per_cell[:, actual > 0]
    cells_for_means = _share(for_means, actual)[:, actual > 0]
    metrics = {
        ("accuracy", "all", "images"): at_most_1(for_means.sum((1, 2)) / actual.sum()),
        ("accuracy", "all", "cells"): at_most_1(cells_for_means.mean(1)),
        ("accuracy", "worst_cell", "cells"): filled_cells.min(1),
        ("accuracy", "worst_group", "groups"): per_group[:, actual.sum(1) > 0].min(1),
    }
    if training is not None:
        weights = np.asarray(training)[actual > 0]
        metrics["accuracy", "all", "training"] = at_most_1(_share(cells_for_means @ weights, weights.sum()))
    for g, group in enumerate(group_names):
        metrics["accuracy", f"group:{group}", "images"] = per_group[:, g]
        for c, name in enumerate(class_names):
            metrics["accuracy", f"cell:{name}|{group}", "images"] = per_cell[:, g, c]
    return metrics


def _rates(
    correct: np.ndarray,
    selected: np.ndarray,
    actual: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    attribute: str,
) -> dict[tuple, np.ndarray]:
    """correct: images of each class predicted correctly, rows x G x C. selected: images predicted as each class, rows
    x G x C. actual: images of each class, G x C.
    """
    size = actual.sum(1, keepdims=True)
    rates = {
        "tpr": _share(correct, actual),
        "fpr": _share(selected - correct, size - actual),
        "selection_rate": _share(selected, size),
    }
    suffixes = [f"|class:{name}" for name in class_names]
    if len(class_names) == 2:
        rates = {metric: values[:, :, 1:] for metric, values in rates.items()}
        suffixes = [""]
    metrics = {
        (metric, f"group:{group}{suffix}", "images"): values[:, g, c]
        for metric, values in rates.items()
        for g, group in enumerate(group_names)
        for c, suffix in enumerate(suffixes)
    }
    tpr_gap, tpr_ratio = _gap_and_ratio(rates["tpr"])
    fpr_gap, fpr_ratio = _gap_and_ratio(rates["fpr"])
    selection_gap, selection_ratio = _gap_and_ratio(rates["selection_rate"])
    gaps = {
        "demographic_parity_difference": _over_classes(selection_gap, np.maximum),
        "demographic_parity_ratio": _over_classes(selection_ratio, np.minimum),
        "equal_opportunity_difference": _over_classes(tpr_gap, np.maximum),
        "equalized_odds_difference": _over_classes(np.maximum(tpr_gap, fpr_gap), np.maximum),
        "equalized_odds_ratio": _over_classes(np.minimum(tpr_ratio, fpr_ratio), np.minimum),
    }
    return metrics | {(metric, f"groups:{attribute}", "groups"): values for metric, values in gaps.items()}


def _gap_and_ratio(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest minus smallest rate over groups, and smallest over largest: rows x classes each, from rows x G x classes.

    NaN for a class with the rate in fewer than two groups.
    """
    defined = ~np.isnan(rates[0])
    comparable = defined.sum(0) > 1
    # Rates are shares, so 0 is never above the largest of them and 1 never below the smallest.
    largest, smallest = np.where(defined, rates, 0).max(1), np.where(defined, rates, 1).min(1)
    ratio = np.divide(smallest, largest, out=np.ones_like(largest), where=largest > 0)
    return np.where(comparable, largest - smallest, np.nan), np.where(comparable, ratio, np.nan)


def _over_classes(values: np.ndarray, worst: np.ufunc) -> np.ndarray:
    """The worst of the classes that are compared: rows, from rows x classes. NaN if no class is compared."""
    comparable = ~np.isnan(values[0])
    return worst.reduce(values[:, comparable], axis=1) if comparable.any() else np.full(len(values), np.nan)
