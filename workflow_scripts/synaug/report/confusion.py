"""What networks answered, image by image: which classes they take for which, and how sure they are of it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from synaug.evaluation.classification import BINS
from synaug.manifests import read_table


@dataclass(frozen=True)
class Answers:
    """Of the networks of one recipe and stage, all seeds together.

    confusion: int, classes x classes; row: true class, column: answer. bins: float, BINS x 3: images whose top
    probability falls in the bin, how many of them are right, and the sum of their top probabilities.
    """

    confusion: np.ndarray
    bins: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Confusion as shares of the true class: rows sum to 1, or to 0 without a test image."""
        return self.confusion / np.maximum(self.confusion.sum(1, keepdims=True), 1)


def read_answers(paths: Iterable[str], classes: int, split: str) -> Answers:
    """Count what networks answered; bins as `evaluation.classification` has them.

    paths: manifests `predictions`, one per seed. split: the images that count.
    """
    confusion = np.zeros((classes, classes), np.int64)
    bins = np.zeros((BINS, 3))
    for path in paths:
        table = read_table("predictions", path, ["split", "label", "predicted", "probabilities"])
        table = table.filter(pc.equal(table["split"].cast("string"), split))
        if not table.num_rows:
            continue
        label, predicted = (table[name].to_numpy() for name in ("label", "predicted"))
        confusion += np.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes)
        top = np.concatenate([_largest(part, classes) for part in table["probabilities"].chunks])
        number = np.clip(np.ceil(top * BINS).astype(int) - 1, 0, BINS - 1)
        for column, weights in enumerate((np.ones(len(top)), label == predicted, top)):
            bins[:, column] += np.bincount(number, weights, minlength=BINS)
    return Answers(confusion, bins)


def confused_pairs(answers: list[Answers], names: list[str], most: int = 15) -> list[dict]:
    """The pairs (true class, answer) that the last of `answers` confuses most, the worst first.

    name, taken_for, and shares: of the test images of the class, of each of `answers`. Without pairs that never occur.
    """
    wrong = answers[-1].shares * (1 - np.eye(len(names)))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    return [
        {"name": names[i], "taken_for": names[j], "shares": [float(one.shares[i, j]) for one in answers]}
        for i, j in (np.unravel_index(at, wrong.shape) for at in order)
        if wrong[i, j] > 0
    ]


def binned(confusion: np.ndarray, order: np.ndarray, bins: int) -> np.ndarray:
    """Confusion of bins of classes in place of classes: bins x bins, shares of the images of a bin.

    order: the classes as they go into bins, which are as even as they can be.
    """
    edges = np.linspace(0, len(order), bins + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(confusion[np.ix_(order, order)], edges, 0), edges, 1)
    return sums / np.maximum(sums.sum(1, keepdims=True), 1)


def reliability_table(answers: Answers) -> pd.DataFrame:
    """A row per bin with images: low, high (of the probability), images, confidence and accuracy (means, 0 to 1)."""
    edges = np.arange(BINS + 1) / BINS
    count = np.maximum(answers.bins[:, 0], 1)
    rows = pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "images": answers.bins[:, 0].astype(int),
            "confidence": answers.bins[:, 2] / count,
            "accuracy": answers.bins[:, 1] / count,
        }
    )
    return rows[rows["images"] > 0].reset_index(drop=True)


def _largest(probabilities, classes: int) -> np.ndarray:
    """The largest of each list. probabilities: Arrow lists of `classes` floats."""
    return probabilities.flatten().to_numpy(zero_copy_only=False).reshape(-1, classes).max(1).astype(float)
