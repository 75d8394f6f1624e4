"""Step 2, generate: plan every synthetic image, then make them shard by shard.

Inputs: <results>/imbalance.parquet, the model of the config.
Outputs: <results>/plan.parquet, one row per wanted image; <results>/shards/<shard>.parquet, the images.
`snakemake --cores 1 prune` lists, then deletes, the shards that no plan names.

A shard's name is the hash of the ids of its images, and an id is the hash of everything that decides pixels. So the
plan is `ancient` to the shards: a plan that is made again moves no shard that it still names. The code that generates is
not among the inputs for the same reason: SAMPLER_VERSION is part of the ids, and a comment must not cost GPU days.
"""

# Image-to-image starts from real images; otherwise the plan does not depend on which they are, only on how many.
SOURCES = {"real": "<results>/real.parquet"} if CONFIG.generation.pipeline == "image-to-image" else {}


checkpoint plan_generation:
    input:
        **SOURCES,
        imbalance="<results>/imbalance.parquet",
        model=MODEL_FILES,
        prompts=PROMPT_FILES,
        code=code(
            "plan_generation.py",
            "synaug/plan.py",
            "synaug/models.py",
            "synaug/prompts.py",
            "synaug/manifests.py",
            "synaug/schemas.py",
        ),
    output:
        plan="<results>/plan.parquet",
    log:
        "<logs>/plan_generation.log",
    conda:
        "../envs/data.yaml"
    params:
        settings={
            "seed": CONFIG.seed,
            "image_size": CONFIG.dataset.image_size,
            "color": CONFIG.dataset.color,
            "train_split": CONFIG.dataset.train_split,
            "group_columns": CONFIG.dataset.group_columns,
            "balance": CONFIG.balance.model_dump(exclude={"shortfall"}),
            "prompts": CONFIG.prompts.model_dump(),
            "generation": CONFIG.generation.model_dump(exclude={"batch_size", "compile", "note"}),
        },
    script:
        "../workflow_scripts/plan/plan_generation.py"


rule generate_shard:
    input:
        **{name: ancient(path) for name, path in SOURCES.items()},
        images=real_images if SOURCES else [],
        plan=ancient("<results>/plan.parquet"),
        model=ancient(MODEL_FILES),
    output:
        shard="<results>/shards/{shard}.parquet",
    log:
        "<logs>/generate_shard/{shard}.log",
    benchmark:
        "<benchmarks>/generate_shard/{shard}.jsonl"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        gpu=1,
        # A resource, not a parameter: another batch size makes no other images.
        batch_size=CONFIG.generation.batch_size or 0,
        compile=int(CONFIG.generation.compile),
    params:
        licence=CONFIG.generation.licence,
    script:
        "../workflow_scripts/generation/generate_shard.py"


rule prune:
    log:
        "<logs>/prune.log",
    localrule: True
    conda:
        "../envs/data.yaml"
    script:
        "../workflow_scripts/prune.py"
