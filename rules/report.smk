"""Report: one self-contained page, and its figures.

Inputs: all manifests, the images they point at, and the predictions of the baseline and of the main recipe.
Outputs: <results>/report.html, <results>/overview.png, <results>/figures/*.svg; `snakemake --report report.zip` takes all
of them in.
"""

from synaug.report.compared import compared

# Name of a figure -> where `--report` shows it.
FIGURES = {
    "fill": ("Data", "training images per class"),
    "gain": ("Results", "before and after, by class size"),
    "classes": ("Results", "accuracy per class, all recipes"),
    "confusion": ("Results", "confusion before and after"),
    "reliability": ("Results", "calibration before and after"),
    "history": ("Training", "training loss"),
}
if CONFIG.dataset.group_columns:
    FIGURES |= {
        "cells": ("Data", "training images per class and group"),
        "groups": ("Results", "accuracy per group, all recipes"),
    }


def shown(path, name, category, title):
    """`path`, marked for `--report`."""
    labels = {"figure": title}
    return report(path, caption=f"captions/{name}.rst", category=category, subcategory=CONFIG.experiment, labels=labels)


rule report:
    input:
        **SELECTION,
        real="<results>/real.parquet",
        imbalance="<results>/imbalance.parquet",
        plan="<results>/plan.parquet",
        synthetic="<results>/synthetic.parquet",
        balanced="<results>/balanced.parquet",
        quality="<results>/quality.parquet",
        summary="<results>/summary.parquet",
        differences="<results>/differences.parquet",
        histories=expand("<results>/{network}/history.parquet", network=NETWORKS),
        predictions=[
            f"<results>/{stage}/{recipe}/{seed}/predictions.parquet"
            for recipe, stage in compared(CONFIG)
            for seed in CONFIG.seeds
        ],
        code=code(
            "report.py",
            "synaug/report/*.*",
            "synaug/evaluation/classification.py",
            "synaug/images.py",
            "synaug/imbalance.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
        ),
    output:
        **{name: shown(f"<results>/figures/{name}.svg", name, *about) for name, about in FIGURES.items()},
        page=shown("<results>/report.html", "page", "Report", "all on one page"),
        picture=shown("<results>/overview.png", "picture", "Data", "the fill, and some images"),
    log:
        "<logs>/report.log",
    conda:
        "../envs/data.yaml"
    params:
        config=CONFIG.model_dump(),
    script:
        "../workflow_scripts/report.py"
