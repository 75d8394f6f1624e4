"""Accuracy over all images, per class, and per shot group."""

import pandas as pd


def score(predictions: pd.DataFrame, shots: dict[int, str]) -> pd.DataFrame:
    """Rows (metric, subset, value) of one network's manifest `predictions`.

    shots: label -> many, medium or few. `all` is the share of right answers over all images; on a balanced test set
    that is also the mean over classes. A shot group is the mean over its classes, each with the same weight; a group
    without classes has no row.
    """
    right = (predictions["predicted"] == predictions["label"]).astype(float)
    per_class = right.groupby([predictions["label"], predictions["label_name"]]).mean().rename("value").reset_index()
    rows = [("all", right.mean()), ("balanced", per_class["value"].mean())]
    shot = per_class["label"].map(shots)
    rows += list(per_class.groupby(shot)["value"].mean().items())
    rows += [(f"class:{name}", value) for name, value in zip(per_class["label_name"], per_class["value"], strict=True)]
    return pd.DataFrame(rows, columns=["subset", "value"]).assign(metric="accuracy")
