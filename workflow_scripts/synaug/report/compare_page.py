"""The page that compares two finished experiments, A and B."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from synaug.config import Config
from synaug.imbalance import imbalance_measures
from synaug.report.compare_data import Experiment, Pair
from synaug.report.page import render, svg_figure
from synaug.report.plots import svg
from synaug.report.result_plots import gain_figure
from synaug.report.study_page import study_figure
from synaug.report.tables import (
    BALANCED,
    CALIBRATION,
    MAIN_KEYS,
    METRICS,
    MOST_CELLS,
    Key,
    available_keys,
    cell_sizes,
    cell_table,
    column_title,
    interval,
    percent,
    quality_table,
    series_name,
)

LETTERS = ("A", "B")
KEY = ["metric", "subset", "weighting"]
OF_ONE_CLASS = re.compile(r"class:|cell:|group:.*\|class:")  # subsets
QUALITY = ("agreement", "fd", "kid", "precision", "recall", "density", "coverage")


def compare_page(experiments: Sequence[Experiment], pairs: Sequence[Pair], notes: Sequence[str]) -> str:
    """The page as HTML. pairs, notes: of `compare_data.paired`."""
    a, b = experiments
    tables = [difference_table(pair, experiments) for pair in pairs]
    main = tables[0]
    main_rows, other_rows = [], []
    for pair, table in zip(pairs, tables, strict=True):
        main_keys = available_keys(table.reset_index(), MAIN_KEYS)
        main_rows += [_result_row(pair, column_title(key), table.loc[key]) for key in main_keys]
        others = [key for key in table.index if key not in main_keys and not OF_ONE_CLASS.match(key[1])]
        other_rows += [_result_row(pair, metric_title(key), table.loc[key]) for key in others]
    cells = cell_rows(experiments, main) if a.config.dataset.group_columns and b.config.dataset.group_columns else []
    features = [", ".join(sorted(each.data.quality["features"].dropna().unique())) for each in experiments]
    names = _names(experiments)
    context = {
        "title": " and ".join(names),
        "names": names,
        "main_names": [series_name(*each.main) for each in experiments],
        "main_name": pairs[0].name,
        "headline": headline(main),
        "notes": [*notes, *_metric_notes(experiments), *_shot_notes(experiments)],
        "changes": config_changes(a.config, b.config, (a.stored, b.stored)),
        "main_rows": main_rows,
        "other_rows": other_rows,
        "paired": any(pair.paired is not None for pair in pairs),
        "classes": class_rows(experiments, main),
        "cells": cells[:MOST_CELLS],
        "cells_omitted": max(0, len(cells) - MOST_CELLS),
        "fills": [each.data.fill for each in experiments],
        "images": image_rows(experiments),
        "models": [", ".join(sorted(each.data.plan["model"].astype(str).unique())) or "none" for each in experiments],
        "quality": quality_rows(experiments) if features[0] == features[1] else [],
        "features": features,
        "figures": figures(experiments, names, main),
        "contents": {
            "config": "Config",
            "results": "Results",
            "classes": "Results per class",
            **({"cells": "Results per class in a group"} if cells else {}),
            "images": "Images",
        },
    }
    return render("compare.html.j2", context)


def _names(experiments: Sequence[Experiment]) -> list[str]:
    """The names of their folders; the whole paths if these are the same."""
    names = [each.folder.resolve().name for each in experiments]
    return names if names[0] != names[1] else [str(each.folder) for each in experiments]


def config_changes(a: Config, b: Config, stored: Sequence[dict] = ({}, {})) -> list[tuple[str, str, str]]:
    """(key, value in A, value in B) of the keys that differ; "-" if there is none, because a recipe is not there.

    stored: the configs as they were written, which may have keys that are unknown today.

    The name of the experiment is left out, and so is a key of a recipe or fill that it takes from another block in
    which the key changed in the same way.
    """
    # Without warnings: values of earlier versions may have other types.
    short = (config.model_dump(mode="json", warnings=False, exclude_defaults=True) for config in (a, b))
    whole = [config.model_dump(mode="json", warnings=False) for config in (a, b)]
    changes = dict(_changes("", *whole, *short))
    unknown = [dict(_unknown_keys("", *of_one)) for of_one in zip(stored, whole, strict=True)]
    for key in {**unknown[0], **unknown[1]}:
        values = tuple(texts.get(key, "-") for texts in unknown)
        if values[0] != values[1] and not any(key.startswith(f"{other}.") for other in changes):
            changes[key] = values
    changes.pop("experiment", None)
    # Start of a key -> that of the key which it takes if it is not named.
    inherited = {f"recipes.{name}.stage1.": "training." for name in (*a.recipes, *b.recipes)}
    inherited |= {f"fills.{name}.": "generation." for name in (*a.fills, *b.fills)}
    kept = []
    for key, values in changes.items():
        others = (block + key.removeprefix(start) for start, block in inherited.items() if key.startswith(start))
        if not any(changes.get(other) == values for other in others):
            kept.append((key, *values))
    return kept


def _changes(prefix: str, a: Any, b: Any, short_a: Any, short_b: Any):
    """(key, (text of its value in A, in B)) below the key `prefix`. short: without defaults, for whole blocks."""
    if not (isinstance(a, dict) and isinstance(b, dict)):
        if a != b:
            yield prefix, (_value_text(short_a, a), _value_text(short_b, b))
        return
    for key in [*a, *(key for key in b if key not in a)]:
        inner = (side.get(key) if isinstance(side, dict) else None for side in (short_a, short_b))
        absent = [key not in side for side in (a, b)]
        path = f"{prefix}.{key}" if prefix else key
        if any(absent):
            values = [_value_text(short, short) for short in inner]
            yield path, tuple("-" if gone else text for gone, text in zip(absent, values, strict=True))
        else:
            yield from _changes(path, a[key], b[key], *inner)


def _unknown_keys(prefix: str, stored: dict, known: dict):
    """(key, text of its value) of the keys of `stored` below the key `prefix` that `known` does not have."""
    for key, value in stored.items():
        path = f"{prefix}.{key}" if prefix else key
        if key not in known:
            yield path, _value_text(value, value)
        elif isinstance(value, dict) and isinstance(known[key], dict):
            yield from _unknown_keys(path, value, known[key])


def _value_text(short: Any, value: Any) -> str:
    value = short if isinstance(value, dict) else value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def difference_table(pair: Pair, experiments: Sequence[Experiment]) -> pd.DataFrame:
    """A row per metric, subset and weighting (the index) that a network of `pair` has.

    mean_a, low_a, high_a, mean_b, low_b, high_b: of the manifests `summary`. difference: B minus A; paired by seed if
    the pair is, and then with low, high, low_images, high_images and seeds as in `paired_difference`. NaN: no value.
    """
    parts = []
    for each, network, suffix in zip(experiments, pair.networks, ("_a", "_b"), strict=True):
        summary = each.data.summary
        rows = summary[summary["series"] == (series_name(*network) if network else "")]
        values = rows[["mean", "low", "high"]].astype(float).set_axis(pd.MultiIndex.from_frame(rows[KEY].astype(str)))
        parts.append(values.add_suffix(suffix))
    keys = [*parts[0].index, *(key for key in parts[1].index if key not in parts[0].index)]
    index = pd.MultiIndex.from_tuples(keys, names=KEY)
    table = pd.concat([part.reindex(index) for part in parts], axis=1)
    table["difference"] = table["mean_b"] - table["mean_a"]
    for name in ("low", "high", "low_images", "high_images", "seeds"):
        table[name] = float("nan")
    if pair.paired is not None:
        paired = pair.paired.rename(columns={"mean": "difference"}).astype(dict.fromkeys(KEY, str)).set_index(KEY)
        table.update(paired.astype(float))
    return table


def headline(main: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """(title, value of A, of B, difference) of the numbers at the top. main: of `difference_table`."""
    keys = available_keys(main.reset_index(), [*MAIN_KEYS, CALIBRATION])
    titles = {CALIBRATION: "calibration error"}
    return [
        (
            titles.get(key, "accuracy, " + key[1].replace("_", " ")),
            percent(main.at[key, "mean_a"]),
            percent(main.at[key, "mean_b"]),
            percent(main.at[key, "difference"], "+"),
        )
        for key in keys
    ]


def first_line(main: Pair, experiments: Sequence[Experiment]) -> str:
    """The balanced accuracies of the main networks in a line."""
    row = difference_table(main, experiments).loc[BALANCED]
    a, b = (" ".join(_lines(row, suffix)) for suffix in ("_a", "_b"))
    return f"{main.name}, balanced accuracy in %: A {a}, B {b}; B minus A {' '.join(_difference_lines(row))}"


def _lines(row: pd.Series, suffix: str) -> list[str]:
    """The mean and its interval; nothing if there is no value."""
    mean = row[f"mean{suffix}"]
    return [] if pd.isna(mean) else [percent(mean), *interval(row[f"low{suffix}"], row[f"high{suffix}"])]


def _difference_lines(row: pd.Series) -> list[str]:
    if pd.isna(row["difference"]):
        return []
    intervals = interval(row["low"], row["high"], "s") + interval(row["low_images"], row["high_images"], "i")
    return [percent(row["difference"], "+"), *([", ".join(intervals)] if intervals else [])]


def metric_title(key: Key) -> str:
    """The metric, and what it is measured on: `calibration error, few`."""
    metric = METRICS.get(key[0], key[0].replace("_", " ")).removesuffix(", %")
    return f"{metric}, {column_title(key)}"


def _result_row(pair: Pair, metric: str, row: pd.Series) -> dict:
    return {
        "name": pair.name,
        "metric": metric,
        "values": [_lines(row, "_a"), _lines(row, "_b"), _difference_lines(row)],
        "seeds": "" if pd.isna(row["seeds"]) else f"{row['seeds']:.0f}",
    }


def class_rows(experiments: Sequence[Experiment], main: pd.DataFrame) -> list[dict]:
    """A dict per class, those with the most real images in A first: name, counts (A and B in turn), values.

    counts: real, synthetic and rejected images. values: lines of the accuracies of the main networks and of their
    difference, from `main`, their `difference_table`.
    """
    a, b = (each.data.classes.set_index("label_name") for each in experiments)
    rows = []
    for name in a.index:
        counts = [int(classes.at[name, kind]) for kind in ("real", "synthetic", "rejected") for classes in (a, b)]
        rows.append({"name": name, "counts": counts, "values": _accuracy_lines(main, f"class:{name}")})
    return rows


def cell_rows(experiments: Sequence[Experiment], main: pd.DataFrame) -> list[dict]:
    """As `class_rows`, a dict per class in a group, the smallest in A first, with `group`, without rejected images."""
    cells = [
        {
            (cell["label_name"], cell["group"]): cell
            for cell in cell_table(each.data.imbalance, each.data.trained_on, each.data.summary, [])
        }
        for each in experiments
    ]
    rows = []
    for label_name, group in dict.fromkeys([*cells[0], *cells[1]]):
        of_both = [of_one.get((label_name, group), {"real": 0, "synthetic": 0}) for of_one in cells]
        counts = [cell[kind] for kind in ("real", "synthetic") for cell in of_both]
        values = _accuracy_lines(main, f"cell:{label_name}|{group}")
        rows.append({"name": label_name, "group": group, "counts": counts, "values": values})
    return rows


def _accuracy_lines(main: pd.DataFrame, subset: str) -> list[list[str]]:
    key = ("accuracy", subset, "images")
    if key not in main.index:  # a class or cell without test images
        return [[], [], []]
    row = main.loc[key]
    return [_lines(row, "_a"), _lines(row, "_b"), _difference_lines(row)]


def image_rows(experiments: Sequence[Experiment]) -> list[tuple[str, ...]]:
    """(what, in A, in B, in both) of the numbers of images, as text. In both: empty where nothing has an id."""
    a, b = (each.ids for each in experiments)
    rows = [(name, len(a[name]), len(b[name]), len(a[name].intersection(b[name]))) for name in a if name in b]
    rejected = [each.data.generated.groupby("rejected_by", observed=True)["rows"].sum() for each in experiments]
    for check in dict.fromkeys([*rejected[0].index, *rejected[1].index]):
        rows.append((f"rejected by {check}", *(counts.get(check, 0) for counts in rejected), ""))
    factors = []
    for data in (each.data for each in experiments):
        before = data.imbalance.loc[data.imbalance["kind"] == "summary", "imbalance_factor"].iloc[0]
        after = imbalance_measures(cell_sizes(data.imbalance, data.trained_on))["imbalance_factor"]
        factors.append((f"{before:.4g}", f"{after:.4g}"))
    for name, values in zip(("of the real images", "with synthetic ones"), zip(*factors, strict=True), strict=True):
        rows.append((f"imbalance factor {name}", *values, ""))
    return [tuple(map(str, row)) for row in rows]


def quality_rows(experiments: Sequence[Experiment]) -> list[dict]:
    """name, and the lines of A and of B, of each metric that one of them has."""
    rows = []
    for name in QUALITY:
        lines = []
        for of_all in (quality_table(each.data.quality, [])[:1] for each in experiments):
            value, ends = (of_all[0][key].get(name) if of_all else None for key in ("values", "intervals"))
            texts = [] if value is None else [f"{value:.3g}"]
            lines.append([*texts, f"[{ends[0]:.3g}, {ends[1]:.3g}]"] if ends else texts)
        if any(lines):
            rows.append({"name": name, "values": lines})
    return rows


def figures(experiments: Sequence[Experiment], names: Sequence[str], main: pd.DataFrame) -> dict:
    """The figures, by name: accuracies of all networks, and of every class those of the main networks."""
    titles = [f"{letter}: {name}" for letter, name in zip(LETTERS, names, strict=True)]
    both = list(zip(titles, experiments, strict=True))
    summary = pd.concat([each.data.summary.assign(variant=title) for title, each in both])
    networks = study_figure(summary, {title: list(each.config.recipes) for title, each in both})
    classes = experiments[0].data.classes
    means = main.xs(("accuracy", "images"), level=("metric", "weighting"))
    means = means.reindex("class:" + classes["label_name"].astype(str))
    classes = classes.assign(before=means["mean_a"].to_numpy(), after=means["mean_b"].to_numpy())
    drawn = {"networks": networks, "gain": gain_figure(classes, list(LETTERS))}
    return {name: svg_figure(svg(figure), name) for name, figure in drawn.items()}


def _metric_notes(experiments: Sequence[Experiment]) -> list[str]:
    """Sentences on the metrics that only one of the experiments has."""
    a, b = (set(each.data.summary["metric"]) for each in experiments)
    return [
        f"Only {letter} has the metrics {', '.join(sorted(name.replace('_', ' ') for name in names))}."
        for letter, names in zip(LETTERS, (a - b, b - a), strict=True)
        if names
    ]


def _shot_notes(experiments: Sequence[Experiment]) -> list[str]:
    """A sentence if the shot groups of the two hold other classes."""
    a, b = (each.data.classes.set_index("label_name")["shot"].to_dict() for each in experiments)
    others = sum(a[name] != b[name] for name in a)
    if not others:
        return []
    subject = "1 class is" if others == 1 else f"{others} classes are"
    return [f"{subject} in another shot group in B, so that many, medium and few are means over other classes there."]
