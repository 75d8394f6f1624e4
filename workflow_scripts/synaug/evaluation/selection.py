"""Which settings of a method one would have chosen, by what is known of the validation images.

A worst group that looks good may have been chosen by worst-group accuracy, which needs the group of every validation
image; without groups one chooses by what is known (Idrissi et al. 2022, arXiv 2110.14503; Yang et al. 2023, arXiv
2302.12254). So the choice is made by each criterion, and its result on the test images is said with the criterion.
"""

import pandas as pd

# Criterion -> what has to be known of the validation images.
CRITERIA = {"average": "class", "balanced": "class", "worst_class": "class", "worst_cell": "class and group"}


def validation_figures(predictions: pd.DataFrame, groups: pd.Series) -> dict[str, float]:
    """Criterion -> its value, 0 to 1, for one network.

    predictions: rows of this manifest, of validation images. groups: group of each of these rows, "" without groups;
    then there is no worst_cell.
    """
    right = predictions["label"] == predictions["predicted"]
    per_class = right.groupby(predictions["label"].to_numpy()).mean()
    figures = {"average": right.mean(), "balanced": per_class.mean(), "worst_class": per_class.min()}
    if (groups != "").any():
        per_cell = right.groupby([predictions["label"].to_numpy(), groups.to_numpy()]).mean()
        figures["worst_cell"] = per_cell.min()
    return figures


def method_of(recipe: str) -> str:
    """What `recipe` is a setting of: the name up to its last hyphen, so that focal-0.5 and focal-1 are one method."""
    return recipe.rpartition("-")[0] or recipe


def select_settings(figures: pd.DataFrame, recipes: list[str]) -> pd.DataFrame:
    """Rows of the manifest `selection`: the recipe of each method that is best by each criterion.

    figures: recipe, stage, seed, criterion, value; of a fine-tuned recipe only that stage counts. recipes: in the
    order of the config; of equals the first is chosen. Seeds are averaged: a setting is chosen, not a network.
    """
    tuned = figures.loc[figures["stage"] == "finetune", "recipe"].unique()
    last = figures[(figures["stage"] == "finetune") | ~figures["recipe"].isin(tuned)]
    keys = ["criterion", "recipe", "stage"]
    table = last.groupby(keys, as_index=False).agg(validation=("value", "mean"), seeds=("seed", "nunique"))
    table["method"] = table["recipe"].map(method_of)
    table["candidates"] = table.groupby(["criterion", "method"])["recipe"].transform("size")
    table["order"] = table["recipe"].map(recipes.index)
    best = table.sort_values(["validation", "order"], ascending=[False, True]).groupby(["criterion", "method"]).head(1)
    return best.assign(needs=best["criterion"].map(CRITERIA)).drop(columns="order").reset_index(drop=True)
