"""Step generation: make the planned images, shard by shard.

Inputs: <results>/plan.parquet and, with a pilot, <results>/pilot.parquet; the models of the config.
Outputs: <results>/shards/<shard>.parquet, the images. `synaug prune` deletes the shards that no plan names.

A shard's name is the hash of the ids of its images, and an id is the hash of everything that decides pixels. So the plan
is `ancient` to the shards: a plan that is made again leaves every shard that it still names as it is. For the same reason
the code is not a parameter: SAMPLER_VERSION is part of the ids, and a changed comment or line must not cost GPU days.
"""


rule generate_shard:
    # Read although it is not an input: existing images in results/*/, which are copied instead of sampled, and the index of
    # their ids, results/.index/. None have to exist.
    # Written although it is not an output: <results>/work/<shard>/, finished batches (Snakemake would delete an output when
    # the job is killed), and <results>/costs/<shard>.json, seconds and energy, which are never twice the same.
    input:
        real=sources_of_shard,
        images=lambda wildcards: real_images(wildcards) if sources_of_shard(wildcards) else [],
        plan=plan_of_shard,
        # Of its fill only: another fill that is added must not make this shard again.
        model=lambda wildcards: ancient(FILES_OF_FILL[fill_of_shard(wildcards)]),
    output:
        # The licence, another folder of the model or a lost record of Snakemake may start the job again, and no pixel differs.
        shard=kept("<results>/shards/{shard}.parquet"),
    log:
        "<logs>/generate_shard/{shard}.log",
    benchmark:
        "<benchmarks>/generate_shard/{shard}.jsonl"
    group:
        share_submissions("shards", submissions_of_shards("shards"))
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: THREADS_OF_FILL[fill_of_shard(wildcards)]
    resources:
        gpu=1,
        gpu_share=WHOLE_DEVICE,
        # Resources, not parameters: they belong to the device (a profile can set them with set-resources), and another
        # value makes no image again. batch_size 0: found by a short trial. compile: 0 false, 1 true, 2 auto. attention:
        # the name of a backend, or empty. keep_batches_in: empty: nowhere.
        batch_size=CONFIG.generation.batch_size or 0,
        compile=COMPILE,
        attention=CONFIG.generation.attention or "",
        keep_batches_in=CONFIG.generation.keep_batches_in or "",
    params:
        licence=lambda wildcards: CONFIG.generation_of_fills[fill_of_shard(wildcards)].licence,
    message:
        "Generate shard {wildcards.shard}"
    script:
        "../workflow_scripts/generation/generate_shard.py"
