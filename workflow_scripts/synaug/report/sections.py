"""From the manifests to the contents of the page, section by section."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import synaug
from synaug.config import Config
from synaug.imbalance import empty_cells, imbalance_measures
from synaug.manifests import count_rows, read_manifest, stream_table, to_frame
from synaug.plan.licences import licence_warnings
from synaug.report import advice, confusion, gallery, plots, result_plots, run_info, tables
from synaug.report.comparison import compared_networks
from synaug.runtime.errors import UserError
from synaug.runtime.files import file_hash
from synaug.runtime.paths import local_path, results_root
from synaug.screening.filters import Parts

_FILL_COLUMNS = {"synthetic": ["fill"], "balanced": ["fill", "source"]}

NetworkId = tuple[str, str, int]  # stage, recipe, seed


@dataclass(frozen=True)
class ReportData:
    """What the sections of the page share. A field with the name of a manifest holds this manifest.

    test: rows of `real`, usable test images. summary, differences: with a column `series`, see `tables.name_series`.
    names: series of the compared networks, the baseline first. classes: the class table with their accuracies.
    prediction_counts: series -> counts over their predictions. main_differences: rows of `differences` for the main
    recipe minus the baseline. histories: series -> manifests `history`, one per seed. networks: all networks.
    final: predictions of the final networks. final_networks: see `page.final_networks_on_page`.
    fill: the fill that the page shows, see `shown_fill`; what is about synthetic, balanced and quality has no rows of
    other fills. synthetic, balanced: these manifests, read row group by row group, since they may have millions of
    rows. generated, trained_on: how many rows they have (column rows) of each label, accepted, rejected_by and path,
    and of each cell and source. score_names: of scores that at least one synthetic image has. confidence: label ->
    median confidence of the screening classifier.
    """

    fill: str
    qualities: pd.DataFrame  # the manifest `quality`, of all fills
    gate: pd.DataFrame | None
    pilot: pd.DataFrame | None  # as `plan`, of the plan of the pilot

    real: pd.DataFrame
    test: pd.DataFrame
    imbalance: pd.DataFrame
    plan: pd.DataFrame
    synthetic: Parts
    balanced: Parts
    generated: pd.DataFrame
    trained_on: pd.DataFrame
    score_names: list[str]
    confidence: pd.Series
    quality: pd.DataFrame
    selection: pd.DataFrame | None
    chosen: pd.DataFrame | None
    final: list[pd.DataFrame]
    final_networks: dict[str, str]
    summary: pd.DataFrame
    differences: pd.DataFrame
    names: list[str]
    classes: pd.DataFrame
    prediction_counts: dict[str, confusion.PredictionCounts]
    main_differences: pd.DataFrame
    histories: dict[str, list[pd.DataFrame]]
    networks: Sequence[NetworkId]


def read_report_data(
    manifests, networks: Sequence[NetworkId], compared: Sequence[NetworkId], settings: Config
) -> ReportData:
    """Read the manifests of the page.

    manifests: paths as attributes; `histories` is a list, one per network of `networks`, and `predictions` one per
    network of `compared`, which contains all seeds of the two networks that are compared.
    """
    real = read_manifest("real", manifests.real, ["split", "label", "usable", "reason"])
    imbalance = read_manifest("imbalance", manifests.imbalance)
    qualities = read_manifest("quality", manifests.quality)
    chosen = read_manifest("chosen", manifests.chosen) if manifests.get("chosen") else None
    pairs = compared_networks(settings, chosen)
    fill = shown_fill(settings, pairs[-1][0])
    synthetic = _in_parts("synthetic", manifests.synthetic, fill)
    generated = count_rows("synthetic", manifests.synthetic, ["label", "accepted", "rejected_by", "path", "fill"])
    generated = _of_fill("synthetic", generated, fill).astype({"accepted": bool})
    trained_on = count_rows("balanced", manifests.balanced, ["label", "label_name", "group", "source", "fill"])
    trained_on = _of_fill("balanced", trained_on, fill)
    score_names, confidence = _scores(synthetic)
    final = manifests.get("final") or []
    recipes = list(settings.recipes)
    summary = tables.name_series(read_manifest("summary", manifests.summary), recipes)
    differences = tables.name_series(read_manifest("differences", manifests.differences), recipes)
    names = [tables.series_name(*pair) for pair in pairs]
    classes = tables.class_table(imbalance, trained_on, generated)
    if len(manifests.predictions) != len(compared):  # Snakemake started the job before it knew which candidates stay
        raise UserError("the candidates of this run were not known yet", advice="run the same command again")
    files: dict[str, list[str]] = {name: [] for name in names}
    for path, (stage, recipe, _) in zip(manifests.predictions, compared, strict=True):
        if (recipe, stage) in pairs:
            files[tables.series_name(recipe, stage)].append(path)
    split = settings.dataset.test_split
    comparison = differences[["series", "baseline_recipe", "baseline_stage"]]
    return ReportData(
        fill=fill,
        qualities=qualities,
        gate=read_manifest("gate", manifests.gate) if manifests.get("gate") else None,
        real=real,
        test=real[(real["split"] == split) & real["usable"]],
        imbalance=imbalance,
        plan=count_rows("plan", manifests.plan, ["shard", "fill", "model", "adapters"]),
        pilot=count_rows("plan", manifests.pilot, ["shard"]) if manifests.get("pilot") else None,
        synthetic=synthetic,
        balanced=_in_parts("balanced", manifests.balanced, fill),
        generated=generated,
        trained_on=trained_on,
        score_names=score_names,
        confidence=confidence,
        quality=qualities[qualities["fill"] == fill],
        selection=read_manifest("selection", manifests.selection) if manifests.get("selection") else None,
        chosen=chosen,
        final=[read_manifest("predictions", path, ["label", "predicted"]) for path in final],
        final_networks=_final_networks(manifests.chosen, final) if manifests.get("chosen") else {},
        summary=summary,
        differences=differences,
        names=names,
        classes=tables.with_accuracies(classes, summary, names),
        prediction_counts={
            name: confusion.count_predictions(paths, len(classes), split) for name, paths in files.items()
        },
        main_differences=differences[(comparison == [names[-1], *pairs[0]]).all(axis=1)],
        histories=read_histories(manifests.histories, networks),
        networks=networks,
    )


def _final_networks(chosen: str, final: Sequence[str]) -> dict[str, str]:
    """File -> SHA-256, see `page.final_networks_on_page`. chosen: path; final: of the predictions."""
    files = {"chosen.parquet": chosen} | {f"final/{Path(path).parent.name}/predictions.parquet": path for path in final}
    return {name: file_hash(path) for name, path in files.items()}


def _in_parts(kind: str, path: str, fill: str) -> Parts:
    """The manifest `kind`, synthetic or balanced, without the rows of other fills than `fill`."""

    def parts(columns: list[str]) -> Iterator[pd.DataFrame]:
        needed = [*columns, *(name for name in _FILL_COLUMNS[kind] if name not in columns)]
        for table in stream_table(kind, path, needed):
            yield _of_fill(kind, to_frame(table), fill)[columns]

    return parts


def _of_fill(kind: str, rows: pd.DataFrame, fill: str) -> pd.DataFrame:
    """`rows`, of the manifest `kind`, without those of other fills than `fill`."""
    shown = rows["fill"] == fill
    return rows[shown | (rows["source"] == "real") if kind == "balanced" else shown]


def _scores(synthetic: Parts) -> tuple[list[str], pd.Series]:
    """Names of the scores that at least one image has, and label -> median confidence of the classifier."""
    present, confidences = set(), []
    for rows in synthetic(["label", *gallery.SCORES]):
        present |= {column for column in gallery.SCORES if rows[column].notna().any()}
        confidences.append(rows[["label", "classifier_confidence"]])
    names = [name for column, name in gallery.SCORES.items() if column in present]
    return names, pd.concat(confidences).groupby("label")["classifier_confidence"].median()


def shown_fill(settings: Config, main_recipe: str) -> str:
    """The fill that the page shows: that of the main recipe, or of the first recipe that names one; else the first."""
    recipes = [settings.recipes[main_recipe], *settings.recipes.values()]
    named = [recipe.fill.name for recipe in recipes if recipe.fill and recipe.fill.name]
    return (named or list(settings.generation_of_fills) or [""])[0]


def read_histories(paths: list[str], networks: Sequence[NetworkId]) -> dict[str, list[pd.DataFrame]]:
    """Series -> manifests `history` of its seeds. networks: stage, recipe and seed of each of `paths`."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for path, (stage, recipe, _) in zip(paths, networks, strict=True):
        history = read_manifest("history", path)
        if len(history):  # some methods train without steps
            histories.setdefault(tables.series_name(recipe, stage), []).append(history)
    return histories


