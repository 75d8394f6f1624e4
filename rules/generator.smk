"""A generator of one's own: train a small text-to-image model on labelled images (`snakemake train_generator`).

For domains that no public model knows. Part of the default run only if `generation.model` is the folder it writes.
Inputs: generator_training.images of the config: Parquet with the columns image {bytes, path} and label_name, or one of
this workflow's manifests (its training images are taken).
Outputs: generator_training.output, a checkpoint in the diffusers layout.

The code is not among the inputs: a comment must not cost hours of training. Delete the folder to train it again.
"""

if CONFIG.generator_training:

    rule train_generator:
        input:
            images=CONFIG.generator_training.images,
        output:
            model=f"{CONFIG.generator_training.output}/model_index.json",
        log:
            "<logs>/train_generator.log",
        benchmark:
            "<benchmarks>/train_generator.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
        params:
            settings=CONFIG.generator_training.model_dump(exclude={"images", "output"}),
            prompts=CONFIG.prompts.model_dump(),
            group_columns=CONFIG.dataset.group_columns,
            held_out=CONFIG.dataset.held_out,
            seed=CONFIG.seed,
            state=f"results/{CONFIG.experiment}/generator_training",
        script:
            "../workflow_scripts/generator/train_generator.py"
