"""The tables, the figure and the page of a study."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synaug.evaluation.selection import CRITERIA
from synaug.report.page import render, svg_figure
from synaug.report.plots import DARK, SERIES, svg
from synaug.report.tables import (
    BALANCED,
    CALIBRATION,
    SHOT_KEYS,
    WORST_CELL,
    WORST_CLASS,
    Key,
    available_keys,
    interval,
    name_series,
    percent,
    rows_with_key,
    seconds_text,
    series_name,
)

AS_IN_TRAINING = ("accuracy", "all", "training")
RESULT_TITLES = {  # columns of the table of results -> their titles
    BALANCED: "all classes",
    **{key: key[1] for key in SHOT_KEYS},
    WORST_CLASS: "worst class",
    WORST_CELL: "worst cell",
    AS_IN_TRAINING: "as in training",
    CALIBRATION: "ECE",
    ("domain_probe", "all", "domains"): "domain probe",
    ("pair_probe", "all", "cells"): "pair probe",
    ("swap_drop", "synthetic", "classes"): "swap, synthetic",
    ("swap_drop", "real", "classes"): "swap, real",
}
DIFFERENCE_KEYS = [BALANCED, *SHOT_KEYS, WORST_CELL, AS_IN_TRAINING]
SELECTION_KEYS = [BALANCED, WORST_CLASS, WORST_CELL, AS_IN_TRAINING]
FIGURE_KEYS = [BALANCED, WORST_CELL, *SHOT_KEYS[::-1]]  # the figure shows the first two that exist
INTERVALS = {  # column `varied` of the manifest `summary` -> what the intervals are over
    "training seed": "over training seeds; the synthetic images are the same for all seeds",
    "training seed, synthetic images": "over training seeds and synthetic images: every seed has its own images",
    "training seed, synthetic images, generator": "over training seeds, synthetic images and generators: every seed "
    "has its own generator and images from it",
}
LINE_HEIGHT = 0.19  # inches per network in the figure


@dataclass(frozen=True)
class Table:
    """Cells as text. title: a sentence, or empty. text_columns: how many of the first columns are left-aligned."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    text_columns: int = 1


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
    tables = {}
    for variant, rows in _rows_by_variant(summary, variants):
        tables[variant] = [_result_table(rows)]
        if selection is not None:
            tables[variant] += _selection_tables(selection[selection["variant"] == variant], rows)
        tables[variant] += _difference_tables(differences[differences["variant"] == variant], variants[variant])
    return tables


def markdown(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    variants: dict[str, list[str]],
    name: str,
    selection: pd.DataFrame | None = None,
) -> str:
    """The tables of all variants (see `variant_tables`) as text. name: of the study."""
    lines = [f"# {name}", "", *textwrap.wrap(f"Written by the workflow. {explanation(summary)}", 110)]
    for variant, tables in variant_tables(summary, differences, variants, selection).items():
        lines += ["", f"## {variant}"]
        for table in tables:
            aligned = ["---"] * table.text_columns + ["---:"] * (len(table.heads) - table.text_columns)
            title = [table.title, ""] if table.title else []
            lines += ["", *title, *map(_markdown_row, [table.heads, aligned, *table.rows])]
    return "\n".join(lines) + "\n"


def explanation(summary: pd.DataFrame) -> str:
    """What the numbers of the tables mean. summary: manifest `study`."""
    text = (
        "All values are in %, means over seeds [95 % interval over seeds, Student t]. The accuracy of a shot group is "
        "the mean over its classes; ECE is the calibration error over all test images. Device seconds: the training "
        "of one network + the generation of all images of a variant (also of those that were copied from another one)."
    )
    if (summary["subset"] == "worst_cell").any():
        text += (
            " A cell is a class in a group. As in training: mean over cells, weighted by their training images. Pair "
            "probe: share of images whose group and source (real or synthetic) a linear classifier recognises from the "
            "features. Swap: accuracy in the groups with synthetic training images of the class minus accuracy in the "
            "other groups, on synthetic and on real images that no network is trained on."
        )
    return text


def study_page(
    summary: pd.DataFrame,
    differences: pd.DataFrame,
    variants: dict[str, list[str]],
    name: str,
    selection: pd.DataFrame | None = None,
    replicates: dict[str, list[str]] | None = None,
) -> str:
    """The tables and the figure of all variants on one page, with links to the reports of the variants.

    replicates: variant -> the experiments of the study that it consists of; None: each is one.
    """
    members = replicates or {variant: [variant] for variant in variants}
    tables = variant_tables(summary, differences, variants, selection)
    context = {
        "title": name,
        "explanation": explanation(summary),
        "figure_svg": svg_figure(svg(study_figure(summary, variants, selection)), "study"),
        "variants": [
            (variant, [(member, f"../{name}-{member}/report.html") for member in members[variant]], tables[variant])
            for variant in tables
        ],
        "contents": {"figure": "All variants"} | {f"variant-{variant}": variant for variant in tables},
    }
    return render("study.html.j2", context)


