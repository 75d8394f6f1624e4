"""Step 5, evaluate: score every network on the test images, compare recipes, and average over seeds.

Inputs: <results>/{train,finetune}/<recipe>/<seed>/predictions.parquet, <results>/imbalance.parquet; for what it cost,
<results>/{balanced,plan}.parquet, <results>/benchmarks/ and <results>/costs/.
Outputs: <results>/domain_probes.parquet and shortcuts.parquet (with unseen.parquet, images made for it), if the config
asks for them; <results>/metrics.parquet, one row per figure and network; <results>/differences.parquet, recipes minus a
baseline; <results>/summary.parquet, means, intervals and costs; with a validation split <results>/selection.parquet,
the settings that one would have chosen by it.

Seconds are never twice the same, so nothing is run again for them.
"""

NETWORKS = [
    f"{stage}/{recipe}/{seed}"
    for recipe, settings in CONFIG.recipes.items()
    for stage in ("train", "finetune")
    if (not settings.stage1_of if stage == "train" else settings.stage2)
    for seed in CONFIG.seeds
]


PROBES = []

if CONFIG.evaluation.domain_probe:

    rule probe_domains:
        input:
            models=[f"<results>/{network}/model.safetensors" for network in NETWORKS if network.startswith("train/")],
            balanced=balanced_manifest,
            images=all_images,
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
            "../workflow_scripts/evaluation/probe_domains.py"

    PROBES.append("<results>/domain_probes.parquet")


if CONFIG.evaluation.shortcut_images:

    rule unseen_images:
        input:
            **SOURCES,
            images=real_images if SOURCES else [],
            imbalance="<results>/imbalance.parquet",
            model=MODEL_FILES,
            prompts=PROMPT_FILES,
        output:
            images="<results>/unseen.parquet",
        log:
            "<logs>/unseen_images.log",
        benchmark:
            "<benchmarks>/unseen_images.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
            batch_size=CONFIG.generation.batch_size or 0,
            compile=int(CONFIG.generation.compile),
        params:
            settings=rules.plan_generation.params.settings,
            unseen=CONFIG.evaluation.shortcut_images,
        script:
            "../workflow_scripts/generate_beside_plan.py"

    rule probe_shortcuts:
        input:
            models=[f"<results>/{network}/model.safetensors" for network in NETWORKS],
            unseen="<results>/unseen.parquet",
            real=ancient("<results>/real.parquet"),
            balanced=balanced_manifest,
            images=real_images,
            code=code(
                "probe_shortcuts.py",
                "synaug/evaluation/bootstrap.py",
                "synaug/evaluation/shortcut.py",
                "synaug/training/backbones.py",
            ),
        output:
            probes="<results>/shortcuts.parquet",
        log:
            "<logs>/probe_shortcuts.log",
        conda:
            "../envs/torch.yaml"
        threads: 2
        params:
            form=CONFIG.dataset.model_dump(include={"image_size", "color", "test_split"}),
        script:
            "../workflow_scripts/evaluation/probe_shortcuts.py"

    PROBES.append("<results>/shortcuts.parquet")


rule evaluate:
    input:
        probes=PROBES,
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
        test_split=CONFIG.dataset.test_split,
        group_columns=CONFIG.dataset.group_columns,
        baselines=CONFIG.evaluation.baselines or [next(iter(CONFIG.recipes))],
        stage1=STAGE1,
    script:
        "../workflow_scripts/evaluation/evaluate.py"


SELECTION = {}

if CONFIG.dataset.validation_split:

    rule select_settings:
        input:
            predictions=expand("<results>/{network}/predictions.parquet", network=NETWORKS),
            real=ancient("<results>/real.parquet"),
            code=code(
                "select_settings.py", "synaug/evaluation/selection.py", "synaug/manifests.py", "synaug/schemas.py"
            ),
        output:
            selection="<results>/selection.parquet",
        log:
            "<logs>/select_settings.log",
        conda:
            "../envs/data.yaml"
        params:
            split=CONFIG.dataset.validation_split,
            recipes=list(CONFIG.recipes),
        script:
            "../workflow_scripts/evaluation/select_settings.py"

    SELECTION = {"selection": "<results>/selection.parquet"}


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
        "../workflow_scripts/evaluation/summarise.py"
