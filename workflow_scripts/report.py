"""Put the imbalance before and after, images, results and training curves on one self-contained page."""

from pathlib import Path

import pandas as pd

import synaug
from synaug.config import Config
from synaug.errors import job_log
from synaug.imbalance import empty_cells, unevenness
from synaug.manifests import atomic_path, read_manifest
from synaug.places import read_located
from synaug.report import page, plots


def main(manifests, config: dict, out: str, picture: str) -> None:
    """Render the manifests (attributes of `manifests`: paths) to the page `out` and the figure `picture` (PNG)."""
    settings = Config.model_validate(config)
    real = read_located("real", manifests.real)
    synthetic = read_located("synthetic", manifests.synthetic)
    imbalance = read_manifest("imbalance", manifests.imbalance)
    balanced = read_located("balanced", manifests.balanced)
    quality = read_manifest("quality", manifests.quality)
    summary = page.name_series(read_manifest("summary", manifests.summary), list(settings.recipes))
    differences = page.name_series(read_manifest("differences", manifests.differences), list(settings.recipes))
    classes = page.class_table(imbalance, balanced)
    half = page.CLASSES_SHOWN // 2
    shown = classes if len(classes) <= 2 * half else pd.concat([classes.head(half), classes.tail(half)])
    gallery = page.sample_images(
        shown,
        balanced[balanced["source"] == "real"],
        balanced[balanced["source"] == "synthetic"],
        settings.dataset.image_size,
        settings.dataset.color,
    )
    per_class = summary[summary["subset"].str.startswith("class:")]
    per_class = per_class.assign(label_name=per_class["subset"].str.removeprefix("class:"))
    per_group = summary[(summary["metric"] == "accuracy") & summary["subset"].str.startswith("group:")]
    per_group = per_group.assign(label_name=per_group["subset"].str.removeprefix("group:"))
    text = page.render(
        {
            "config": settings.model_dump(),
            "classes": classes.to_dict("records"),
            "counts": {
                "real": int(classes["real"].sum()),
                "synthetic": int(classes["synthetic"].sum()),
                "rejected": int((~synthetic["accepted"]).sum()),
                "test": int(((real["split"] == settings.dataset.test_split) & real["usable"]).sum()),
            },
            "summary": imbalance[imbalance["kind"] == "summary"].iloc[0].to_dict(),
            "after": unevenness(page.cell_sizes(imbalance, balanced)),
            "group_count": int((imbalance["kind"] == "group").sum()),
            "columns": page.figure_columns(summary),
            "empty_cells": empty_cells(imbalance[imbalance["kind"] == "cell"]),
            "selection": page.selection_table(
                read_manifest("selection", manifests.selection) if manifests.get("selection") else None, summary
            ),
            "groups": page.group_columns(summary, settings.dataset.group_columns),
            "group_figure": page.svg_figure(plots.class_figure(per_group, sorted(per_group["label_name"].unique())))
            if len(per_group)
            else "",
            "cell_figure": page.svg_figure(plots.cell_figure(imbalance, balanced)) if len(per_group) else "",
            "results": page.result_table(summary),
            "differences": page.difference_table(differences),
            "gallery": gallery,
            "rejected": list(synthetic["rejected_by"].value_counts().items()),
            "unusable": list(real.loc[~real["usable"], "reason"].value_counts().items()),
            "quality": page.quality_table(quality, shown["label_name"].tolist()),
            "features": ", ".join(sorted(quality["features"].dropna().unique())),
            "class_figure": page.svg_figure(plots.class_figure(per_class, classes["label_name"].tolist())),
            "fill_figure": page.svg_figure(plots.fill_figure(classes)),
            "history_figure": page.svg_figure(plots.history_figure(read_histories(manifests.histories))),
            "software": [f"synaug {synaug.__version__}", *page.generator_software(synthetic)],
        }
    )
    with atomic_path(out) as temporary:
        temporary.write_text(text)
    with atomic_path(picture) as temporary:
        step = max(1, len(gallery) // 10)
        plots.overview_figure(classes, gallery[::step][:10]).savefig(temporary, format="png")


def read_histories(paths: list[str]) -> dict[str, list[pd.DataFrame]]:
    """Series name -> manifests `history` of its seeds. paths: .../<stage>/<recipe>/<seed>/history.parquet."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for path in paths:
        *_, stage, recipe, _, _ = Path(path).parts
        history = read_manifest("history", path)
        if len(history):  # some methods take no step
            histories.setdefault(page.series_name(recipe, stage), []).append(history)
    return histories


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input, snakemake.params.config, snakemake.output.page, snakemake.output.picture)
