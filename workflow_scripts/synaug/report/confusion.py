"""Confusion matrices and reliability tables, counted from the predictions of networks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from synaug.evaluation.classification import BINS, calibration_bin
from synaug.manifests import read_table


@dataclass(frozen=True)
class PredictionCounts:
    """Counts over the test predictions of one recipe and stage, all seeds together.

    confusion: int, classes x classes; row: true class, column: predicted class. bins: float, BINS x 3: images whose top
    probability is in the bin, how many of them are correct, and the sum of their top probabilities.
    """

    confusion: np.ndarray
    bins: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Confusion as shares of the true class: a row sums to 1, or to 0 for a class without test images."""
        return self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)


def count_predictions(paths: Iterable[str], classes: int, split: str) -> PredictionCounts:
    """Count the predictions for the images of `split`. paths: manifests `predictions`, one per seed."""
    confusion = np.zeros((classes, classes), np.int64)
    bins = np.zeros((BINS, 3))
    for path in paths:
        table = read_table("predictions", path, ["split", "label", "predicted", "probabilities"])
        table = table.filter(pc.equal(table["split"].cast("string"), split))
        if not table.num_rows:
            continue
        label, predicted = (table[name].to_numpy() for name in ("label", "predicted"))
        confusion += np.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes)
        confidence = np.concatenate([_top_probabilities(chunk, classes) for chunk in table["probabilities"].chunks])
        bin_of_image = calibration_bin(confidence)
        bins[:, 0] += np.bincount(bin_of_image, minlength=BINS)
        bins[:, 1] += np.bincount(bin_of_image, label == predicted, minlength=BINS)
        bins[:, 2] += np.bincount(bin_of_image, confidence, minlength=BINS)
    return PredictionCounts(confusion, bins)


def confused_pairs(counts: list[PredictionCounts], names: list[str], most: int = 15) -> list[dict]:
    """The pairs (true class, predicted class) that the last of `counts` confuses most often, the worst first.

    A dict has name, predicted_as, and shares: of the test images of the class, for each of `counts`. Pairs that do not
    occur are omitted.
    """
    errors = counts[-1].shares * (1 - np.eye(len(names)))
    order = np.argsort(-errors, axis=None, kind="stable")[:most]
    pairs = (np.unravel_index(position, errors.shape) for position in order)
    return [
        {"name": names[i], "predicted_as": names[j], "shares": [float(count.shares[i, j]) for count in counts]}
        for i, j in pairs
        if errors[i, j] > 0
    ]


def binned_confusion(confusion: np.ndarray, order: np.ndarray, bins: int) -> np.ndarray:
    """Confusion between bins of classes: bins x bins, as shares of the images of a bin.

    order: the classes in the order in which they fill the bins, which are as equal in size as possible.
    """
    starts = np.linspace(0, len(order), bins + 1).astype(int)[:-1]
    row_sums = np.add.reduceat(confusion[np.ix_(order, order)], starts, axis=0)
    sums = np.add.reduceat(row_sums, starts, axis=1)
    return sums / np.maximum(sums.sum(1, keepdims=True), 1)


def reliability_table(counts: PredictionCounts) -> pd.DataFrame:
    """A row per bin with images: low, high (of the probability), images, confidence and accuracy (means, 0 to 1)."""
    edges = np.arange(BINS + 1) / BINS
    images = np.maximum(counts.bins[:, 0], 1)
    rows = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "images": counts.bins[:, 0].astype(int),
            "confidence": counts.bins[:, 2] / images,
            "accuracy": counts.bins[:, 1] / images,
        }
    )
    return rows[rows["images"] > 0].reset_index(drop=True)


def _top_probabilities(probabilities, classes: int) -> np.ndarray:
    """The largest value of each list: float64, N. probabilities: Arrow array of lists of `classes` floats."""
    return probabilities.flatten().to_numpy(zero_copy_only=False).reshape(-1, classes).max(1).astype(float)
