"""Step evaluation: score every network on the test images, compare recipes, and average over seeds.

Inputs: <results>/{train,finetune}/<recipe>/<seed>/predictions.parquet, <results>/imbalance.parquet; for the costs,
<results>/{balanced,plan}.parquet, <results>/benchmarks/ and <results>/costs/.
Outputs: <results>/metrics.parquet, one row per metric and network; <results>/differences.parquet, recipes minus a baseline;
<results>/summary.parquet, means, intervals and costs. If the config asks for them, <results>/domain_probes.parquet and
shortcuts.parquet (with probe_images.parquet, images made for them); with a validation split <results>/selection.parquet, the
settings that one would have chosen by it; with evaluation.choose_by <results>/chosen.parquet, the recipe that is chosen,
and with evaluation.halving <results>/candidates/<round>.parquet, the candidates that are trained with the next seed.
"""

# (stage, recipe, seed) of every network of the config. With halving, not all of them are trained.
NETWORKS = networks_of(CONFIG)
# The validation images say nothing about a network that is trained on them.
NO_CANDIDATES = trained_on_validation(CONFIG)
# Rounds of halving. Round k comes after the seed number k, and none comes after the last one.
ROUNDS = len(CONFIG.seeds) - 1 if CONFIG.evaluation.choose_by and CONFIG.evaluation.halving else 0
# Recipes that are trained with all seeds: the report compares with the baselines, and no round compares the others.
NEVER_DROPPED = list(dict.fromkeys([*baselines_of(CONFIG), *NO_CANDIDATES]))
# Their networks, and those of recipes with the same stage 1.
WITH_ALL_SEEDS = [network for network in NETWORKS if STAGE1[network[1]] in {STAGE1[name] for name in NEVER_DROPPED}]
# Read although it is not an input: other training images give other predictions anyway, and as an input it would make the
# choice wait for it, and with that the report, whose parameters Snakemake does not ask for twice. A storage would not send
# it, so there recipes count by the config.
BALANCED = "" if IN_STORAGE else f"results/{CONFIG.experiment}/balanced.parquet"
IMAGES_OF_RECIPES = {name: recipe.model_dump(include={"data", "fill"}) for name, recipe in CONFIG.recipes.items()}
# Of the candidates alone: if no candidate uses the balanced manifest, the choice may run before it exists.
IMAGES_OF_CANDIDATES = {name: images for name, images in IMAGES_OF_RECIPES.items() if name not in NO_CANDIDATES}

PROBES = []

if CONFIG.evaluation.domain_probe or CONFIG.evaluation.shortcut_images:

    rule generate_probe_images:
        # It also reads the shards in results/*/, to copy images that exist. No code, as in generate_shard.
        input:
            **SOURCES,
            images=real_images if SOURCES else [],
            # Ancient: only the default number of images depends on it.
            tested=ancient("<results>/real.parquet"),
            imbalance="<results>/imbalance.parquet",
            model=MODEL_FILES,
            prompts=PROMPT_FILES,
        output:
            images="<results>/probe_images.parquet",
        log:
            "<logs>/generate_probe_images.log",
        benchmark:
            "<benchmarks>/generate_probe_images.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
            gpu_share=WHOLE_DEVICE,
            batch_size=CONFIG.generation.batch_size or 0,
            compile=COMPILE,
            attention=CONFIG.generation.attention or "",
        params:
            settings=settings_of_few_images(next(iter(CONFIG.generation_of_fills))),  # the only one
            test_split=CONFIG.dataset.test_split,
            images_per_cell=CONFIG.evaluation.shortcut_images,
        message:
            "Generate the probe images"
        script:
            "../workflow_scripts/evaluation/generate_probe_images.py"


if CONFIG.evaluation.domain_probe:

    rule probe_domains:
        input:
            models=lambda wildcards: of_networks(trained_stage1_networks(), "model.safetensors"),
            probe_images="<results>/probe_images.parquet",
            real=ancient("<results>/real.parquet"),
            images=real_images,
        output:
            probes="<results>/domain_probes.parquet",
        log:
            "<logs>/probe_domains.log",
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
            gpu_share=WHOLE_DEVICE,
        params:
            networks=lambda wildcards: trained_stage1_networks(),
            form=CONFIG.dataset.model_dump(include={"image_size", "color", "test_split"}),
            code=code("evaluation/probe_domains.py"),
        message:
            "Probe the networks for the domain gap"
        script:
            "../workflow_scripts/evaluation/probe_domains.py"

    PROBES.append("<results>/domain_probes.parquet")


if CONFIG.evaluation.shortcut_images:

    rule probe_shortcuts:
        input:
            models=lambda wildcards: of_networks(trained_networks(), "model.safetensors"),
            probe_images="<results>/probe_images.parquet",
            real=ancient("<results>/real.parquet"),
            balanced=balanced_manifest,
            images=real_images,
        output:
            probes="<results>/shortcuts.parquet",
        log:
            "<logs>/probe_shortcuts.log",
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
            gpu_share=WHOLE_DEVICE,
        params:
            networks=lambda wildcards: trained_networks(),
            form=CONFIG.dataset.model_dump(include={"image_size", "color", "test_split"}),
            recipes=IMAGES_OF_RECIPES,
            # The manifest is `ancient`, and its groups count even if no network uses the images that were added.
            images=lambda wildcards: images_of("balanced"),
            code=code("evaluation/probe_shortcuts.py"),
        message:
            "Probe the networks for shortcuts"
        script:
            "../workflow_scripts/evaluation/probe_shortcuts.py"

    PROBES.append("<results>/shortcuts.parquet")


