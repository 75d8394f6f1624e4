"""Tables of the page: rows of manifests in the form that the template needs."""

import numpy as np
import pandas as pd

from synaug.evaluation.classification import SHOTS
from synaug.evaluation.intervals import mean_interval
from synaug.imbalance import class_rows
from synaug.manifests import with_group

Key = tuple[str, str, str]  # metric, subset, weighting
ColumnGroup = tuple[str, list[Key]]  # title of adjacent columns of a table, and their keys

SUBSETS = ["all", "balanced", "many", "medium", "few", "harmonic_mean", "geometric_mean", "worst_class"]
METRICS = {"accuracy": "accuracy, %", "ece": "calibration error, %", "domain_probe": "domain probe, %"}
BALANCED = ("accuracy", "balanced", "classes")
SHOT_KEYS = [("accuracy", shot, "classes") for shot in SHOTS]
WORST_CLASS = ("accuracy", "worst_class", "classes")
WORST_CELL = ("accuracy", "worst_cell", "cells")
MAIN_KEYS = [BALANCED, *SHOT_KEYS, WORST_CLASS, WORST_CELL]
CALIBRATION = ("ece", "all", "images")
GAPS = [
    ("demographic_parity_difference", "demographic parity, difference"),
    ("demographic_parity_ratio", "demographic parity, ratio"),
    ("equal_opportunity_difference", "equal opportunity, difference"),
    ("equalized_odds_difference", "equalized odds, difference"),
]
MOST_CELLS = 1000  # rows of the table of cells


def class_table(imbalance: pd.DataFrame, balanced: pd.DataFrame, synthetic: pd.DataFrame) -> pd.DataFrame:
    """label, label_name, shot, and numbers of images: real, synthetic (training), rejected; the largest class first.

    imbalance: manifest of this name. balanced, synthetic: counts of rows (column rows) of these manifests, see
    `ReportData`.
    """
    table = class_rows(imbalance)[["label", "label_name", "shot"]].astype({"label": int})
    counts = {source: of.groupby("label")["rows"].sum() for source, of in balanced.groupby("source")}
    counts["rejected"] = synthetic[~synthetic["accepted"]].groupby("label")["rows"].sum()
    for name in ("real", "synthetic", "rejected"):
        table[name] = table["label"].map(counts.get(name, pd.Series(dtype=int))).fillna(0).astype(int)
    return table.sort_values(["real", "label"], ascending=[False, True], ignore_index=True)


