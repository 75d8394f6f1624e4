"""Step generator: train a small text-to-image model on labelled images (`snakemake train_generator`), or an adapter of a
public one (`snakemake adapt_generator`).

A small model is for domains that no public model covers. It is part of the default run only if `generation.model` is the
folder it writes, and an adapter only if an entry of `generation.adapters` is.
Inputs: of the model, generator.images of the config: Parquet with the columns image {bytes, path} and label_name, or one of
this workflow's manifests (its training images are taken). Of the adapter, <results>/real.parquet and the model of the config.
Outputs: generator.output, a checkpoint in the diffusers layout; adaptation.output, an adapter with its training history and
a sample sheet.

The code is not a parameter: a changed comment or line must not cost hours of training. To train again with the same
settings, delete the output, and the folder of its checkpoints (param `state`).
"""

if CONFIG.generator:

    rule train_generator:
        input:
            images=CONFIG.generator.images,
            start=[f"{CONFIG.generator.start}/model_index.json"] if CONFIG.generator.start else [],
            prompts=PROMPT_FILES,
        output:
            # The whole folder is written, and moved into place when it is complete. Snakemake deletes declared outputs before
            # the job starts, so that only this small file is declared: the weights of the old model stay until then.
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
            gpu_share=WHOLE_DEVICE,
            # Resources, not parameters: `truncate` decides whether captions are accepted, and does not change the generator;
            # `train_split` came later, and generators that were trained before are not trained again.
            truncate=int(CONFIG.prompts.truncate),
            train_split=CONFIG.dataset.train_split,
        params:
            # Without a start the key is left out: generators that were trained before it existed are not trained again.
            settings=CONFIG.generator.model_dump(
                exclude={"images", "output"} if CONFIG.generator.start else {"images", "output", "start"}
            ),
            prompts=CONFIG.prompts.model_dump(exclude={"truncate"}),
            group_columns=CONFIG.dataset.group_columns,
            held_out=CONFIG.dataset.held_out,
            seed=CONFIG.seed,
            # Checkpoints of an interrupted training. Not an output: Snakemake would delete it when the job is killed.
            state=training_state(CONFIG.generator.output),
        message:
            "Train the generator"
        script:
            "../workflow_scripts/generator/train_generator.py"


if CONFIG.adaptation:

    rule adapt_generator:
        input:
            # An added image does not train it again: another adapter would make all images again, so it is the user who
            # decides to do so, by deleting it.
            real=ancient("<results>/real.parquet"),
            images=real_images,
            model=BASE_FILES,
            prompts=ancient(PROMPT_FILES),
        output:
            weights=f"{CONFIG.adaptation.output}/{ADAPTER_WEIGHTS}",
            history=f"{CONFIG.adaptation.output}/{ADAPTER_HISTORY}",
            samples=f"{CONFIG.adaptation.output}/{ADAPTER_SAMPLES}",
        log:
            "<logs>/adapt_generator.log",
        benchmark:
            "<benchmarks>/adapt_generator.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 2
        resources:
            gpu=1,
            gpu_share=WHOLE_DEVICE,
            # Resources, not parameters: they do not change the adapter.
            gradient_checkpointing=int(CONFIG.adaptation.gradient_checkpointing),
            truncate=int(CONFIG.prompts.truncate),
        params:
            # Without them two keys are left out: adapters that were trained before these existed are not trained again.
            model=CONFIG.generation.model_dump(
                include={"model", "revision", "size"}
                | {key for key in ("variant", "original_size") if getattr(CONFIG.generation, key)}
            ),
            settings=CONFIG.adaptation.model_dump(exclude={"output", "gradient_checkpointing"}),
            prompts=caption_prompts(CONFIG.prompts).model_dump(exclude={"truncate"}),
            group_columns=CONFIG.dataset.group_columns,
            train_split=CONFIG.dataset.train_split,
            seed=CONFIG.seed,
            # Checkpoints of an interrupted training. Not an output: Snakemake would delete it when the job is killed.
            state=f"results/{CONFIG.experiment}/adaptation",
        message:
            "Train the adapter"
        script:
            "../workflow_scripts/generator/adapt_generator.py"
