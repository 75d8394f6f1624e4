"""What the page is made from: the manifests, its figures, and what its template is told, section by section."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
from matplotlib.figure import Figure

import synaug
from synaug.config import Config
from synaug.imbalance import empty_cells, imbalance_measures
from synaug.manifests import read_manifest, read_with_local_paths
from synaug.report import advice, gallery, plots, result_plots, tables
from synaug.report import confusion as answers
from synaug.report import run_info as made
from synaug.report.comparison import compared

SYNTHETIC = ["image_id", "label", "label_name", "group", "path", "row", "column", *gallery.SCORES]
SYNTHETIC += ["accepted", "rejected_by", "reason"]
BALANCED = ["image_id", "label", "label_name", "group", "source", "path", "row", "column"]


def read(manifests, settings: Config) -> SimpleNamespace:
    """The manifests that the page needs, by name, as far as it needs them; and what several sections ask of them.

    networks, names: those that are set side by side, as (recipe, stage) and as series. classes: class table with their
    accuracies. answers: series -> what these networks answered. of_main: differences of the two. test: test images.
    """
    data = SimpleNamespace(
        real=read_manifest("real", manifests.real, ["split", "label", "usable", "reason"]),
        synthetic=read_with_local_paths("synthetic", manifests.synthetic, SYNTHETIC),
        balanced=read_with_local_paths("balanced", manifests.balanced, BALANCED),
        imbalance=read_manifest("imbalance", manifests.imbalance),
        quality=read_manifest("quality", manifests.quality),
        planned=read_manifest("plan", manifests.plan, ["shard"]),
        selection=read_manifest("selection", manifests.selection) if manifests.get("selection") else None,
        histories=manifests.histories,
        networks=compared(settings),
    )
    for name in ("summary", "differences"):
        rows = read_manifest(name, getattr(manifests, name))
        setattr(data, name, tables.name_series(rows, list(settings.recipes)))
    data.names = [tables.series_name(*network) for network in data.networks]
    classes = tables.class_table(data.imbalance, data.balanced, data.synthetic)
    data.classes = tables.with_accuracies(classes, data.summary, data.names)
    split = settings.dataset.test_split
    data.answers = {
        name: answers.read_answers(
            [path for path in manifests.predictions if Path(path).parts[-4:-2] == (stage, recipe)], len(classes), split
        )
        for name, (recipe, stage) in zip(data.names, data.networks, strict=True)
    }
    pairs = data.differences[["series", "baseline_recipe", "baseline_stage"]]
    data.of_main = data.differences[(pairs == [data.names[-1], *data.networks[0]]).all(axis=1)]
    data.test = data.real[(data.real["split"] == split) & data.real["usable"]]
    return data


def draw(data: SimpleNamespace, settings: Config) -> dict[str, Figure]:
    """The figures of the page. data: as `read` returns it."""
    order = data.classes["label_name"].tolist()
    errors = tables.calibration_errors(data.summary)
    drawn = {
        "fill": plots.fill_figure(data.classes),
        "gain": result_plots.gain_figure(data.classes, data.names),
        "classes": result_plots.class_figure(*tables.subsets_of(data.summary, "class:", order)),
        "confusion": result_plots.confusion_figure(data.answers, data.classes),
        "reliability": result_plots.reliability_figure(data.answers, errors),
        "history": result_plots.history_figure(read_histories(data.histories)),
    }
    if settings.dataset.group_columns:
        drawn["groups"] = result_plots.class_figure(*tables.subsets_of(data.summary, "group:"))
        drawn["cells"] = plots.cell_figure(data.imbalance, data.balanced)
    return drawn


def about_data(data: SimpleNamespace) -> dict:
    """What the template is told of the images, real and synthetic. data: as `read` returns it."""
    cells = data.imbalance[data.imbalance["kind"] == "cell"]
    unusable = data.real.loc[~data.real["usable"], "reason"]
    return {
        "classes": tables.class_dicts(data.classes, data.of_main),
        "counts": {
            "real": int(data.classes["real"].sum()),
            "synthetic": int(data.classes["synthetic"].sum()),
            "rejected": int((~data.synthetic["accepted"]).sum()),
            "planned": len(data.planned),
            "test": len(data.test),
        },
        "summary": data.imbalance[data.imbalance["kind"] == "summary"].iloc[0].to_dict(),
        "after": imbalance_measures(tables.cell_sizes(data.imbalance, data.balanced)),
        "group_count": int((data.imbalance["kind"] == "group").sum()),
        "empty_cells": empty_cells(cells),
        "score_names": gallery.score_names(data.synthetic),
        "rejected": list(data.synthetic["rejected_by"].value_counts().items()),
        "unusable": list(unusable.value_counts().items()),
        "quality": tables.quality_table(data.quality, data.classes["label_name"].tolist()),
        "features": ", ".join(sorted(data.quality["features"].dropna().unique())),
    }


def about_results(data: SimpleNamespace, settings: Config) -> dict:
    """What the template is told of the networks, and what to do next. data: as `read` returns it."""
    main_columns, other_columns = tables.figure_columns(data.summary)
    cells = tables.cell_table(data.imbalance, data.balanced, data.summary, data.names)
    weak, weak_count = advice.about_classes(
        data.classes,
        data.quality,
        data.synthetic,
        data.answers[data.names[-1]].confusion,
        settings.imbalance.few_below,
    )
    names = data.classes.sort_values("label")["label_name"].tolist()
    return {
        "compared": data.names,
        "headline": tables.headline(data.summary, data.names),
        "main_columns": main_columns,
        "other_columns": other_columns,
        "results": tables.result_table(data.summary),
        "differences": tables.difference_table(data.differences),
        "confused": answers.confused_pairs(list(data.answers.values()), names),
        "reliability": [
            (name, answers.reliability_table(one).to_dict("records")) for name, one in data.answers.items()
        ],
        "groups": tables.group_columns(data.summary, settings.dataset.group_columns),
        "cell_rows": cells[: tables.MOST_CELLS],
        "cells_left_out": max(0, len(cells) - tables.MOST_CELLS),
        "selection": tables.selection_table(data.selection, data.summary),
        "weak": weak,
        "weak_count": weak_count,
        "advice": advice.about_all(
            data.classes,
            data.names,
            data.of_main,
            data.summary,
            data.quality,
            data.test.groupby("label").size().to_numpy(),
            cells if settings.dataset.group_columns else [],
        ),
    }


def about_making(data: SimpleNamespace, results: Path) -> dict:
    """What the template is told of software and costs. results: folder of the experiment, with costs/, benchmarks/."""
    libraries, devices = made.generator_software(sorted(data.synthetic["path"].dropna().unique()))
    networks = ["/".join(Path(path).parts[-4:-1]) for path in data.histories]
    return {
        "version": synaug.__version__,
        "commit": made.commit(),
        "libraries": libraries,
        "devices": devices,
        "costs": made.costs(results, sorted(data.planned["shard"].unique()), networks),
    }


def read_histories(paths: list[str]) -> dict[str, list[pd.DataFrame]]:
    """Series name -> manifests `history` of its seeds. paths: .../<stage>/<recipe>/<seed>/history.parquet."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        *_, stage, recipe, _, _ = Path(path).parts
        history = read_manifest("history", path)
        if len(history):  # some methods take no step
            histories.setdefault(tables.series_name(recipe, stage), []).append(history)
    return histories