rule evaluate:
    input:
        probes=PROBES,
        predictions=lambda wildcards: of_networks(trained_networks(), "predictions.parquet"),
        # They need no table of candidates: those without synthetic images are trained while images are generated.
        with_all_seeds=of_networks(WITH_ALL_SEEDS, "predictions.parquet") if ROUNDS else [],
        imbalance="<results>/imbalance.parquet",
        # Ancient: other images give other predictions.
        real=ancient("<results>/real.parquet"),
    output:
        metrics="<results>/metrics.parquet",
        differences="<results>/differences.parquet",
    log:
        "<logs>/evaluate.log",
    conda:
        "../envs/data.yaml"
    params:
        networks=lambda wildcards: trained_networks(),
        test_split=CONFIG.dataset.test_split,
        group_columns=CONFIG.dataset.group_columns,
        baselines=baselines_of(CONFIG),
        stage1=STAGE1,
        code=code("evaluation/evaluate.py"),
    message:
        "Evaluate all networks"
    script:
        "../workflow_scripts/evaluation/evaluate.py"


SELECTION = {}

if CONFIG.dataset.validation_split:

    rule select_settings:
        input:
            predictions=lambda wildcards: of_networks(trained_networks(), "predictions.parquet"),
            real=ancient("<results>/real.parquet"),
        output:
            selection="<results>/selection.parquet",
        log:
            "<logs>/select_settings.log",
        conda:
            "../envs/data.yaml"
        params:
            networks=lambda wildcards: trained_networks(),
            split=CONFIG.dataset.validation_split,
            recipes=list(CONFIG.recipes),
            trained_on_split=NO_CANDIDATES,
            code=code("evaluation/select_settings.py"),
        message:
            "Choose settings on the validation images"
        script:
            "../workflow_scripts/evaluation/select_settings.py"

    SELECTION = {"selection": "<results>/selection.parquet"}


if ROUNDS:

    checkpoint halve_candidates:
        input:
            predictions=lambda wildcards: of_networks(trained_candidates(int(wildcards.round)), "predictions.parquet"),
            real=ancient("<results>/real.parquet"),
        output:
            candidates="<results>/candidates/{round}.parquet",
        log:
            "<logs>/halve_candidates/{round}.log",
        wildcard_constraints:
            round="|".join(str(number) for number in range(1, ROUNDS + 1)),
        conda:
            "../envs/data.yaml"
        params:
            networks=lambda wildcards: trained_candidates(int(wildcards.round)),
            split=CONFIG.dataset.validation_split,
            metric=CONFIG.evaluation.choose_by,
            images=IMAGES_OF_CANDIDATES,
            balanced=BALANCED,
            always=NEVER_DROPPED,
            stage1=STAGE1,
            code=code("evaluation/halve_candidates.py"),
        message:
            "Drop the worse half of the candidates, round {wildcards.round}"
        script:
            "../workflow_scripts/evaluation/halve_candidates.py"


CHOICE = {}

if CONFIG.evaluation.choose_by:

    # A checkpoint: the rule of the final networks needs the chosen recipe, and not the date of this table.
    checkpoint choose_recipe:
        input:
            predictions=lambda wildcards: of_networks(trained_candidates(), "predictions.parquet"),
            real=ancient("<results>/real.parquet"),
        output:
            chosen="<results>/chosen.parquet",
        log:
            "<logs>/choose_recipe.log",
        conda:
            "../envs/data.yaml"
        params:
            networks=lambda wildcards: trained_candidates(),
            split=CONFIG.dataset.validation_split,
            metric=CONFIG.evaluation.choose_by,
            images=IMAGES_OF_CANDIDATES,
            balanced=BALANCED,
            code=code("evaluation/choose_recipe.py"),
        message:
            "Choose the recipe on the validation images"
        script:
            "../workflow_scripts/evaluation/choose_recipe.py"

    CHOICE = {
        "chosen": "<results>/chosen.parquet",
        "final": [f"<results>/final/{seed}/predictions.parquet" for seed in CONFIG.seeds],
    }


rule summarise:
    # Read although they are not inputs: <results>/benchmarks/ and <results>/costs/. Seconds are never twice the same, so
    # nothing is run again for them.
    input:
        **{name: ancient(path) for name, path in PILOT_PLAN.items()},
        metrics="<results>/metrics.parquet",
        # Ancient: other training images give other metrics.
        balanced=ancient("<results>/balanced.parquet"),
        plan=ancient("<results>/plan.parquet"),
    output:
        summary="<results>/summary.parquet",
    log:
        "<logs>/summarise.log",
    conda:
        "../envs/data.yaml"
    params:
        images=IMAGES_OF_RECIPES,
        stage1=STAGE1,
        devices={name: recipe.stage1.devices for name, recipe in CONFIG.recipes.items()},
        code=code("evaluation/summarise.py"),
    message:
        "Average over seeds"
    script:
        "../workflow_scripts/evaluation/summarise.py"