def study_figure(
    summary: pd.DataFrame, variants: dict[str, list[str]], selection: pd.DataFrame | None = None
) -> Figure:
    """Two accuracies of every network with their intervals, a line per network, by variant.

    They are the accuracy over all classes, and that of the worst cell, the few-shot or the medium-shot classes. With
    `selection`, only the settings that are best by the worst cell (without groups: by all classes) on the validation
    images are shown.
    """
    keys = available_keys(summary, FIGURE_KEYS)[:2]
    if selection is not None:
        summary = _selected_networks(summary, selection)
    blocks = list(_rows_by_variant(summary, variants))
    networks = sum(rows["series"].nunique() for _, rows in blocks)
    figure = Figure(figsize=(9, 1.2 + LINE_HEIGHT * (networks + 1.5 * len(blocks))))
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    # The panels share their lines. A network without one of the accuracies has an empty line there.
    titles, lines, y = [], [], 0.0
    for number, (variant, rows) in enumerate(blocks):
        titles.append((y, variant))
        names = rows["series"].unique()
        lines += [(y + 1 + i, name, rows[rows["series"] == name], number) for i, name in enumerate(names)]
        y += 1.5 + len(names)
    for axes, key in zip(panels, keys, strict=True):
        for position, variant in titles:
            axes.annotate(
                variant, (0, position), (2, 0), ("axes fraction", "data"), "offset points", weight="bold", va="center"
            )
        for position, _, rows, number in lines:
            for row in rows_with_key(rows, key).itertuples():
                distances = np.nan_to_num(100 * np.array([[row.mean - row.low], [row.high - row.mean]], float))
                color = SERIES[number % len(SERIES)]
                axes.errorbar(100 * row.mean, position, xerr=distances, fmt="o", color=color, ecolor=DARK, markersize=4)
        axes.set_yticks([line[0] for line in lines], [line[1] for line in lines], fontsize=7)
        axes.set_ylim(y, -1)
        axes.set_xlabel(f"accuracy, {RESULT_TITLES[key]}, %")
        axes.grid(axis="x", color="#888888", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _selected_networks(summary: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """The rows of the networks that one criterion chooses, and all rows of variants without a selection."""
    criterion = "worst_cell" if (selection["criterion"] == "worst_cell").any() else "balanced"
    keys = ["variant", "recipe", "stage"]
    chosen = pd.MultiIndex.from_frame(selection.loc[selection["criterion"] == criterion, keys].astype(str))
    without_selection = ~summary["variant"].isin(selection["variant"])
    return summary[without_selection | pd.MultiIndex.from_frame(summary[keys].astype(str)).isin(chosen)]


def _result_table(summary: pd.DataFrame) -> Table:
    """Metrics, images and seconds: a line per series. summary: rows of a variant, with `series`."""
    keys = available_keys(summary, list(RESULT_TITLES))
    rows = []
    for series, of_series in summary.groupby("series", sort=False):
        first = of_series.iloc[0]
        cells = [_value_text(of_series, key) for key in keys]
        seconds = " + ".join(seconds_text(first[column]) for column in ("train_seconds", "generation_seconds"))
        images = f"{first['real_images']} + {first['synthetic_images']}"
        rows.append([series, *cells, images, seconds, str(first["seeds"])])
    return Table(_interval_text(summary), ["", *_titles(keys), "real + synthetic images", "seconds", "seeds"], rows)


def _interval_text(summary: pd.DataFrame) -> str:
    """A sentence that says what the intervals of a variant cover, or nothing if there are none."""
    if summary["seeds"].max() < 2:
        return ""
    filled = summary[summary["synthetic_images"] > 0]
    if filled.empty:
        return "Intervals are over training seeds."
    text = f"Intervals of networks with synthetic images are {INTERVALS[filled['varied'].iloc[0]]}."
    only_real = len(filled) < len(summary) and filled["varied"].iloc[0] != "training seed"
    return text + (" Those of the other networks are over training seeds." if only_real else "")


def _selection_tables(selection: pd.DataFrame, summary: pd.DataFrame) -> list[Table]:
    """The setting that each criterion chooses for each method, with its metrics on the test images; or no table."""
    if selection.empty:
        return []
    keys = available_keys(summary, SELECTION_KEYS)
    rows = []
    chosen = name_series(selection, summary["recipe"].drop_duplicates().tolist())
    for criterion in CRITERIA:
        for row in chosen[chosen["criterion"] == criterion].itertuples():
            cells = [_value_text(summary[summary["series"] == row.series], key) for key in keys]
            chosen_by = f"{criterion.replace('_', ' ')} ({row.needs})"
            rows.append([chosen_by, row.series, str(row.candidates), percent(row.validation), *cells])
    title = "Settings chosen on the validation images, with their results on the test images:"
    return [Table(title, ["chosen by", "setting", "out of", "validation", *_titles(keys)], rows, text_columns=2)]


def _difference_tables(differences: pd.DataFrame, recipes: list[str]) -> list[Table]:
    """Paired differences: a line per comparison; or no table."""
    if differences.empty:
        return []
    keys = available_keys(differences, DIFFERENCE_KEYS)
    named = name_series(differences, recipes).sort_values(["baseline_recipe", "order"], kind="stable")
    comparison = ["series", "baseline_recipe", "baseline_stage"]
    rows = [
        [f"{series} minus {series_name(*baseline)}", *(_value_text(group, key, "+") for key in keys)]
        for (series, *baseline), group in named.groupby(comparison, sort=False)
    ]
    return [Table("Differences, paired by seed, in percentage points:", ["", *_titles(keys)], rows)]


def _rows_by_variant(summary: pd.DataFrame, variants: dict[str, list[str]]) -> Iterator[tuple[str, pd.DataFrame]]:
    for variant, recipes in variants.items():
        yield variant, name_series(summary[summary["variant"] == variant], recipes)


def _titles(keys: list[Key]) -> list[str]:
    return [RESULT_TITLES[key] for key in keys]


def _value_text(rows: pd.DataFrame, key: Key, sign: str = "") -> str:
    """Mean and interval in %; empty if `rows` have no such metric."""
    rows = rows_with_key(rows, key)
    if rows.empty:
        return ""
    first = rows.iloc[0]
    return " ".join([percent(first["mean"], sign), *interval(first["low"], first["high"])])


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
