"""Step 5, evaluate: score every network on the test images, compare recipes, and average over seeds.

Inputs: <results>/{train,finetune}/<recipe>/<seed>/predictions.parquet, <results>/imbalance.parquet; for what it cost,
<results>/{balanced,plan}.parquet, <results>/benchmarks/ and <results>/costs/.
Outputs: <results>/domain_probes.parquet, if the config asks for it; <results>/metrics.parquet, one row per figure and network; <results>/differences.parquet, recipes minus a
baseline; <results>/summary.parquet, means, intervals and costs.

Seconds are never twice the same, so nothing is run again for them.
"""

NETWORKS = [
    f"{stage}/{recipe}/{seed}"
    for recipe, settings in CONFIG.recipes.items()
    for stage in ("train", "finetune")
    if (not settings.stage1_of if stage == "train" else settings.stage2)
    for seed in CONFIG.seeds
]


PROBES = {}

if CONFIG.evaluation.domain_probe:

    rule probe_domains:
        input:
            models=[f"<results>/{network}/model.safetensors" for network in NETWORKS if network.startswith("train/")],
            balanced=balanced_manifest,
            code=code(
                "probe_domains.py",
                "synaug/evaluation/bootstrap.py",
                "synaug/evaluation/probe.py",
                "synaug/training/backbones.py",
            ),
        output:
            probes="<results>/domain_probes.parquet",
        log:
            "<logs>/probe_domains.log",
        conda:
            "../envs/torch.yaml"
        threads: 2
        params:
            form=CONFIG.dataset.model_dump(include={"image_size", "color"}),
        script:
            "../workflow_scripts/probe_domains.py"

    PROBES = {"probes": "<results>/domain_probes.parquet"}


rule evaluate:
    input:
        **PROBES,
        predictions=expand("<results>/{network}/predictions.parquet", network=NETWORKS),
        imbalance="<results>/imbalance.parquet",
        # Ancient: other images give other predictions.
        real=ancient("<results>/real.parquet"),
        code=code(
            "evaluate.py",
            "synaug/evaluation/bootstrap.py",
            "synaug/evaluation/classification.py",
            "synaug/evaluation/differences.py",
            "synaug/evaluation/groupings.py",
            "synaug/evaluation/groups.py",
            "synaug/evaluation/intervals.py",
            "synaug/imbalance.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
        ),
    output:
        metrics="<results>/metrics.parquet",
        differences="<results>/differences.parquet",
    log:
        "<logs>/evaluate.log",
    conda:
        "../envs/data.yaml"
    params:
        group_columns=CONFIG.dataset.group_columns,
        baselines=CONFIG.evaluation.baselines or [next(iter(CONFIG.recipes))],
        stage1=STAGE1,
    script:
        "../workflow_scripts/evaluate.py"


rule summarise:
    input:
        metrics="<results>/metrics.parquet",
        # Ancient: other training images give other metrics.
        balanced=ancient("<results>/balanced.parquet"),
        plan=ancient("<results>/plan.parquet"),
        code=code(
            "summarise.py",
            "synaug/evaluation/costs.py",
            "synaug/evaluation/intervals.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
        ),
    output:
        summary="<results>/summary.parquet",
    log:
        "<logs>/summarise.log",
    conda:
        "../envs/data.yaml"
    params:
        data={name: recipe.data for name, recipe in CONFIG.recipes.items()},
        stage1=STAGE1,
    script:
        "../workflow_scripts/summarise.py"
