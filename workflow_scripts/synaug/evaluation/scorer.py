"""All metrics of a network on the test images of an experiment: of images, classes, shot groups, and of groups."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import Resamples, resample
from synaug.evaluation.classification import SHOTS, score
from synaug.evaluation.group_assignment import GroupAssignment, assign_groups
from synaug.imbalance import class_rows
from synaug.manifests import read_manifest


@dataclass(frozen=True)
class Scorer:
    """The test images of an experiment and how they divide.

    images: image_id, label and label_name of every test image, N rows. shots: label -> many, medium or few.
    assignments: of `assign_groups`; none without groups. strata: class, or cell, of each image, int, N: resamples are
    drawn within it.
    """

    images: pd.DataFrame
    shots: dict[int, str]
    assignments: list[GroupAssignment]
    strata: np.ndarray

    def fits(self, predictions: pd.DataFrame) -> bool:
        """Whether `predictions`, of `read_test`, are for the same test images."""
        columns = ["image_id", "label"]
        return predictions[columns].equals(self.images[columns])

    def score(self, predictions: pd.DataFrame, resamples: Resamples) -> pd.DataFrame:
        """Rows (metric, subset, weighting), and a column per resample.

        predictions: of `read_test`. resamples: of `resample`, or within a finer division than `strata`.
        """
        groups = (assignment.score(predictions, resamples) for assignment in self.assignments)
        return pd.concat([score(predictions, self.shots, resamples), *groups])

    def resample(self, strata: np.ndarray | None = None) -> Resamples:
        """Resamples of the test images within `strata`, N; None: within those of this experiment.

        Classes of one test image are drawn together with others of their shot group, for the mean over these classes.
        """
        shots = pd.Categorical(self.images["label"].map(self.shots), SHOTS).codes
        return resample(self.strata if strata is None else strata, shots)


def read_scorer(predictions: str, test_split: str, imbalance: str, real: str, group_columns: list[str]) -> Scorer:
    """The scorer of an experiment, from the manifests of these names; `predictions` is that of any network."""
    cells = read_manifest("imbalance", imbalance)
    classes = class_rows(cells)
    shots = dict(zip(classes["label"].astype(int), classes["shot"], strict=True))
    images = read_test(predictions, test_split)[["image_id", "label", "label_name"]]
    assignments = assign_groups(images, read_manifest("real", real), cells, group_columns) if group_columns else []
    strata = assignments[-1].cell if assignments else images["label"].to_numpy()
    return Scorer(images, shots, assignments, strata)


def read_test(predictions: str, test_split: str) -> pd.DataFrame:
    """The rows of the manifest `predictions` for the test split."""
    rows = read_manifest("predictions", predictions)
    return rows[rows["split"] == test_split].reset_index(drop=True)
