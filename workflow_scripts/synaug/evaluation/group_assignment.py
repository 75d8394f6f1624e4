"""How the test images divide into groups: by each group column, and by the crossing of all columns."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import Resamples
from synaug.evaluation.groups import score_groups
from synaug.manifests import class_names


@dataclass(frozen=True)
class GroupAssignment:
    """The group of every test image, by one group column or by the crossing of all columns.

    attribute: name of the column, or of the crossing. group: number of each image's group, N. cell: number of its
    class within its group, N. training: training images per cell, groups x classes; None for one of several columns.
    is_crossing: this is the crossing of all columns, or the only column.
    """

    attribute: str
    class_names: list[str]
    group_names: list[str]
    group: np.ndarray
    cell: np.ndarray
    training: np.ndarray | None
    is_crossing: bool

    def score(self, predictions: pd.DataFrame, resamples: Resamples) -> pd.DataFrame:
        """Metrics of a network from `score_groups`; for one of several columns, only the metrics of its groups.

        predictions: in the order of `group`. resamples: within the cells of the crossing.
        """
        label, predicted = predictions["label"].to_numpy(), predictions["predicted"].to_numpy()
        names = (self.class_names, self.group_names, self.attribute)
        scores = score_groups(label, predicted, self.group, *names, resamples, self.training)
        metric, subset, weighting = (scores.index.get_level_values(i) for i in range(3))
        if not self.is_crossing:
            return scores[subset.str.startswith("group")]
        # `classification.score` already has the share of correct predictions over all images.
        return scores[~((metric == "accuracy") & (subset == "all") & (weighting == "images"))]


def _distinct(of_column: dict[str, list[str]]) -> dict[str, list[str]]:
    """The values of all images in each column, with the name of the column before those that another column has too."""
    owners = Counter(value for values in of_column.values() for value in set(values))
    return {
        column: [f"{column}={value}" if owners[value] > 1 else value for value in values]
        for column, values in of_column.items()
    }


def assign_groups(
    images: pd.DataFrame, real: pd.DataFrame, imbalance: pd.DataFrame, group_columns: list[str]
) -> list[GroupAssignment]:
    """One assignment per group column if there are several, then the crossing of all columns (or the only column).

    images: test images, columns image_id and label. real, imbalance: manifests of these names.
    """
    test = real.set_index("image_id").loc[images["image_id"]]
    classes = class_names(real)
    cells = imbalance[imbalance["kind"] == "cell"]
    training = cells.pivot(index="group", columns="label", values="count").sort_index()
    crossing = " x ".join(group_columns)
    group_of_image = {crossing: test["group"].tolist()}
    if len(group_columns) > 1:
        columns = zip(*test["attributes"], strict=True)
        of_column = dict(zip(group_columns, map(list, columns), strict=True))
        group_of_image = _distinct(of_column) | group_of_image
    assignments = []
    for attribute, names in group_of_image.items():
        is_crossing = attribute == crossing
        group_names = training.index.tolist() if is_crossing else sorted(set(names))
        group = pd.Categorical(names, group_names).codes.astype(int)
        cell = group * len(classes) + images["label"].to_numpy(int)
        sizes = training.to_numpy() if is_crossing else None
        assignments.append(GroupAssignment(attribute, classes, group_names, group, cell, sizes, is_crossing))
    return assignments
