"""Tables of the page: rows of manifests as the template needs them."""

import numpy as np
import pandas as pd

from synaug.evaluation.classification import SHOTS
from synaug.imbalance import class_rows
from synaug.manifests import with_group

SUBSETS = ["all", "balanced", "many", "medium", "few", "harmonic_mean", "geometric_mean", "worst_class"]
METRICS = {"accuracy": "accuracy, %", "ece": "calibration error, %", "domain_probe": "domain probe, %"}
MAIN = [("accuracy", "balanced", "classes"), *(("accuracy", shot, "classes") for shot in SHOTS)]
MAIN += [("accuracy", "worst_class", "classes"), ("accuracy", "worst_cell", "cells")]
CALIBRATION = ("ece", "all", "images")
MOST_CELLS = 1000  # rows of the table of cells
Key = tuple[str, str, str]  # metric, subset, weighting
Column = tuple[str, list[Key]]  # head of some columns of a table, and what they hold
GAPS = [
    ("demographic_parity_difference", "demographic parity, difference"),
    ("demographic_parity_ratio", "demographic parity, ratio"),
    ("equal_opportunity_difference", "equal opportunity, difference"),
    ("equalized_odds_difference", "equalized odds, difference"),
]


def class_table(imbalance: pd.DataFrame, balanced: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    """label, label_name, shot, and numbers of images: real, synthetic (training), rejected; the largest class first.

    imbalance, balanced, synthetic: manifests of these names.
    """
    table = class_rows(imbalance)[["label", "label_name", "shot"]].astype({"label": int})
    counts = {source: rows["label"].value_counts() for source, rows in balanced.groupby("source")}
    counts["rejected"] = synthetic.loc[~synthetic["accepted"], "label"].value_counts()
    for name in ("real", "synthetic", "rejected"):
        table[name] = table["label"].map(counts.get(name, pd.Series(dtype=int))).fillna(0).astype(int)
    return table.sort_values(["real", "label"], ascending=[False, True], ignore_index=True)


def with_accuracies(classes: pd.DataFrame, summary: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The class table with columns `before` and `after`: accuracies (0 to 1) of `names`, one or two series.

    Of one series `before` is null. A class without test images has none.
    """
    rows, _ = subsets_of(summary, "class:")
    means = rows.pivot(index="label_name", columns="series", values="mean")
    columns = {"before": names[0] if len(names) == 2 else None, "after": names[-1]}
    values = {key: classes["label_name"].map(means[name]) if name else np.nan for key, name in columns.items()}
    return classes.assign(**values)


def class_dicts(classes: pd.DataFrame, differences: pd.DataFrame) -> list[dict]:
    """The class table (with accuracies) as dicts; `gain`: after minus before, or None; `interval`: of it, as text.

    differences: rows of this manifest of the main recipe minus the baseline.
    """
    rows, _ = subsets_of(differences, "class:")
    intervals = {row.label_name: interval(row.low, row.high) for row in rows.itertuples()}
    return [
        row
        | {"gain": None if pd.isna(row["before"]) else row["after"] - row["before"]}
        | {"interval": " ".join(intervals.get(row["label_name"], []))}
        for row in classes.to_dict("records")
    ]


def subsets_of(
    rows: pd.DataFrame, prefix: str, order: list[str] | None = None, metric: str = "accuracy"
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of `metric` whose subset begins with `prefix`, the rest of it as column `label_name`; and these names.

    order: the names, if they are to come in this order; else they are sorted.
    """
    here = rows[(rows["metric"] == metric) & rows["subset"].str.startswith(prefix)]
    here = here.assign(label_name=here["subset"].str.removeprefix(prefix))
    return here, order or sorted(here["label_name"].unique())


def calibration_errors(summary: pd.DataFrame) -> dict[str, float]:
    """Series -> expected calibration error over all test images, 0 to 1, mean over seeds."""
    metric, subset, _ = CALIBRATION
    here = summary[(summary["metric"] == metric) & (summary["subset"] == subset)]
    return here.set_index("series")["mean"].to_dict()


def headline(summary: pd.DataFrame, names: list[str]) -> list[tuple[str, str, str | None]]:
    """What is said first: (name, figure before, figure after), in %; the last is None of one series only."""
    there = set(zip(summary["metric"], summary["subset"], summary["weighting"], strict=True))
    wanted = [("accuracy, " + key[1].replace("_", " "), key) for key in _main_keys(there)]
    wanted.append(("calibration error", CALIBRATION))
    found = []
    for title, (metric, subset, weighting) in wanted:
        here = (summary["metric"] == metric) & (summary["subset"] == subset) & (summary["weighting"] == weighting)
        means = summary[here].set_index("series")["mean"]
        values = [percent(means[name]) for name in names if name in means]
        if len(values) == len(names):
            found.append((title, values[0], values[1] if len(values) == 2 else None))
    return found


def cell_table(imbalance: pd.DataFrame, balanced: pd.DataFrame, summary: pd.DataFrame, names: list[str]) -> list[dict]:
    """A dict per cell, the smallest first: label_name, group, real, synthetic, accuracies of `names` (or None)."""
    cells = imbalance[imbalance["kind"] == "cell"].sort_values(["count", "label", "group"], kind="stable")
    made = balanced[balanced["source"] == "synthetic"].groupby(["label_name", "group"]).size()
    rows, _ = subsets_of(summary, "cell:")
    means = rows.set_index(["label_name", "series"])["mean"].to_dict()
    return [
        {
            "label_name": row.label_name,
            "group": row.group,
            "real": row.count_,
            "synthetic": int(made.get((row.label_name, row.group), 0)),
            "accuracies": [means.get((f"{row.label_name}|{row.group}", name)) for name in names],
        }
        for row in cells.rename(columns={"count": "count_"}).itertuples()
    ]


def cell_sizes(imbalance: pd.DataFrame, balanced: pd.DataFrame) -> np.ndarray:
    """Training images, real and synthetic, of every cell: int. imbalance, balanced: manifests of these names."""
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).astype({"label": int, "group": str})
    sizes = with_group(balanced).astype({"label": int, "group": str}).groupby(["label", "group"]).size()
    return sizes.reindex(pd.MultiIndex.from_frame(cells[["label", "group"]]), fill_value=0).to_numpy()


def name_series(rows: pd.DataFrame, recipes: list[str]) -> pd.DataFrame:
    """The manifest `summary` or `differences` with a column `series`, ordered by `recipes`, stage 1 before stage 2."""
    order = [(recipe, stage) for recipe in recipes for stage in ("train", "finetune")]
    keys = list(zip(rows["recipe"], rows["stage"], strict=True))
    named = rows.assign(series=[series_name(*key) for key in keys], order=[order.index(key) for key in keys])
    return named.sort_values("order", kind="stable", ignore_index=True)


def figure_columns(summary: pd.DataFrame) -> tuple[list[Column], list[Column]]:
    """Columns of the first table of results, and of the other one: heads, and below them the keys that there are."""
    there = set(zip(summary["metric"], summary["subset"], summary["weighting"], strict=True))
    main = _main_keys(there)
    columns: dict[str, list] = {}
    for metric, title in METRICS.items():
        for weighting in ("images", "classes", "domains"):
            keys = [(metric, subset, weighting) for subset in SUBSETS if (metric, subset, weighting) in there]
            if rest := [key for key in keys if key not in main]:
                columns[f"{title}, {weighting} count alike"] = rest
    return [("accuracy, %", main)], list(columns.items())


def _main_keys(there: set[Key]) -> list[Key]:
    """Those of MAIN that are there. A single shot group is all classes, and is not said beside them."""
    shots = [key for key in MAIN if key in there and key[1] in SHOTS]
    return [key for key in MAIN if key in there and (key not in shots or len(shots) > 1)]


def group_columns(summary: pd.DataFrame, names: list[str]) -> list[Column]:
    """The same for the figures of groups. names: of the group columns. Empty without groups."""
    if not names:
        return []
    whole = [("accuracy", "all", weighting) for weighting in ("images", "cells", "training")]
    columns = [("accuracy, %", [*whole, ("accuracy", "worst_cell", "cells"), ("accuracy", "worst_group", "groups")])]
    compared = list(dict.fromkeys([*names, " x ".join(names)]))
    columns += [(f"{title}, %", [(metric, f"groups:{name}", "groups") for name in compared]) for metric, title in GAPS]
    swapped = [("swap_drop", kind, "classes") for kind in ("synthetic", "real")]
    columns += [("pair probe, %", [("pair_probe", "all", "cells")]), ("swap drop, points", swapped)]
    there = set(zip(summary["metric"], summary["subset"], summary["weighting"], strict=True))
    columns = [(title, [key for key in keys if key in there]) for title, keys in columns]
    return [(title, keys) for title, keys in columns if keys]


def subset_name(key: Key) -> str:
    """What a column of a table is called. key: (metric, subset, weighting)."""
    metric, subset, weighting = key
    if metric == "accuracy" and subset == "all" and weighting != "images":
        return {"cells": "all, cells alike", "training": "all, as in training"}.get(weighting, subset)
    return subset.removeprefix("groups:").replace("_", " ")


def result_table(summary: pd.DataFrame) -> list[dict]:
    """One dict per series: name, values, seeds, costs. values: (metric, subset, weighting) -> lines of text, in %."""
    rows = []
    for name, group in summary.groupby("series", sort=False):
        first = group.iloc[0]
        values = {
            (row.metric, row.subset, row.weighting): [percent(row.mean), *interval(row.low, row.high)]
            for row in group.itertuples()
        }
        images = [f"{first['real_images']}", f"{first['synthetic_images']}"]
        seconds = [
            "?" if pd.isna(first[key]) else f"{first[key]:.0f}" for key in ("train_seconds", "generation_seconds")
        ]
        rows.append({"name": name, "values": values, "costs": [*images, *seconds], "seeds": first["seeds"]})
    return rows


def selection_table(selection: pd.DataFrame | None, summary: pd.DataFrame) -> dict | None:
    """What each criterion chooses of each method (manifest `selection`): columns and rows.

    summary: with `series`, for the figures on the test images. None without a selection.
    """
    if selection is None:
        return None
    there = set(zip(summary["metric"], summary["subset"], summary["weighting"], strict=True))
    shown = [("all", "images"), ("balanced", "classes"), ("worst_class", "classes"), ("worst_cell", "cells")]
    keys = [("accuracy", *key) for key in shown if ("accuracy", *key) in there]
    values = {row["name"]: row["values"] for row in result_table(summary)}
    named = name_series(selection, summary["recipe"].drop_duplicates().tolist())
    rows = [
        {
            "name": f"{row.criterion.replace('_', ' ')} ({row.needs})",
            "series": row.series,
            "candidates": row.candidates,
            "validation": percent(row.validation),
            "values": values[row.series],
        }
        for row in named.sort_values("criterion", kind="stable").itertuples()
    ]
    return {"columns": [("accuracy on the test images, %", keys)], "rows": rows}


def difference_table(differences: pd.DataFrame) -> list[dict]:
    """One dict per comparison: name, values and seeds as in `result_table`. values in percentage points."""
    rows = []
    for key, group in differences.groupby(["series", "baseline_recipe", "baseline_stage"], sort=False):
        values = {
            (row.metric, row.subset, row.weighting): [
                percent(row.mean, "+"),
                *interval(row.low, row.high, "s"),
                *interval(row.low_images, row.high_images, "i"),
            ]
            for row in group.itertuples()
        }
        name = f"{key[0]} minus {series_name(*key[1:])}"
        rows.append({"name": name, "values": values, "seeds": group["seeds"].iloc[0]})
    return rows


def quality_table(quality: pd.DataFrame, classes: list[str]) -> list[dict]:
    """One dict for all images and for each of `classes`: name, and its metrics (manifest `quality`) as numbers."""
    table = quality.pivot(index="label_name", columns="metric", values="value")
    rows = []
    for name in ["", *classes]:
        if name in table.index:
            values = {metric: value for metric, value in table.loc[name].items() if pd.notna(value)}
            rows.append({"name": name or "all", "values": values})
    return rows


def series_name(recipe: str, stage: str) -> str:
    """What a network is called: its recipe, and whether its last layer was fine-tuned."""
    return recipe if stage == "train" else f"{recipe} + fine-tune"


def percent(value: float, sign: str = "") -> str:
    """In %, one decimal. Equal figures are shown equal, though their last bits differ, and 0 has no sign of its own."""
    return f"{round(round(100 * value, 9), 1) + 0.0:{sign}.1f}"


def interval(low: float, high: float, mark: str = "") -> list[str]:
    """The ends of an interval (shares) as one line with `mark` behind it; no line without an interval."""
    return [] if pd.isna(low) else [f"[{percent(low)}, {percent(high)}] {mark}".strip()]