def with_accuracies(classes: pd.DataFrame, summary: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The class table with columns `before` and `after`: accuracies (0 to 1) of `names`, one or two series.

    With one series, `before` is null. A class without test images has null in both.
    """
    means = subset_rows(summary, "class:").pivot(index="label_name", columns="series", values="mean")
    before = classes["label_name"].map(means[names[0]]) if len(names) == 2 else np.nan
    return classes.assign(before=before, after=classes["label_name"].map(means[names[-1]]))


def class_dicts(classes: pd.DataFrame, differences: pd.DataFrame) -> list[dict]:
    """The class table (with accuracies) as dicts; `gain`: after minus before, or None; `interval`: its ends, as text.

    differences: rows of this manifest for the main recipe minus the baseline.
    """
    intervals = {row.label_name: interval(row.low, row.high) for row in subset_rows(differences, "class:").itertuples()}
    return [
        row
        | {"gain": None if pd.isna(row["before"]) else row["after"] - row["before"]}
        | {"interval": " ".join(intervals.get(row["label_name"], []))}
        for row in classes.to_dict("records")
    ]


def subset_rows(rows: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Accuracies whose subset starts with `prefix`, with the rest of the subset as column `label_name`."""
    rows = rows[(rows["metric"] == "accuracy") & rows["subset"].str.startswith(prefix)]
    return rows.assign(label_name=rows["subset"].str.removeprefix(prefix))


def rows_with_key(rows: pd.DataFrame, key: Key) -> pd.DataFrame:
    """The rows for one metric, subset and weighting."""
    metric, subset, weighting = key
    return rows[(rows["metric"] == metric) & (rows["subset"] == subset) & (rows["weighting"] == weighting)]


def available_keys(rows: pd.DataFrame, keys: list[Key]) -> list[Key]:
    """The keys that `rows` contain. A single shot group repeats `balanced`, so only one of them is kept."""
    present = set(zip(rows["metric"], rows["subset"], rows["weighting"], strict=True))
    available = [key for key in keys if key in present]
    shots = [key for key in available if key in SHOT_KEYS]
    return [key for key in available if shots != [key] or BALANCED not in available]


def calibration_errors(summary: pd.DataFrame) -> dict[str, float]:
    """Series -> expected calibration error over all test images, 0 to 1, mean over seeds."""
    return rows_with_key(summary, CALIBRATION).set_index("series")["mean"].to_dict()


def headline(summary: pd.DataFrame, names: list[str]) -> list[tuple[str, str, str | None]]:
    """The numbers at the top of the page: (title, value before, value after), in %; with one series, after is None."""
    titles = {key: "accuracy, " + key[1].replace("_", " ") for key in available_keys(summary, MAIN_KEYS)}
    rows = []
    for key, title in (titles | {CALIBRATION: "calibration error"}).items():
        means = rows_with_key(summary, key).set_index("series")["mean"]
        values = [percent(means[name]) for name in names if name in means]
        if len(values) == len(names):
            rows.append((title, values[0], values[1] if len(values) == 2 else None))
    return rows


def chosen_headline(summary: pd.DataFrame, choice: dict, baseline: str) -> list[dict]:
    """The figures at the top of the page of an experiment that chooses a recipe, the chosen one first.

    summary: with `series`. choice: of `choice_table`. baseline: series. One dict per network: name, roles (what it is
    compared as, text), balanced and few (accuracies on the test images in % with their intervals; None: no such class).
    """
    roles = {
        "chosen": choice["name"],
        "the best recipe without synthetic images on the validation images": choice["without"],
        "the baseline": baseline,
    }
    rows: list[dict] = []
    for name in dict.fromkeys(name for name in roles.values() if name):
        figures = {}
        for column, key in (("balanced", BALANCED), ("few", ("accuracy", "few", "classes"))):
            values = rows_with_key(summary[summary["series"] == name], key)
            texts = [" ".join([percent(row.mean), *interval(row.low, row.high)]) for row in values.itertuples()]
            figures[column] = texts[0] if texts else None
        rows.append({"name": name, "roles": " and ".join(role for role in roles if roles[role] == name), **figures})
    return rows


def cell_table(imbalance: pd.DataFrame, balanced: pd.DataFrame, summary: pd.DataFrame, names: list[str]) -> list[dict]:
    """A dict per cell, the smallest first: label_name, group, real, synthetic, accuracies of `names` (or None).

    balanced: counts of rows.
    """
    cells = imbalance[imbalance["kind"] == "cell"].sort_values(["count", "label", "group"], kind="stable")
    synthetic = balanced[balanced["source"] == "synthetic"].groupby(["label_name", "group"])["rows"].sum()
    means = subset_rows(summary, "cell:").set_index(["label_name", "series"])["mean"].to_dict()
    return [
        {
            "label_name": label_name,
            "group": group,
            "real": count,
            "synthetic": int(synthetic.get((label_name, group), 0)),
            "accuracies": [means.get((f"{label_name}|{group}", name)) for name in names],
        }
        for label_name, group, count in cells[["label_name", "group", "count"]].itertuples(index=False)
    ]


def cell_sizes(imbalance: pd.DataFrame, balanced: pd.DataFrame) -> np.ndarray:
    """Training images, real and synthetic, of every cell: int. imbalance: manifest. balanced: counts of rows."""
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).astype({"label": int, "group": str})
    sizes = balanced.astype({"label": int, "group": str}).groupby(["label", "group"])["rows"].sum()
    return sizes.reindex(pd.MultiIndex.from_frame(cells[["label", "group"]]), fill_value=0).to_numpy()


def name_series(rows: pd.DataFrame, recipes: list[str]) -> pd.DataFrame:
    """The manifest `summary` or `differences` with a column `series`, ordered by `recipes`, stage 1 before stage 2."""
    order = [(recipe, stage) for recipe in recipes for stage in ("train", "finetune")]
    keys = list(zip(rows["recipe"], rows["stage"], strict=True))
    named = rows.assign(series=[series_name(*key) for key in keys], order=[order.index(key) for key in keys])
    return named.sort_values("order", kind="stable", ignore_index=True)


