"""The tables, the figure and the page of a study."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synaug.report.page import render, svg_figure
from synaug.report.plots import SERIES
from synaug.report.tables import interval, name_series, percent, series_name

Key = tuple[str, str, str]  # metric, subset, weighting
SHOTS = [("accuracy", subset, "classes") for subset in ("many", "medium", "few")]
CELLS = [("accuracy", "worst_cell", "cells"), ("accuracy", "all", "training")]
SHOWN = [
    ("accuracy", "balanced", "classes"),
    *SHOTS,
    ("accuracy", "worst_class", "classes"),
    *CELLS,
    ("ece", "all", "images"),
    ("domain_probe", "all", "domains"),
    ("pair_probe", "all", "cells"),
    ("swap_drop", "synthetic", "classes"),
    ("swap_drop", "real", "classes"),
]
COMPARED = [("accuracy", "balanced", "classes"), *SHOTS, *CELLS]
CHOSEN = [("accuracy", "balanced", "classes"), ("accuracy", "worst_class", "classes"), *CELLS]
HEADS = {
    ("accuracy", "balanced", "classes"): "all classes",
    ("accuracy", "worst_class", "classes"): "worst class",
    ("accuracy", "worst_cell", "cells"): "worst cell",
    ("accuracy", "all", "training"): "as in training",
    ("ece", "all", "images"): "ECE",
    ("domain_probe", "all", "domains"): "domain probe",
    ("pair_probe", "all", "cells"): "pair probe",
    ("swap_drop", "synthetic", "classes"): "swap, synthetic",
    ("swap_drop", "real", "classes"): "swap, real",
}
LINE = 0.19  # inches per network in the figure


@dataclass(frozen=True)
class Table:
    """Cells as text. title: empty, or a sentence. left: how many columns, of the first ones, are words."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    left: int = 1


def variant_tables(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    variants: dict[str, list[str]],
    selection: pd.DataFrame | None = None,
) -> dict[str, list[Table]]:
    """Tables of every variant. summary, differences, selection: manifests `study`, `study_differences`,
    `study_selection`.

    variants: variant -> its recipes, in the order to show. Accuracies are means over classes.
    """
    found = {}
    for variant, group in _in_order(summary, variants):
        keys = _there(group, SHOWN)
        rows = []
        for series, of_series in group.groupby("series", sort=False):
            first, cells = of_series.iloc[0], [_cell(of_series, key) for key in keys]
            seconds = " + ".join(_seconds(first[key]) for key in ("train_seconds", "generation_seconds"))
            images = f"{first['real_images']} + {first['synthetic_images']}"
            rows.append([series, *cells, images, seconds, str(first["seeds"])])
        heads = ["", *map(_head, keys), "real + synthetic images", "seconds", "seeds"]
        tables = [Table("", heads, rows)]
        if selection is not None:
            tables += _selection(selection[selection["variant"] == variant], group)
        found[variant] = tables + _differences(differences[differences["variant"] == variant], variants[variant])
    return found


