"""Report: one self-contained page, and its figures.

Inputs: all manifests, the images they point at, and the predictions of the baseline and of the main recipe.
Outputs: <results>/report.html, <results>/overview.png, <results>/figures/*.svg; `snakemake --report report.zip` takes all
of them in.
"""

from synaug.report.compared import compared

# Output -> where `--report` shows it.
FIGURES = {
    "page": ("Report", "all on one page"),
    "picture": ("Data", "the fill, and some images"),
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


SHOWN = {
    name: report(
        {"page": "<results>/report.html", "picture": "<results>/overview.png"}.get(
            name, f"<results>/figures/{name}.svg"
        ),
        caption=f"captions/{name}.rst",
        category=category,
        subcategory=CONFIG.experiment,
        labels={"figure": title},
    )
    for name, (category, title) in FIGURES.items()
}


rule report:
    input:
        **SELECTION,
        real="<results>/real.parquet",
        images=all_images,
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
        **SHOWN,
    log:
        "<logs>/report.log",
    conda:
        "../envs/data.yaml"
    params:
        config=CONFIG.model_dump(),
    script:
        "../workflow_scripts/report.py"