def other_columns(summary: pd.DataFrame) -> list[ColumnGroup]:
    """Columns of the table of all metrics that are not in the main table."""
    main = available_keys(summary, MAIN_KEYS)
    columns = []
    for metric, title in METRICS.items():
        for weighting in ("images", "classes", "domains"):
            keys = available_keys(summary, [(metric, subset, weighting) for subset in SUBSETS])
            if others := [key for key in keys if key not in main]:
                columns.append((f"{title}, mean over {weighting}", others))
    return columns


def group_metric_columns(summary: pd.DataFrame, group_columns: list[str]) -> list[ColumnGroup]:
    """Columns of the table of group metrics; empty without groups."""
    if not group_columns:
        return []
    accuracies = [("accuracy", "all", weighting) for weighting in ("images", "cells", "training")]
    accuracies += [("accuracy", "worst_cell", "cells"), ("accuracy", "worst_group", "groups")]
    attributes = list(dict.fromkeys([*group_columns, " x ".join(group_columns)]))
    drops = [("swap_drop", source, "classes") for source in ("synthetic", "real")]
    columns = [
        ("accuracy, %", accuracies),
        *((f"{title}, %", [(metric, f"groups:{name}", "groups") for name in attributes]) for metric, title in GAPS),
        ("pair probe, %", [("pair_probe", "all", "cells")]),
        ("swap drop, points", drops),
    ]
    columns = [(title, available_keys(summary, keys)) for title, keys in columns]
    return [(title, keys) for title, keys in columns if keys]


def column_title(key: Key) -> str:
    """Title of the column of a metric."""
    metric, subset, weighting = key
    if metric == "accuracy" and subset == "all":
        return {"cells": "mean over cells", "training": "weighted as in training"}.get(weighting, subset)
    return subset.removeprefix("groups:").replace("_", " ")


def result_table(summary: pd.DataFrame) -> list[dict]:
    """One dict per series: name, values, costs, seeds. values: key -> lines of text, in %."""
    table = []
    for name, rows in summary.groupby("series", sort=False):
        first = rows.iloc[0]
        values = {
            (row.metric, row.subset, row.weighting): [percent(row.mean), *interval(row.low, row.high)]
            for row in rows.itertuples()
        }
        images = [str(first["real_images"]), str(first["synthetic_images"])]
        seconds = [seconds_text(first[column]) for column in ("train_seconds", "generation_seconds")]
        table.append({"name": name, "values": values, "costs": [*images, *seconds], "seeds": first["seeds"]})
    return table


def selection_table(selection: pd.DataFrame | None, summary: pd.DataFrame) -> dict | None:
    """The setting that each criterion chooses of each method (manifest `selection`), as columns and rows.

    summary: with `series`, for the metrics on the test images. None without a selection.
    """
    if selection is None:
        return None
    keys = [("all", "images"), ("balanced", "classes"), ("worst_class", "classes"), ("worst_cell", "cells")]
    keys = available_keys(summary, [("accuracy", *key) for key in keys])
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


def choice_table(chosen: pd.DataFrame | None, summary: pd.DataFrame, final: list[pd.DataFrame]) -> dict | None:
    """What the choice of a recipe says (manifest `chosen`), with accuracies on the test images. None without a choice.

    summary: with `series`. final: test predictions of the networks that were trained on training and validation images.
    name, reason: of the chosen recipe. synthetic: whether it uses synthetic images. without: the best recipe without
    them. final: balanced accuracy of the final networks on the test images. dropped: whether some candidates have fewer
    seeds than others. rows: all candidates, the best on the validation images first, and those with fewer seeds last.
    """
    if chosen is None:
        return None
    accuracies = summary[(summary["metric"] == "accuracy") & (summary["subset"] == "balanced")].set_index("series")
    named = name_series(chosen, summary["recipe"].drop_duplicates().tolist())
    named = named.sort_values(["seeds", "validation"], ascending=False, kind="stable")

    def test_accuracy(series: str) -> list[str]:
        row = accuracies.loc[series]
        return [percent(row["mean"]), *interval(row["low"], row["high"])]

    correct = [
        (predictions["label"] == predictions["predicted"]).groupby(predictions["label"]) for predictions in final
    ]
    mean, low, high = mean_interval(np.array([by_class.mean().mean() for by_class in correct]), least=0, most=1)
    [best] = named[named["chosen"]].itertuples()
    without = named.loc[~named["synthetic"], "series"].head(1).tolist()
    return {
        "name": best.series,
        "reason": best.reason,
        "synthetic": best.synthetic,
        "metric": best.metric.replace("_", " "),
        "images": best.images,
        "final": " ".join([percent(mean), *interval(low, high)]),
        "without": without[0] if without else None,
        "dropped": named["seeds"].nunique() > 1,
        "rows": [
            {
                "name": row.series,
                "chosen": row.chosen,
                "validation": f"{percent(row.validation)} ± {percent(row.standard_error)}",
                "gain": f"{percent(row.gain, '+')} ± {percent(row.gain_standard_error)}",
                "test": " ".join(test_accuracy(row.series)),
                "seeds": row.seeds,
            }
            for row in named.itertuples()
        ],
    }


