"""The groupings of a data set: each group column, and the crossing of all, as `score_groups` needs them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from synaug.evaluation.groups import score_groups
from synaug.manifests import class_names


@dataclass(frozen=True)
class Grouping:
    """One way to group the test images. group: number of each image's group, N. cells: of its class in it, N.

    training: training images per cell, groups x classes, or None. whole: the crossing of all columns, or the only one:
    its figures for all images and cells are kept, of the others only those of their groups.
    """

    name: str
    class_names: list[str]
    group_names: list[str]
    group: np.ndarray
    cells: np.ndarray
    training: np.ndarray | None
    whole: bool

    def score(self, predictions: pd.DataFrame, counts: np.ndarray) -> pd.DataFrame:
        """Figures of a network, as `score_groups` gives them. predictions: in the order of `group`."""
        label, predicted = predictions["label"].to_numpy(), predictions["predicted"].to_numpy()
        names = (self.class_names, self.group_names, self.name)
        scores = score_groups(label, predicted, self.group, *names, self.training, counts)
        metric, subset, weighting = (scores.index.get_level_values(i) for i in range(3))
        if not self.whole:
            return scores[subset.str.startswith("group")]
        # The share of all right answers stands among the figures of the classes.
        return scores[~((metric == "accuracy") & (subset == "all") & (weighting == "images"))]


def find_groupings(
    images: pd.DataFrame, real: pd.DataFrame, imbalance: pd.DataFrame, group_columns: list[str]
) -> list[Grouping]:
    """A grouping for every group column, if there are several, and last that of all of them together.

    images: test images, columns image_id and label. real, imbalance: manifests of these names.
    """
    known = real.set_index("image_id").loc[images["image_id"]]
    names = class_names(real)
    cells = imbalance[imbalance["kind"] == "cell"]
    sizes = cells.pivot(index="group", columns="label", values="count").sort_index()
    values = {" x ".join(group_columns): known["group"].tolist()}
    if len(group_columns) > 1:
        columns = zip(*known["attributes"], strict=True)
        values = dict(zip(group_columns, map(list, columns), strict=True)) | values
    found = []
    for number, (name, texts) in enumerate(values.items(), 1):
        whole = number == len(values)
        groups = sizes.index.tolist() if whole else sorted(set(texts))
        group = pd.Categorical(texts, groups).codes.astype(int)
        cell = group * len(names) + images["label"].to_numpy(int)
        found.append(Grouping(name, names, groups, group, cell, sizes.to_numpy() if whole else None, whole))
    return found