def markdown(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    variants: dict[str, list[str]],
    name: str,
    selection: pd.DataFrame | None = None,
) -> str:
    """The tables of all variants (see `variant_tables`) as text. name: of the study."""
    lines = [f"# {name}", "", *textwrap.wrap(f"Written by the workflow. {about(summary)}", 110)]
    for variant, tables in variant_tables(summary, differences, variants, selection).items():
        lines += ["", f"## {variant}"]
        for table in tables:
            aligned = ["---"] * table.left + ["---:"] * (len(table.heads) - table.left)
            lines += ["", *([table.title, ""] if table.title else []), _row(table.heads), _row(aligned)]
            lines += [_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def about(summary: pd.DataFrame) -> str:
    """What the figures of the tables are."""
    text = (
        "In %, mean over seeds [95 % interval over seeds, Student t]. Accuracies are means over the classes of a shot "
        "group; ECE is the calibration error over all test images. Seconds: of one network, and, once for all networks "
        "of a variant, of sampling (images of another variant cost only the copying)."
    )
    if (summary["subset"] == "worst_cell").any():
        text += (
            " A cell is a class in a group; `as in training` is the mean over cells by their training images. Pair "
            "probe: how often group and kind (real or synthetic) of an image are told from the features. Swap: "
            "accuracy where a class has its synthetic images minus elsewhere, of synthetic and of real images that "
            "nothing was trained on."
        )
    return text


def study_page(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    variants: dict[str, list[str]],
    name: str,
    selection: pd.DataFrame | None = None,
) -> str:
    """The tables and the figure of all variants on one page, with links to the pages of their experiments."""
    tables = variant_tables(summary, differences, variants, selection)
    context = {
        "title": name,
        "about": about(summary),
        "figure_svg": svg_figure(study_figure(summary, variants, selection), "study"),
        "variants": [(variant, f"../{name}-{variant}/report.html", tables[variant]) for variant in tables],
        "contents": [("figure", "All variants"), *((f"variant-{variant}", variant) for variant in tables)],
    }
    return render("study.html.j2", context)


def study_figure(
    summary: pd.DataFrame, variants: dict[str, list[str]], selection: pd.DataFrame | None = None
) -> Figure:
    """Two figures of every network with intervals, a line per network, by variants.

    Accuracy over all classes, and of the worst cell, the few-shot or the medium classes. With `selection` only the
    settings that are best by the worst cell (or, without groups, by all classes) on the validation images.
    """
    shown = [("accuracy", "balanced", "classes"), CELLS[0], *SHOTS[::-1]]
    panels_of = _there(summary, shown)[:2]
    if selection is not None:
        summary = _chosen(summary, selection)
    names, blocks = 0, []
    for variant, group in _in_order(summary, variants):
        names += group["series"].nunique()
        blocks.append((variant, group))
    figure = Figure(figsize=(9, 1.2 + LINE * (names + 1.5 * len(blocks))))
    panels = figure.subplots(1, len(panels_of), sharey=True, squeeze=False)[0]
    for axes, key in zip(panels, panels_of, strict=True):
        at, ticks = 0.0, []
        for number, (variant, group) in enumerate(blocks):
            axes.annotate(
                variant, (0, at), (2, 0), ("axes fraction", "data"), "offset points", weight="bold", va="center"
            )
            at += 1
            for row in _rows_of(group, key).itertuples():
                spread = np.nan_to_num(100 * np.array([[row.mean - row.low], [row.high - row.mean]], float))
                color = SERIES[number % len(SERIES)]
                axes.errorbar(100 * row.mean, at, xerr=spread, fmt="o", color=color, ecolor="#333333", markersize=4)
                ticks.append((at, row.series))
                at += 1
            at += 0.5
        axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=7)
        axes.set_ylim(at, -1)
        axes.set_xlabel(f"accuracy, {_head(key)}, %")
        axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _chosen(summary: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """The rows of the networks that a single criterion chooses, and all of variants where none is chosen."""
    criterion = "worst_cell" if (selection["criterion"] == "worst_cell").any() else "balanced"
    keys = ["variant", "recipe", "stage"]
    best = pd.MultiIndex.from_frame(selection.loc[selection["criterion"] == criterion, keys].astype(str))
    free = ~summary["variant"].isin(selection["variant"])
    return summary[free | pd.MultiIndex.from_frame(summary[keys].astype(str)).isin(best)]


def _selection(selection: pd.DataFrame, summary: pd.DataFrame) -> list[Table]:
    """A table: what each criterion chooses of each method by the validation images, and its figures on the test."""
    if selection.empty:
        return []
    keys = _there(summary, CHOSEN)
    rows = []
    chosen = name_series(selection, summary["recipe"].drop_duplicates().tolist())
    for criterion in ("average", "balanced", "worst_class", "worst_cell"):
        for row in chosen[chosen["criterion"] == criterion].itertuples():
            cells = [_cell(summary[summary["series"] == row.series], key) for key in keys]
            what = f"{criterion.replace('_', ' ')} ({row.needs})"
            rows.append([what, row.series, str(row.candidates), percent(row.validation), *cells])
    title = "Settings chosen by the validation images, and their figures on the test images:"
    return [Table(title, ["chosen by", "", "of", "validation", *map(_head, keys)], rows, 2)]


def _differences(differences: pd.DataFrame, recipes: list[str]) -> list[Table]:
    """A table of paired differences: a line per comparison."""
    if differences.empty:
        return []
    keys = _there(differences, COMPARED)
    named = name_series(differences, recipes).sort_values(["baseline_recipe", "order"], kind="stable")
    pair = ["series", "baseline_recipe", "baseline_stage"]
    rows = [
        [f"{names[0]} minus {series_name(*names[1:])}", *(_cell(group, key, "+") for key in keys)]
        for names, group in named.groupby(pair, sort=False)
    ]
    return [Table("Differences, paired by seed, in points:", ["", *map(_head, keys)], rows)]


def _in_order(summary: pd.DataFrame, variants: dict[str, list[str]]) -> Iterator[tuple[str, pd.DataFrame]]:
    for variant, recipes in variants.items():
        yield variant, name_series(summary[summary["variant"] == variant], recipes)


def _rows_of(rows: pd.DataFrame, key: Key) -> pd.DataFrame:
    metric, subset, weighting = key
    return rows[(rows["metric"] == metric) & (rows["subset"] == subset) & (rows["weighting"] == weighting)]


def _there(rows: pd.DataFrame, keys: list[Key]) -> list[Key]:
    """Those of `keys` that `rows` has. A single shot group is all classes, and is not said beside them."""
    there = [key for key in keys if len(_rows_of(rows, key))]
    shots = [key for key in there if key in SHOTS]
    return [key for key in there if [key] != shots or ("accuracy", "balanced", "classes") not in there]


def _head(key: Key) -> str:
    return HEADS.get(key, key[1])


def _cell(rows: pd.DataFrame, key: Key, sign: str = "") -> str:
    one = _rows_of(rows, key)
    if one.empty:
        return ""
    first = one.iloc[0]
    return " ".join([percent(first["mean"], sign), *interval(first["low"], first["high"])])


def _seconds(value: float) -> str:
    return "?" if pd.isna(value) else f"{value:.0f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