def difference_table(differences: pd.DataFrame) -> list[dict]:
    """One dict per comparison: name, values and seeds as in `result_table`. values in percentage points."""
    table = []
    for key, rows in differences.groupby(["series", "baseline_recipe", "baseline_stage"], sort=False):
        series, *baseline = key
        values = {
            (row.metric, row.subset, row.weighting): [
                percent(row.mean, "+"),
                *interval(row.low, row.high, "s"),
                *interval(row.low_images, row.high_images, "i"),
            ]
            for row in rows.itertuples()
        }
        name = f"{series} minus {series_name(*baseline)}"
        table.append({"name": name, "values": values, "seeds": rows["seeds"].iloc[0]})
    return table


def quality_table(quality: pd.DataFrame, classes: list[str]) -> list[dict]:
    """One dict for all images and for each of `classes`: name, its metrics, their intervals, and `compared`.

    quality: the manifest. compared: number of images of each domain in the comparisons.
    """
    table, low, high = (
        quality.pivot(index="label_name", columns="metric", values=end) for end in ("value", "low", "high")
    )
    compared = quality[quality["features"].notna()].groupby("label_name")["images_real"].max()
    rows = []
    for name in ["", *classes]:
        if name in table.index:
            values = {metric: value for metric, value in table.loc[name].items() if pd.notna(value)}
            ends = {metric: (low.at[name, metric], high.at[name, metric]) for metric in values}
            intervals = {metric: pair for metric, pair in ends.items() if pd.notna(pair[0])}
            rows.append(
                {
                    "name": name or "all",
                    "values": values,
                    "intervals": intervals,
                    "compared": int(compared.get(name, 0)),
                }
            )
    return rows


def fill_table(qualities: pd.DataFrame) -> list[dict]:
    """As `quality_table`, one dict for all images of each fill, with its name. qualities: manifest `quality`."""
    return [
        quality_table(of_fill, [])[0] | {"name": fill} for fill, of_fill in qualities.groupby("fill", sort=True) if fill
    ]


def gate_table(gate: pd.DataFrame | None) -> list[dict]:
    """One dict for each fill and class that gets less than all, by the manifest `gate`: name, fill, share, reason."""
    if gate is None:
        return []
    return [
        {"name": row.label_name, "fill": row.fill, "share": percent(row.share), "reason": row.reason}
        for row in gate[gate["share"] < 1].sort_values(["fill", "share", "label"]).itertuples()
    ]


def series_name(recipe: str, stage: str) -> str:
    """Name of the networks of a recipe and stage on the page."""
    return recipe if stage == "train" else f"{recipe} + fine-tune"


def percent(value: float | None, sign: str = "") -> str:
    """In %, one decimal. Rounded twice, so that equal values with different last bits look equal; never -0.0.

    A dash if there is no value: the accuracy of a class without test images.
    """
    if pd.isna(value):
        return "-"
    return f"{round(round(100 * value, 9), 1) + 0.0:{sign}.1f}"


def interval(low: float, high: float, mark: str = "") -> list[str]:
    """An interval (shares) as one line of text, followed by `mark`.

    No line if the ends are null or equal: resamples or seeds that agree do not show how far the value may be off.
    """
    return [] if pd.isna(low) or low == high else [f"[{percent(low)}, {percent(high)}] {mark}".strip()]


def seconds_text(seconds: float) -> str:
    """Whole seconds; ? if unknown."""
    return "?" if pd.isna(seconds) else f"{seconds:.0f}"
