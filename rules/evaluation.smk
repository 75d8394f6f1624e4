"""Evaluate: score every network on the test images, and average over seeds.

Inputs: <results>/{train,finetune}/<recipe>/<seed>/predictions.parquet, <results>/imbalance.parquet.
Outputs: <results>/metrics.parquet, one row per figure and network; <results>/summary.parquet, means and intervals.
"""

NETWORKS = [
    f"{stage}/{recipe}/{seed}"
    for recipe, settings in CONFIG.recipes.items()
    for stage in ("train", "finetune")
    if stage == "train" or settings.stage2
    for seed in CONFIG.seeds
]


rule evaluate:
    input:
        predictions=expand("<results>/{network}/predictions.parquet", network=NETWORKS),
        imbalance="<results>/imbalance.parquet",
        code=code("evaluate.py", "synaug/evaluation/classification.py", "synaug/manifests.py", "synaug/schemas.py"),
    output:
        metrics="<results>/metrics.parquet",
    log:
        "<logs>/evaluate.log",
    conda:
        "../envs/data.yaml"
    script:
        "../workflow_scripts/evaluate.py"


rule summarise:
    input:
        metrics="<results>/metrics.parquet",
        code=code("summarise.py", "synaug/evaluation/intervals.py", "synaug/manifests.py", "synaug/schemas.py"),
    output:
        summary="<results>/summary.parquet",
    log:
        "<logs>/summarise.log",
    conda:
        "../envs/data.yaml"
    script:
        "../workflow_scripts/summarise.py"
