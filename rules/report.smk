"""Step report: one self-contained page, and its figures.

Inputs: all manifests, the images they point at, and the predictions of the baseline and of the main recipe.
Outputs: <results>/report.html, <results>/overview.png, <results>/figures/*.svg; `snakemake --report report.zip` includes all
of them.
"""

# Name -> file below <results>, and category and title in `--report`. captions/<name>.rst says more.
SHOWN = {
    "page": ("report.html", "Report", "all on one page"),
    "picture": ("overview.png", "Data", "the fill, and some images"),
    "fill": ("figures/fill.svg", "Data", "training images per class"),
    "gain": ("figures/gain.svg", "Results", "before and after, by class size"),
    "classes": ("figures/classes.svg", "Results", "accuracy per class, all recipes"),
    "confusion": ("figures/confusion.svg", "Results", "confusion before and after"),
    "reliability": ("figures/reliability.svg", "Results", "calibration before and after"),
    "history": ("figures/history.svg", "Training", "training loss"),
}
if CONFIG.dataset.group_columns:
    SHOWN |= {
        "cells": ("figures/cells.svg", "Data", "training images per class and group"),
        "groups": ("figures/groups.svg", "Results", "accuracy per group, all recipes"),
    }


rule report:
    input:
        **SELECTION,
        **CHOICE,
        **GATE,
        **PILOT_PLAN,
        real="<results>/real.parquet",
        images=all_images,
        imbalance="<results>/imbalance.parquet",
        plan="<results>/plan.parquet",
        synthetic="<results>/synthetic.parquet",
        balanced="<results>/balanced.parquet",
        quality="<results>/quality.parquet",
        summary="<results>/summary.parquet",
        differences="<results>/differences.parquet",
        histories=lambda wildcards: of_networks(trained_networks(), "history.parquet"),
        predictions=lambda wildcards: of_networks(networks_to_compare(), "predictions.parquet"),
    output:
        **{
            name: report(
                f"<results>/{file}",
                caption=f"captions/{name}.rst",
                category=category,
                subcategory=CONFIG.experiment,
                labels={"figure": title},
            )
            for name, (file, category, title) in SHOWN.items()
        },
    log:
        "<logs>/report.log",
    conda:
        "../envs/data.yaml"
    params:
        config=CONFIG.model_dump(),
        networks=lambda wildcards: trained_networks(),
        compared=lambda wildcards: networks_to_compare(),
        code=code("report/report.py"),
    message:
        "Write the report"
    script:
        "../workflow_scripts/report/report.py"