def draw_figures(data: ReportData, settings: Config) -> dict[str, Figure]:
    """The figures of the page, by name."""
    order = data.classes["label_name"].tolist()
    errors = tables.calibration_errors(data.summary)
    figures = {
        "fill": plots.fill_figure(data.classes),
        "gain": result_plots.gain_figure(data.classes, data.names),
        "classes": result_plots.accuracy_figure(tables.subset_rows(data.summary, "class:"), order),
        "confusion": result_plots.confusion_figure(data.prediction_counts, data.classes),
        "reliability": result_plots.reliability_figure(data.prediction_counts, errors),
        "history": result_plots.history_figure(data.histories),
    }
    if settings.dataset.group_columns:
        groups = tables.subset_rows(data.summary, "group:")
        figures["groups"] = result_plots.accuracy_figure(groups, sorted(groups["label_name"].unique()))
        figures["cells"] = plots.cell_figure(data.imbalance, data.trained_on, order)
    return figures


def data_context(data: ReportData) -> dict:
    """Values of the template about the images, real and synthetic."""
    unusable = data.real.loc[~data.real["usable"], "reason"]
    rejected = data.generated.groupby("rejected_by", sort=False)["rows"].sum()
    return {
        "classes": tables.class_dicts(data.classes, data.main_differences),
        "counts": {
            "real": int(data.classes["real"].sum()),
            "synthetic": int(data.classes["synthetic"].sum()),
            "rejected": int(data.generated.loc[~data.generated["accepted"], "rows"].sum()),
            "planned": int(data.plan["rows"].sum()),  # of all fills, as the images that were sampled
            "test": len(data.test),
        },
        "imbalance_before": data.imbalance[data.imbalance["kind"] == "summary"].iloc[0].to_dict(),
        "imbalance_after": imbalance_measures(tables.cell_sizes(data.imbalance, data.trained_on)),
        "group_count": int((data.imbalance["kind"] == "group").sum()),
        "empty_cells": empty_cells(data.imbalance[data.imbalance["kind"] == "cell"]),
        "score_names": data.score_names,
        "rejected": list(rejected.sort_values(ascending=False, kind="stable").items()),
        "licence_warnings": licence_warnings(data.plan),
        "unusable": list(unusable.value_counts().items()),
        "quality": tables.quality_table(data.quality, data.classes["label_name"].tolist()),
        "fill": data.fill,
        "fills": tables.fill_table(data.qualities),
        "gate": tables.gate_table(data.gate),
        "agreement": bool((data.quality["metric"] == "agreement").any()),
        "features": ", ".join(sorted(data.quality["features"].dropna().unique())),
    }


