"""Step plan: one row per synthetic image that is wanted, and what generating them will cost.

`snakemake --cores 1 plan` prints images, shards, device time and disk per class. `snakemake --cores 1 preview` makes the
first four images of every class. Neither is part of the default run.

Inputs: <results>/imbalance.parquet, the prompts and the model of the config; for image-to-image also <results>/real.parquet.
Outputs: <results>/plan.parquet, one row per wanted image. Of the preview: <results>/preview.parquet, its images in the form
of a shard (`generate_shard` copies them instead of making them again), and <results>/preview.png, a contact sheet.
"""

# Image-to-image starts from real images. Otherwise the plan depends only on how many there are.
SOURCES = {"real": "<results>/real.parquet"} if CONFIG.generation.pipeline == "image-to-image" else {}

PLAN_SETTINGS = {
    "seed": CONFIG.seed,
    "image_size": CONFIG.dataset.image_size,
    "color": CONFIG.dataset.color,
    "train_split": CONFIG.dataset.train_split,
    "group_columns": CONFIG.dataset.group_columns,
    "balance": CONFIG.balance.model_dump(exclude={"shortfall", "keep"}),
    "prompts": CONFIG.prompts.model_dump(),
    "generation": CONFIG.generation.model_dump(exclude={"batch_size", "compile", "note"}),
}


checkpoint plan_generation:
    input:
        **SOURCES,
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
    # It also reads which images exist already in results/*/, and how long they took; only for the estimate.
    input:
        plan="<results>/plan.parquet",
        imbalance="<results>/imbalance.parquet",
    log:
        "<logs>/estimate_cost.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    message:
        "Estimate what generation costs"
    script:
        "../workflow_scripts/plan/estimate_cost.py"


# The target that people type.
use rule estimate_cost as plan with:
    log:
        "<logs>/plan.log",


rule preview_images:
    # It also reads the shards in results/*/, to copy images that exist. The code is not a parameter, as in generate_shard.
    input:
        **SOURCES,
        images=real_images if SOURCES else [],
        imbalance="<results>/imbalance.parquet",
        model=MODEL_FILES,
        prompts=PROMPT_FILES,
    output:
        images="<results>/preview.parquet",
    log:
        "<logs>/preview_images.log",
    benchmark:
        "<benchmarks>/preview_images.jsonl"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        gpu=1,
        batch_size=CONFIG.generation.batch_size or 0,
        compile=int(CONFIG.generation.compile),
    params:
        # The number of images per class does not matter here.
        settings={key: value for key, value in PLAN_SETTINGS.items() if key != "balance"},
    message:
        "Generate the preview images"
    script:
        "../workflow_scripts/plan/preview_images.py"


rule preview:
    input:
        images="<results>/preview.parquet",
        imbalance="<results>/imbalance.parquet",
    output:
        sheet="<results>/preview.png",
    log:
        "<logs>/preview.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    params:
        code=code("plan/preview.py"),
    message:
        "Draw the contact sheet"
    script:
        "../workflow_scripts/plan/preview.py"
