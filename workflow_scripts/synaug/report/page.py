"""The page: tables and figures put into the template."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from synaug.images import encode_image, load_pixels
from synaug.imbalance import class_rows
from synaug.manifests import read_table, with_group
from synaug.report import plots

PER_CLASS = 8  # images of each kind in the gallery
SUBSETS = ["all", "balanced", "many", "medium", "few", "harmonic_mean", "geometric_mean", "worst_class"]
METRICS = {"accuracy": "accuracy, %", "ece": "calibration error, %", "domain_probe": "domain probe, %"}
GAPS = [
    ("demographic_parity_difference", "demographic parity, difference"),
    ("demographic_parity_ratio", "demographic parity, ratio"),
    ("equal_opportunity_difference", "equal opportunity, difference"),
    ("equalized_odds_difference", "equalized odds, difference"),
]
CLASSES_SHOWN = 100  # more would make the page too large to open; the largest and the smallest are shown


def class_table(imbalance: pd.DataFrame, balanced: pd.DataFrame) -> pd.DataFrame:
    """label, label_name, shot, real, synthetic (numbers of training images), the largest class first."""
    cells = class_rows(imbalance)
    counts = balanced.groupby(["label", "source"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=["real", "synthetic"], fill_value=0)
    table = (
        cells[["label", "label_name", "shot"]].astype({"label": int}).merge(counts, left_on="label", right_index=True)
    )
    return table.sort_values(["real", "label"], ascending=[False, True], ignore_index=True)


def cell_sizes(imbalance: pd.DataFrame, balanced: pd.DataFrame) -> np.ndarray:
    """Training images, real and synthetic, of every cell: int. imbalance, balanced: manifests of these names."""
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).astype({"label": int, "group": str})
    sizes = with_group(balanced).astype({"label": int, "group": str}).groupby(["label", "group"]).size()
    return sizes.reindex(pd.MultiIndex.from_frame(cells[["label", "group"]]), fill_value=0).to_numpy()


def sample_images(
    classes: pd.DataFrame, real: pd.DataFrame, synthetic: pd.DataFrame, size: int, color: str
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """For every row of `classes`: its name, and up to PER_CLASS real and synthetic images (uint8, N x H x W x C).

    real, synthetic: the rows to choose from (columns label, image_id, path, row). Chosen by id, which is a hash.
    """
    chosen = [
        rows[rows["label"].isin(classes["label"])].sort_values("image_id").groupby("label").head(PER_CLASS)
        for rows in (real, synthetic)
    ]
    pixels = [load_pixels(rows, size, color) for rows in chosen]
    return [
        (row.label_name, *(p[(rows["label"] == row.label).to_numpy()] for p, rows in zip(pixels, chosen, strict=True)))
        for row in classes.itertuples()
    ]


def name_series(rows: pd.DataFrame, recipes: list[str]) -> pd.DataFrame:
    """The manifest `summary` or `differences` with a column `series`, ordered by `recipes`, stage 1 before stage 2."""
    order = [(recipe, stage) for recipe in recipes for stage in ("train", "finetune")]
    keys = list(zip(rows["recipe"], rows["stage"], strict=True))
    named = rows.assign(series=[series_name(*key) for key in keys], order=[order.index(key) for key in keys])
    return named.sort_values("order", kind="stable", ignore_index=True)


def figure_columns(summary: pd.DataFrame) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Heads of the tables of results, and below them the keys (metric, subset, weighting) that there are."""
    there = set(zip(summary["metric"], summary["subset"], summary["weighting"], strict=True))
    columns: dict[str, list] = {}
    for metric, title in METRICS.items():
        for weighting in ("images", "classes", "domains"):
            keys = [(metric, subset, weighting) for subset in SUBSETS if (metric, subset, weighting) in there]
            if keys:
                columns[f"{title}, {weighting} count alike"] = keys
    return list(columns.items())


def group_columns(summary: pd.DataFrame, names: list[str]) -> list[tuple[str, list[tuple[str, str, str]]]]:
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


def subset_name(key: tuple[str, str, str]) -> str:
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
    """What each criterion chooses of each method (manifest `selection`): columns as in `figure_columns`, and rows.

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


def generator_software(synthetic: pd.DataFrame) -> list[str]:
    """What the synthetic images were made with: versions and devices, as their shards recorded them, each once."""
    made: set[str] = set()
    for shard in sorted(synthetic["path"].dropna().unique()):
        table = read_table("shard", shard, ["libraries", "device"]).to_pandas().drop_duplicates()
        made |= {f"images: {row.libraries}, on {row.device}" for row in table.itertuples()}
    return sorted(made)


def series_name(recipe: str, stage: str) -> str:
    """What a network is called: its recipe, and whether its last layer was fine-tuned."""
    return recipe if stage == "train" else f"{recipe} + fine-tune"


def render(context: Mapping[str, Any]) -> str:
    """The page. Everything in `context` is escaped, except figures, which are marked as safe by `svg_figure`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = _data_uri
    environment.filters["subset"] = subset_name
    return environment.get_template("page.html.j2").render(context)


def svg_figure(figure) -> jinja2.utils.markupsafe.Markup:
    """A figure for the template. matplotlib has escaped the text in it."""
    return jinja2.utils.markupsafe.Markup(plots.svg(figure))


def percent(value: float, sign: str = "") -> str:
    """In %, one decimal. Equal figures are shown equal, though their last bits differ, and 0 has no sign of its own."""
    return f"{round(round(100 * value, 9), 1) + 0.0:{sign}.1f}"


def interval(low: float, high: float, mark: str = "") -> list[str]:
    """The ends of an interval (shares) as one line with `mark` behind it; no line without an interval."""
    return [] if pd.isna(low) else [f"[{percent(low)}, {percent(high)}] {mark}".strip()]


def _data_uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_image(image)).decode()