def results_context(data: ReportData, settings: Config) -> dict:
    """Values of the template about the networks, and the advice."""
    cells = tables.cell_table(data.imbalance, data.trained_on, data.summary, data.names)
    counts = data.prediction_counts
    names_by_label = data.classes.sort_values("label")["label_name"].tolist()
    choice = tables.choice_table(data.chosen, data.summary, data.final)
    validated = data.real[(data.real["split"] == settings.dataset.validation_split) & data.real["usable"]]
    few = data.classes.loc[data.classes["shot"] == "few", "label"]
    filled = [recipe.fill for recipe in settings.recipes.values() if recipe.data == "balanced"]
    main = compared_networks(settings, data.chosen)[-1][0]
    uses_synthetic = settings.recipes[main].data == "balanced"
    weak_classes, weak_count = advice.weak_classes(
        data.classes,
        data.quality,
        data.confidence,
        counts[data.names[-1]].confusion,
        settings.imbalance.few_below,
        uses_synthetic,
    )
    return {
        "compared": data.names,
        "headline": tables.headline(data.summary, data.names),
        "chosen_headline": choice and tables.chosen_headline(data.summary, choice, data.names[0]),
        "few_images": int(data.test["label"].isin(few).sum()),
        "useful_fill": choice
        and not choice["synthetic"]
        and advice.useful_fill(data.chosen, data.qualities, has_gate=data.gate is not None),
        "main_columns": [("accuracy, %", tables.available_keys(data.summary, tables.MAIN_KEYS))],
        "other_columns": tables.other_columns(data.summary),
        "results": tables.result_table(data.summary),
        "differences": tables.difference_table(data.differences),
        "confused_pairs": confusion.confused_pairs(list(counts.values()), names_by_label),
        "reliability": {name: confusion.reliability_table(count).to_dict("records") for name, count in counts.items()},
        "group_columns": tables.group_metric_columns(data.summary, settings.dataset.group_columns),
        "cells": cells[: tables.MOST_CELLS],
        "cells_omitted": max(0, len(cells) - tables.MOST_CELLS),
        "selection": tables.selection_table(data.selection, data.summary),
        "choice": choice,
        "final_networks": data.final_networks,
        "classes_not_validated": len(data.classes) - validated["label"].nunique(),
        "weak_classes": weak_classes,
        "weak_count": weak_count,
        "advice": advice.experiment_advice(
            data.classes,
            data.names,
            data.main_differences,
            data.summary,
            data.quality,
            data.test.groupby("label").size().to_numpy(),
            cells if settings.dataset.group_columns else [],
            uses_synthetic,
            # With one fill, a recipe without `fill` uses all of it, as one with `share: 1`.
            len({(fill.share, fill.per_real) if fill else (1.0, None) for fill in filled}),
            settings.recipes[main].stage1_of or main,
        ),
    }


def run_context(data: ReportData, results: Path) -> dict:
    """Values of the template about software and costs. results: folder of the experiment, with costs/, benchmarks/."""
    shards = {*data.plan["shard"], *([] if data.pilot is None else data.pilot["shard"])}
    root = results_root(results / "report.html")
    files = sorted(local_path(path, root) for path in data.generated["path"].dropna().unique())
    libraries, devices = run_info.libraries_and_devices(files)
    return {
        "version": synaug.__version__,
        "commit": run_info.git_commit(),
        "libraries": libraries,
        "devices": devices,
        "costs": run_info.step_costs(results, sorted(shards), data.networks),
    }
