"""Put the imbalance before and after, images, results and training curves on one self-contained page."""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import synaug
from synaug.config import Config
from synaug.errors import job_log
from synaug.imbalance import empty_cells, unevenness
from synaug.manifests import atomic_path, read_manifest
from synaug.report import advice, answers, gallery, made, page, plots, result_plots, tables
from synaug.report.compared import compared

SYNTHETIC = ["image_id", "label", "label_name", "group", "path", "row", "column", *gallery.SCORES]
SYNTHETIC += ["accepted", "rejected_by", "reason"]
BALANCED = ["image_id", "label", "label_name", "group", "source", "path", "row", "column"]


def main(manifests, config: dict, out: str, picture: str, figures: Mapping[str, str]) -> None:
    """Render the manifests (attributes of `manifests`: paths) to the page `out` and the overview `picture` (PNG).

    figures: name -> SVG file: fill, gain, classes, confusion, reliability, history; with groups also groups and cells.
    """
    settings = Config.model_validate(config)
    real = read_manifest("real", manifests.real, ["split", "label", "usable", "reason"])
    synthetic = read_manifest("synthetic", manifests.synthetic, SYNTHETIC)
    imbalance = read_manifest("imbalance", manifests.imbalance)
    balanced = read_manifest("balanced", manifests.balanced, BALANCED)
    quality = read_manifest("quality", manifests.quality)
    summary, differences = (
        tables.name_series(read_manifest(name, manifests[name]), list(settings.recipes))
        for name in ("summary", "differences")
    )
    test = real[(real["split"] == settings.dataset.test_split) & real["usable"]]
    networks = compared(settings)
    names = [tables.series_name(*network) for network in networks]
    classes = tables.class_table(imbalance, balanced, synthetic)
    answered = {
        name: answers.read_answers(
            [path for path in manifests.predictions if Path(path).parts[-4:-2] == (stage, recipe)],
            len(classes),
            settings.dataset.test_split,
        )
        for name, (recipe, stage) in zip(names, networks, strict=True)
    }
    of_main = differences[
        (differences["series"] == names[-1])
        & (differences["baseline_recipe"] == networks[0][0])
        & (differences["baseline_stage"] == networks[0][1])
    ]
    scored = tables.with_accuracies(classes, summary, names)
    drawn = {
        "fill": plots.fill_figure(classes),
        "gain": result_plots.gain_figure(scored, names),
        "classes": result_plots.class_figure(*tables.subsets_of(summary, "class:", classes["label_name"].tolist())),
        "confusion": result_plots.confusion_figure(answered, classes),
        "reliability": result_plots.reliability_figure(answered, tables.calibration_errors(summary)),
        "history": result_plots.history_figure(read_histories(manifests.histories)),
    }
    if settings.dataset.group_columns:
        drawn["groups"] = result_plots.class_figure(*tables.subsets_of(summary, "group:"))
        drawn["cells"] = plots.cell_figure(imbalance, balanced)
    shown = gallery.gallery(
        gallery.shown_classes(classes), balanced, synthetic, manifests.plan, settings.dataset.image_size,
        settings.dataset.color,
    )  # fmt: skip
    weak, weak_count = advice.about_classes(
        scored, quality, synthetic, answered[names[-1]].confusion, settings.imbalance.few_below
    )
    libraries, devices = made.generator_software(sorted(synthetic["path"].dropna().unique()))
    cell_rows = tables.cell_table(imbalance, balanced, summary, names)
    columns = tables.figure_columns(summary)
    selection = read_manifest("selection", manifests.selection) if manifests.get("selection") else None
    shards = read_manifest("plan", manifests.plan, ["shard"])["shard"]
    context = {
        "title": settings.experiment,
        "config": settings.model_dump(),
        "config_text": json.dumps(config, indent=2, ensure_ascii=False),
        "compared": names,
        "classes": tables.class_dicts(scored, of_main),
        "headline": tables.headline(summary, names),
        "counts": {
            "real": int(classes["real"].sum()),
            "synthetic": int(classes["synthetic"].sum()),
            "rejected": int((~synthetic["accepted"]).sum()),
            "planned": len(shards),
            "test": len(test),
        },
        "summary": imbalance[imbalance["kind"] == "summary"].iloc[0].to_dict(),
        "after": unevenness(tables.cell_sizes(imbalance, balanced)),
        "group_count": int((imbalance["kind"] == "group").sum()),
        "empty_cells": empty_cells(imbalance[imbalance["kind"] == "cell"]),
        "cell_rows": cell_rows[: tables.MOST_CELLS],
        "cells_left_out": max(0, len(cell_rows) - tables.MOST_CELLS),
        "main_columns": columns[0],
        "other_columns": columns[1],
        "selection": tables.selection_table(selection, summary),
        "groups": tables.group_columns(summary, settings.dataset.group_columns),
        "results": tables.result_table(summary),
        "differences": tables.difference_table(differences),
        "confused": answers.confused_pairs(
            list(answered.values()), classes.sort_values("label")["label_name"].tolist()
        ),
        "reliability": [(name, answers.reliability_table(one).to_dict("records")) for name, one in answered.items()],
        "gallery": shown,
        "score_names": gallery.score_names(synthetic),
        "rejected": list(synthetic["rejected_by"].value_counts().items()),
        "unusable": list(real.loc[~real["usable"], "reason"].value_counts().items()),
        "quality": tables.quality_table(quality, classes["label_name"].tolist()),
        "features": ", ".join(sorted(quality["features"].dropna().unique())),
        "weak": weak,
        "weak_count": weak_count,
        "advice": advice.about_all(
            scored,
            names,
            of_main,
            summary,
            quality,
            test.groupby("label").size().to_numpy(),
            cell_rows if settings.dataset.group_columns else [],
        ),
        "version": synaug.__version__,
        "commit": made.commit(),
        "libraries": libraries,
        "devices": devices,
        "costs": made.costs(Path(out).parent, sorted(shards.unique()), network_names(manifests.histories)),
        "figures": {name: page.svg_figure(figure, name) for name, figure in drawn.items()},
    }
    context["contents"] = page.contents(context)
    with atomic_path(out) as temporary:
        temporary.write_text(page.render("page.html.j2", context))
    for name, path in figures.items():
        with atomic_path(path) as temporary:
            temporary.write_text(plots.svg(drawn[name], transparent=False))
    with atomic_path(picture) as temporary:
        step = max(1, len(shown) // 10)
        side = min(settings.dataset.image_size, gallery.SIDE)
        samples = [
            (one["label_name"], *(gallery.pixels_of(one[kind], side) for kind in ("real", "synthetic")))
            for one in shown[::step][:10]
        ]
        plots.overview_figure(classes, samples).savefig(temporary, format="png")


def read_histories(paths: list[str]) -> dict[str, list[pd.DataFrame]]:
    """Series name -> manifests `history` of its seeds. paths: .../<stage>/<recipe>/<seed>/history.parquet."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        *_, stage, recipe, _, _ = Path(path).parts
        history = read_manifest("history", path)
        if len(history):  # some methods take no step
            histories.setdefault(tables.series_name(recipe, stage), []).append(history)
    return histories


def network_names(paths: list[str]) -> list[str]:
    """<stage>/<recipe>/<seed> of files of networks."""
    return ["/".join(Path(path).parts[-4:-1]) for path in paths]


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        named = dict(snakemake.output.items())
        main(snakemake.input, snakemake.params.config, named.pop("page"), named.pop("picture"), named)
