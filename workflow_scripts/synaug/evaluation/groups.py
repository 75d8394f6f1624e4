"""Accuracy over groups of images, and how far the groups lie apart, each with its interval over test images.

A group is a value of an attribute (the background, the sex); a cell is a class in a group, which is what the
literature on spurious correlation calls a group. Images are resampled within their cell, since the sizes of the cells
of a test set are chosen and not chance. A resample is noisier than the test set, which makes its worst cell worse and
its gaps between groups wider: of these the interval may lie beside the figure.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import DRAWS, SEED, group_sums

BLOCK = 2**22  # entries of the confusion counts that are held at a time


def confusion_tensor(
    label: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    classes: int,
    groups: int,
    counts: np.ndarray | None = None,
) -> np.ndarray:
    """Images per group, label and predicted class: int64, groups x classes x classes.

    label, predicted: 0 to classes - 1, N. group: 0 to groups - 1, N. With `counts`, rows x N, as `bootstrap.resample`
    gives them, the same in each resample: rows x groups x classes x classes.
    """
    shape = (groups, classes, classes)
    place = np.ravel_multi_index((group, label, predicted), shape)
    if counts is None:
        return np.bincount(place, minlength=groups * classes**2).reshape(shape)
    sums = group_sums(counts, place, np.ones(len(place)), groups * classes**2)
    return sums.astype(np.int64).reshape(len(counts), *shape)


def resample_confusion(confusion: np.ndarray, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """The confusion counts in each resample: int64, (1 + draws) x G x C x C. Row 0 is `confusion` itself.

    confusion: as `confusion_tensor` gives it, G x C x C. Drawing the n images of a cell n times with replacement makes
    the counts of its predicted classes multinomial (n, their shares), so they are drawn as such: exact, and in a time
    that does not depend on n. An empty cell stays empty. Resamples of two networks are not paired image by image.
    """
    return np.concatenate([confusion[None], _draw(confusion, draws, np.random.default_rng(seed))])


def score_groups(
    label: np.ndarray,
    predicted: np.ndarray,
    group: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    attribute: str,
    training: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> pd.DataFrame:
    """The figures of one network for one attribute: rows (metric, subset, weighting), a column per resample.

    label, predicted: position in `class_names`, N. group: position in `group_names`, N. attribute: what the group is a
    value of, or the name of a crossing of attributes. training: training images per cell, groups x classes. Column 0 is
    the figure itself. Without `counts` the resamples are those of `resample_confusion`: fast, and right for the
    interval of this network. For paired differences of networks give `counts`, `bootstrap.resample(cell)` of the cell
    each image lies in (or of a finer division, as the cells of a crossing); `draws` and `seed` are then unused.
    ValueError if they change the size of a cell.

    Rows, with shares of images throughout:

    - accuracy of `cell:<class>|<group>`, of `group:<group>`, the minima `worst_cell` and `worst_group`; of `all` as the
      share of all images, as the mean over cells, and (given `training`) as the mean over cells by training images, the
      adjusted average accuracy of WILDS (Koh et al. 2021) and of Sagawa et al. 2020.
    - tpr, fpr, selection_rate of each group, one class against the rest: P(said c | is c), P(said c | is not c),
      P(said c). With two classes of the second one alone, subset `group:<group>`; else `group:<group>|class:<class>`.
    - of `groups:<attribute>`, where largest and smallest are taken over groups: demographic_parity_difference and
      _ratio, largest minus smallest selection rate and smallest over largest; equal_opportunity_difference, that of
      the tpr; equalized_odds_difference and _ratio, the larger difference and the smaller ratio of tpr and fpr (as
      fairlearn's agg="worst_case"). With more than two classes: the largest difference and the smallest ratio over the
      classes, one against the rest. A ratio of zeros is 1, since the groups are equal (fairlearn: NaN).

    An empty cell has no row and is left out of every minimum, mean and weight; so is an empty group. A rate without
    images to take it over has no row, and its group is not compared (fairlearn: 0). A class in which fewer than two
    groups have the rate is not compared, and a figure that nothing is left of has no row.
    """
    sizes = (len(class_names), len(group_names))
    own = confusion_tensor(label, predicted, group, *sizes)
    step = max(1, BLOCK // own.size)
    if counts is None:
        blocks = _own_and_drawn(own, draws, step, seed)
    else:
        parts = (counts[i : i + step] for i in range(0, len(counts), step))
        blocks = (confusion_tensor(label, predicted, group, *sizes, part) for part in parts)
    actual = own.sum(2)
    right, said = _tallies(blocks, actual)
    figures = _accuracies(right, actual, class_names, group_names, training)
    figures |= _rates(right, said, actual, class_names, group_names, attribute)
    figures = {key: values for key, values in figures.items() if not np.isnan(values[0])}
    index = pd.MultiIndex.from_tuples(figures, names=["metric", "subset", "weighting"])
    return pd.DataFrame(np.stack(list(figures.values())), index=index)


def _draw(confusion: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    sizes = confusion.sum(2)
    shares = confusion / np.maximum(sizes, 1)[..., None]
    return generator.multinomial(sizes, shares, size=(draws, *sizes.shape))


def _own_and_drawn(confusion: np.ndarray, draws: int, step: int, seed: int) -> Iterator[np.ndarray]:
    """`resample_confusion` in blocks of at most `step` resamples."""
    generator = np.random.default_rng(seed)
    yield confusion[None]
    for start in range(0, draws, step):
        yield _draw(confusion, min(step, draws - start), generator)


def _tallies(blocks: Iterator[np.ndarray], actual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of each class that are predicted right, and images predicted as it: rows x G x C each.

    blocks: confusion counts, some rows x G x C x C. actual: images of each class, G x C.
    """
    right, said = [], []
    for block in blocks:
        if (block.sum(3) != actual).any():
            raise ValueError("counts must be resampled within the cells: some change the size of a cell")
        right.append(np.diagonal(block, axis1=2, axis2=3).copy())
        said.append(block.sum(2))
    return np.concatenate(right), np.concatenate(said)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole` is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _accuracies(
    right: np.ndarray,
    actual: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    training: np.ndarray | None,
) -> dict[tuple, np.ndarray]:
    """right: rows x G x C. actual, training: G x C."""
    per_cell, per_group = _share(right, actual), _share(right.sum(2), actual.sum(1))
    there = per_cell[:, actual > 0]
    figures = {
        ("accuracy", "all", "images"): right.sum((1, 2)) / actual.sum(),
        ("accuracy", "all", "cells"): there.mean(1),
        ("accuracy", "worst_cell", "cells"): there.min(1),
        ("accuracy", "worst_group", "groups"): per_group[:, actual.sum(1) > 0].min(1),
    }
    if training is not None:
        weights = np.asarray(training)[actual > 0]
        figures["accuracy", "all", "training"] = _share(there @ weights, weights.sum())
    for g, group in enumerate(group_names):
        figures["accuracy", f"group:{group}", "images"] = per_group[:, g]
        for c, name in enumerate(class_names):
            figures["accuracy", f"cell:{name}|{group}", "images"] = per_cell[:, g, c]
    return figures


def _rates(
    right: np.ndarray,
    said: np.ndarray,
    actual: np.ndarray,
    class_names: Sequence[str],
    group_names: Sequence[str],
    attribute: str,
) -> dict[tuple, np.ndarray]:
    """right, said: rows x G x C, as `_tallies` gives them. actual: G x C."""
    size = actual.sum(1, keepdims=True)
    rates = {
        "tpr": _share(right, actual),
        "fpr": _share(said - right, size - actual),
        "selection_rate": _share(said, size),
    }
    suffixes = [f"|class:{name}" for name in class_names]
    if len(class_names) == 2:
        rates = {metric: values[:, :, 1:] for metric, values in rates.items()}
        suffixes = [""]
    figures = {
        (metric, f"group:{group}{suffix}", "images"): values[:, g, c]
        for metric, values in rates.items()
        for g, group in enumerate(group_names)
        for c, suffix in enumerate(suffixes)
    }
    (tpr_gap, tpr_ratio), (fpr_gap, fpr_ratio), (chosen_gap, chosen_ratio) = map(_spread, rates.values())
    gaps = {
        "demographic_parity_difference": _over_classes(chosen_gap, np.maximum),
        "demographic_parity_ratio": _over_classes(chosen_ratio, np.minimum),
        "equal_opportunity_difference": _over_classes(tpr_gap, np.maximum),
        "equalized_odds_difference": _over_classes(np.maximum(tpr_gap, fpr_gap), np.maximum),
        "equalized_odds_ratio": _over_classes(np.minimum(tpr_ratio, fpr_ratio), np.minimum),
    }
    return figures | {(metric, f"groups:{attribute}", "groups"): values for metric, values in gaps.items()}


def _spread(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest minus smallest rate over groups, and smallest over largest: rows x classes each, from rows x G x classes.

    NaN for a class in which fewer than two groups have the rate.
    """
    known = ~np.isnan(rates[0])
    compared = known.sum(0) > 1
    # Rates are shares: a group without one is neither the largest nor the smallest.
    largest, smallest = np.where(known, rates, 0).max(1), np.where(known, rates, 1).min(1)
    ratio = np.divide(smallest, largest, out=np.ones_like(largest), where=largest > 0)
    return np.where(compared, largest - smallest, np.nan), np.where(compared, ratio, np.nan)


def _over_classes(values: np.ndarray, worst: np.ufunc) -> np.ndarray:
    """The worst of the classes that are compared: rows, from rows x classes. NaN if there is none."""
    compared = ~np.isnan(values[0])
    return worst.reduce(values[:, compared], axis=1) if compared.any() else np.full(len(values), np.nan)
