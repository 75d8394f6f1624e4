"""Step plan: one row per synthetic image that is wanted, and what generating them will cost.

`snakemake --cores 1 plan` prints images, shards, device time and disk per class. `snakemake --cores 1 preview` makes the
first four images of every class and fill. Neither is part of the default run.

Without generation.model the plan is empty, and so is what is made from it; there is no preview.
Inputs: <results>/imbalance.parquet, the prompts and the models of the config; for image-to-image also <results>/real.parquet;
after a pilot <results>/gate.parquet.
Outputs: <results>/plan.parquet, one row per wanted image. With screening.classifier.pilot also <results>/pilot.parquet,
the first images of every class and fill. Of the preview: <results>/preview.parquet (with `fills`
preview-<fill>.parquet), its images in the form of a shard (`generate_shard` copies them instead of making them again),
and <results>/preview.png, a contact sheet.
"""

# Image-to-image starts from real images. Otherwise the plan depends only on how many there are.
PIPELINES = {name: generation.pipeline for name, generation in CONFIG.generation_of_fills.items()}
SOURCES = {"real": "<results>/real.parquet"} if "image-to-image" in PIPELINES.values() else {}

PLAN_SETTINGS = CONFIG.plan_settings()


if PILOT:

    checkpoint plan_pilot:
        input:
            **SOURCES,
            imbalance="<results>/imbalance.parquet",
            model=MODEL_FILES,
            prompts=PROMPT_FILES,
        output:
            plan="<results>/pilot.parquet",
        log:
            "<logs>/plan_pilot.log",
        conda:
            "../envs/data.yaml"
        params:
            settings=PLAN_SETTINGS,
            pilot=PILOT,
            code=code("plan/plan_pilot.py"),
        message:
            "Plan the pilot"
        script:
            "../workflow_scripts/plan/plan_pilot.py"


checkpoint plan_generation:
    input:
        **SOURCES,
        **(GATE if PILOT else {}),
        imbalance="<results>/imbalance.parquet",
        model=MODEL_FILES,
        prompts=PROMPT_FILES,
    output:
        plan="<results>/plan.parquet",
    log:
        "<logs>/plan_generation.log",
    conda:
        "../envs/data.yaml"
    params:
        settings=PLAN_SETTINGS,
        code=code("plan/plan_generation.py"),
    message:
        "Plan the synthetic images"
    script:
        "../workflow_scripts/plan/plan_generation.py"


rule estimate_cost:
    # It also reads which images exist already in results/*/, and how long they took; only for the estimate. Before a pilot
    # there is no plan yet, and it makes the largest one that there can be.
    input:
        **(SOURCES if PILOT else {"plan": "<results>/plan.parquet"}),
        imbalance="<results>/imbalance.parquet",
        model=MODEL_FILES if PILOT else [],
        prompts=PROMPT_FILES if PILOT else [],
    log:
        "<logs>/estimate_cost.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        settings=PLAN_SETTINGS,
        pilot=PILOT,
        compile=CONFIG.generation.compile,
    message:
        "Estimate what generation costs"
    script:
        "../workflow_scripts/plan/estimate_cost.py"


# The target that people type.
use rule estimate_cost as plan with:
    log:
        "<logs>/plan.log",


# Name of a fill in the name of its preview -> the fill.
PREVIEWS = {f"-{name}" if name else "": name for name in CONFIG.generation_of_fills}


rule preview_images:
    # One file for each fill: <results>/preview-<fill>.parquet, or without `fills` <results>/preview.parquet.
    # It also reads the shards in results/*/, to copy images that exist. The code is not a parameter, as in generate_shard.
    input:
        real=preview_sources,
        images=lambda wildcards: real_images(wildcards) if preview_sources(wildcards) else [],
        imbalance="<results>/imbalance.parquet",
        model=lambda wildcards: FILES_OF_FILL[PREVIEWS[wildcards.fill]],
        prompts=PROMPT_FILES,
    output:
        images="<results>/preview{fill}.parquet",
    log:
        "<logs>/preview_images{fill}.log",
    benchmark:
        "<benchmarks>/preview_images{fill}.jsonl"
    wildcard_constraints:
        fill=f"(?:{'|'.join(re.escape(name) for name in PREVIEWS)})",
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
        # The number of images per class does not matter here.
        settings=lambda wildcards: {
            key: value for key, value in settings_of_few_images(PREVIEWS[wildcards.fill]).items() if key != "balance"
        },
    message:
        "Generate the preview images, preview{wildcards.fill}.parquet"
    script:
        "../workflow_scripts/plan/preview_images.py"


rule preview:
    input:
        images=[f"<results>/preview{name}.parquet" for name in PREVIEWS] or nothing_to_preview,
        imbalance="<results>/imbalance.parquet",
    output:
        sheet="<results>/preview.png",
    log:
        "<logs>/preview.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        fills=list(CONFIG.fills),
        code=code("plan/preview.py"),
    message:
        "Draw the contact sheet"
    script:
        "../workflow_scripts/plan/preview.py"
