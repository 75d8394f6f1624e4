"""Step generator: train a small text-to-image model on labelled images (`snakemake train_generator`).

For domains that no public model covers. It is part of the default run only if `generation.model` is the folder it writes.
Inputs: generator.images of the config: Parquet with the columns image {bytes, path} and label_name, or one of this
workflow's manifests (its training images are taken).
Outputs: generator.output, a checkpoint in the diffusers layout.

The code is not a parameter: a changed comment or line must not cost hours of training. To train again, delete the folder.
"""

if CONFIG.generator:

    rule train_generator:
        input:
            images=CONFIG.generator.images,
        output:
            # The whole folder is written, and moved into place when it is complete; a rule's folder would be deleted before.
            model=f"{CONFIG.generator.output}/model_index.json",
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
            settings=CONFIG.generator.model_dump(exclude={"images", "output"}),
            prompts=CONFIG.prompts.model_dump(),
            group_columns=CONFIG.dataset.group_columns,
            held_out=CONFIG.dataset.held_out,
            seed=CONFIG.seed,
            # Checkpoints of an interrupted training. Not an output: Snakemake would delete it when the job is killed.
            state=f"results/{CONFIG.experiment}/generator_training",
        message:
            "Train the generator"
        script:
            "../workflow_scripts/generator/train_generator.py"
