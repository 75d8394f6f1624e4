"""The table and the figure of a study."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from synaug.report.page import interval, name_series, percent
from synaug.report.plots import SERIES

SHOWN = [("accuracy", subset) for subset in ("balanced", "many", "medium", "few", "worst_class")] + [("ece", "all")]
HEADS = {"balanced": "all classes", "worst_class": "worst class", "all": "ECE"}
LINE = 0.19  # inches per network in the figure


def markdown(summary: pd.DataFrame, differences: pd.DataFrame, variants: dict[str, list[str]], name: str) -> str:
    """Tables of all variants. summary, differences: manifests `study` and `study_differences`.

    variants: variant -> its recipes, in the order to show. Accuracies are means over classes.
    """
    probes = [("domain_probe", "all")] if (summary["metric"] == "domain_probe").any() else []
    lines = [
        f"# {name}",
        "",
        "Written by the workflow. In %, mean over seeds [95 % interval over seeds, Student t]. Accuracies are means",
        "over the classes of a shot group; ECE is the calibration error over all test images. Seconds: of one network,",
        "and, once for all networks of a variant, of sampling (images of another variant cost only the copying).",
    ]
    for variant, group in _in_order(summary, variants):
        keys = [key for key in SHOWN + probes if ((group["metric"] == key[0]) & (group["subset"] == key[1])).any()]
        heads = [HEADS.get(subset, subset) if metric != "domain_probe" else "domain probe" for metric, subset in keys]
        lines += ["", f"## {variant}", "", _row(["", *heads, "real + synthetic images", "seconds", "seeds"])]
        lines.append(_row(["---", *["---:"] * (len(heads) + 3)]))
        for series, rows in group.groupby("series", sort=False):
            first, cells = rows.iloc[0], [_cell(rows, *key) for key in keys]
            seconds = " + ".join(_seconds(first[key]) for key in ("train_seconds", "generation_seconds"))
            images = f"{first['real_images']} + {first['synthetic_images']}"
            lines.append(_row([series, *cells, images, seconds, str(first["seeds"])]))
        lines += _differences(differences[differences["variant"] == variant], variants[variant])
    return "\n".join(lines) + "\n"


def study_figure(summary: pd.DataFrame, variants: dict[str, list[str]]) -> Figure:
    """Accuracy over all classes and of the few-shot classes, with intervals: a line per network, by variants."""
    shots = [subset for subset in ("balanced", "few", "medium") if (summary["subset"] == subset).any()][:2]
    names, marks, blocks = [], [], []
    for number, (variant, group) in enumerate(_in_order(summary, variants)):
        for series in group["series"].unique():
            names.append(series)
            marks.append(number)
        blocks.append((variant, group))
    figure = Figure(figsize=(9, 1.2 + LINE * (len(names) + 1.5 * len(blocks))))
    panels = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
    for axes, subset in zip(panels, shots, strict=True):
        at, ticks = 0.0, []
        for number, (variant, group) in enumerate(blocks):
            axes.annotate(
                variant, (0, at), (2, 0), ("axes fraction", "data"), "offset points", weight="bold", va="center"
            )
            at += 1
            rows = group[(group["metric"] == "accuracy") & (group["subset"] == subset)]
            for row in rows.itertuples():
                spread = np.nan_to_num(100 * np.array([[row.mean - row.low], [row.high - row.mean]], float))
                color = SERIES[number % len(SERIES)]
                axes.errorbar(100 * row.mean, at, xerr=spread, fmt="o", color=color, ecolor="#333333", markersize=4)
                ticks.append((at, row.series))
                at += 1
            at += 0.5
        axes.set_yticks([y for y, _ in ticks], [name for _, name in ticks], fontsize=7)
        axes.set_ylim(at, -1)
        axes.set_xlabel(f"accuracy, {HEADS.get(subset, subset)}, %")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _differences(differences: pd.DataFrame, recipes: list[str]) -> list[str]:
    """A table of paired differences: a line per comparison, over all classes and per shot group."""
    if differences.empty:
        return []
    subsets = [one for one in ("balanced", "many", "medium", "few") if (differences["subset"] == one).any()]
    lines = ["", "Differences, paired by seed, in points:", ""]
    lines += [_row(["", *(HEADS.get(one, one) for one in subsets)]), _row(["---", *["---:"] * len(subsets)])]
    named = name_series(differences, recipes)
    keys = ["series", "baseline_recipe", "baseline_stage"]
    for key, rows in named.sort_values(["baseline_recipe", "order"], kind="stable").groupby(keys, sort=False):
        other = key[1] if key[2] == "train" else f"{key[1]} + fine-tune"
        cells = [_cell(rows, "accuracy", subset, "+") for subset in subsets]
        lines.append(_row([f"{key[0]} minus {other}", *cells]))
    return lines


def _in_order(summary: pd.DataFrame, variants: dict[str, list[str]]) -> Iterator[tuple[str, pd.DataFrame]]:
    for variant, recipes in variants.items():
        yield variant, name_series(summary[summary["variant"] == variant], recipes)


def _cell(rows: pd.DataFrame, metric: str, subset: str, sign: str = "") -> str:
    one = rows[(rows["metric"] == metric) & (rows["subset"] == subset)]
    if one.empty:
        return ""
    first = one.iloc[0]
    return " ".join([percent(first["mean"], sign), *interval(first["low"], first["high"])])


def _seconds(value: float) -> str:
    return "?" if pd.isna(value) else f"{value:.0f}"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
