"""Before anything is spent: `snakemake --cores 1 plan` and `snakemake --cores 1 preview`. No part of the default run.

Inputs: <results>/imbalance.parquet and <results>/plan.parquet; preview also the model of the config.
Outputs: of `plan`, a table on the terminal: images, shards, device time and disk per class. Of `preview`,
<results>/preview.parquet, the first four images of every class in the form of a shard, and <results>/preview.png, a
contact sheet. `generate_shard` finds the images of a preview and does not make them again.
"""


rule plan:
    input:
        plan="<results>/plan.parquet",
        imbalance="<results>/imbalance.parquet",
    log:
        "<logs>/plan.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    script:
        "../workflow_scripts/plan.py"


rule preview_images:
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
        # How many images the classes get does not matter here.
        settings={key: value for key, value in rules.plan_generation.params.settings.items() if key != "balance"},
    script:
        "../workflow_scripts/generate_beside_plan.py"


rule preview:
    input:
        images="<results>/preview.parquet",
        imbalance="<results>/imbalance.parquet",
        code=code("preview.py", "synaug/preview.py"),
    output:
        sheet="<results>/preview.png",
    log:
        "<logs>/preview.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    script:
        "../workflow_scripts/plan/preview.py"
