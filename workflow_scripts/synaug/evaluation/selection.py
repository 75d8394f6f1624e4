"""Model selection: which setting of a method is chosen, depending on what is known about the validation images.

A high worst-group accuracy may result from choosing settings by worst-group accuracy, which needs the group of every
validation image. Without groups, another criterion has to choose (Idrissi et al. 2022, arXiv 2110.14503; Yang et al.
2023, arXiv 2302.12254). Each criterion therefore chooses a setting, and test results are reported per criterion.
"""

import re

import pandas as pd
from pandas.api.typing import SeriesGroupBy

from synaug.evaluation.choice import counts_as_worst

# A hyphen and the values after it. The hyphen of an exponent (3.12e-05) belongs to a value.
_VALUES = re.compile(r"-(?:[^-]|(?<=\de)-(?=\d))*$")
# Criterion -> what has to be known about the validation images.
CRITERIA = {"average": "class", "balanced": "class", "worst_class": "class", "worst_cell": "class and group"}


def validation_metrics(predictions: pd.DataFrame, groups: pd.Series) -> dict[str, float]:
    """Criterion -> its value, 0 to 1, for one network.

    predictions: rows of this manifest for validation images. groups: group of each of these rows, all "" without
    groups; then there is no worst_cell. A class or cell with few images is not the worst one, see `counts_as_worst`.
    """
    correct = predictions["label"] == predictions["predicted"]
    classes = correct.groupby(predictions["label"].to_numpy())
    metrics = {"average": correct.mean(), "balanced": classes.mean().mean(), "worst_class": _worst(classes)}
    if (groups != "").any():
        metrics["worst_cell"] = _worst(correct.groupby([predictions["label"].to_numpy(), groups.to_numpy()]))
    return metrics


def _worst(correct_of_units: SeriesGroupBy) -> float:
    """The lowest accuracy of a class or cell."""
    return correct_of_units.mean()[counts_as_worst(correct_of_units.size().to_numpy())].min()


def method_name(recipe: str) -> str:
    """The method of which `recipe` is a setting: its name up to the last hyphen (focal-0.5 and focal-1 are focal).

    The hyphen of an exponent does not count: focal-0.1x3.12e-05 is focal, too.
    """
    return _VALUES.sub("", recipe) or recipe


def select_settings(metrics: pd.DataFrame, recipes: list[str]) -> pd.DataFrame:
    """Rows of the manifest `selection`: for each method and criterion, the recipe with the highest validation metric.

    metrics: columns recipe, stage, seed, criterion, value; only the last stage of a recipe is a candidate. recipes: in
    the order of the config; the first of equal recipes is chosen. Values are averaged over seeds, because a setting is
    chosen, not a network. A setting with fewer seeds than another one of its method was dropped, and is not chosen.
    """
    fine_tuned = metrics.loc[metrics["stage"] == "finetune", "recipe"].unique()
    last = metrics[(metrics["stage"] == "finetune") | ~metrics["recipe"].isin(fine_tuned)]
    keys = ["criterion", "recipe", "stage"]
    table = last.groupby(keys, as_index=False).agg(validation=("value", "mean"), seeds=("seed", "nunique"))
    table["method"] = table["recipe"].map(method_name)
    table["candidates"] = table.groupby(["criterion", "method"])["recipe"].transform("size")
    table["order"] = table["recipe"].map(recipes.index)
    table = table.sort_values(["seeds", "validation", "order"], ascending=[False, False, True])
    best = table.groupby(["criterion", "method"]).head(1)
    return best.assign(needs=best["criterion"].map(CRITERIA)).drop(columns="order").reset_index(drop=True)
