"""Train an adapter (LoRA) of a public model on the training images of an experiment."""

import logging
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from diffusers.training_utils import free_memory

from synaug.config import Adaptation, Adapter, Generation, Prompts
from synaug.generation.pipelines import check_prompts, load_pipeline
from synaug.generator.adapt import LoraAdapter, drawn_images, train_adapter
from synaug.generator.adapt_data import encode_images, read_training_images
from synaug.generator.adapt_samples import sample_images, sample_rows, sample_sheet
from synaug.generator.output_folder import ADAPTER_HISTORY, ADAPTER_SAMPLES, ADAPTER_WEIGHTS, check_adapter_folder
from synaug.images.contact_sheet import cell_name
from synaug.manifests import write_manifest
from synaug.plan.checkpoints import adapters_json, is_local
from synaug.runtime.devices import leased_device
from synaug.runtime.files import atomic_path
from synaug.runtime.logs import job_log
from synaug.runtime.paths import results_root
from synaug.training.sampling import image_probabilities

# Of the sample sheet. Not those of `generation`: another number of steps there must not cost a training.
SHEET_STEPS, SHEET_GUIDANCE = 20, 2.0


def main(
    real: str,
    model: dict,
    settings: dict,
    prompts: dict,
    group_columns: list[str],
    train_split: str,
    seed: int,
    threads: int,
    state: str,
    out: str,
) -> None:
    """Train on the manifest `real` into the folder `out`; an interrupted training continues from the folder `state`.

    model: model, revision, size and, if set, variant and original_size of the config block `generation`. settings: the
    block `adaptation` without output. prompts: the block as `caption_prompts` changes it.
    """
    check_adapter_folder(out, [real, state])
    torch.set_num_threads(threads)
    adaptation = Adaptation.model_validate(settings | {"output": out})
    generation = Generation(**model, dtype=adaptation.precision, steps=SHEET_STEPS, guidance=SHEET_GUIDANCE)
    captions = Prompts.model_validate(prompts)
    images = read_training_images(real, train_split, captions, group_columns)
    for cell, count in zip(images.cells.itertuples(), np.bincount(images.labels), strict=True):
        if count == 1:
            name = cell_name(cell.label_name, cell.group)
            logging.warning(
                "class %r has 1 training image: expect copies of it; screening.leakage can reject them", name
            )
    rows = sample_rows(
        images, generation, captions, group_columns=group_columns, train_split=train_split, seed=seed
    )  # fmt: skip
    with leased_device() as device:
        pipeline = load_pipeline(rows.iloc[0], device)
        if not captions.truncate:
            check_prompts(pipeline, chain.from_iterable(images.captions), generation.model)
        adapter = LoraAdapter(pipeline, generation.size, adaptation, seed, generation.original_size)
        before = sample_images(pipeline, rows)  # the adapter changes nothing yet
        pipeline.vae.to(torch.float32)
        probabilities = image_probabilities(images.labels, adaptation.sampling)
        drawn = drawn_images(adaptation, len(images.rows), probabilities, seed)
        logging.info("%d of %d training images are drawn, and are encoded now", len(drawn), len(images.rows))
        rows_drawn = images.rows.iloc[drawn.numpy()]
        latents = encode_images(pipeline.vae, rows_drawn, results_root(real), generation.size, adaptation.flip)
        pipeline.vae.to("cpu")
        history = train_adapter(
            adapter,
            latents,
            torch.as_tensor(images.labels),
            images.captions,
            probabilities,
            seed=seed,
            work=Path(state),
            encoded=drawn,
            data=[
                rows["model_version"].iloc[0],
                generation.size,
                images.rows["image_id"].tolist(),
                images.captions,
                # Only where they are needed, so that other states remain valid. The version of a local model is a hash
                # of its files, while that of a model of the hub may be the name of a branch.
                *([generation.original_size] if generation.original_size else []),
                *([] if is_local(rows["model_version"].iloc[0]) else [generation.model]),
                *([f"variant {generation.variant}"] if generation.variant else []),
            ],
        )
        weights = Path(out) / ADAPTER_WEIGHTS
        adapter.save(weights)
        del adapter, pipeline, latents
        free_memory()  # the pipeline refers to itself: without this, two would be in memory
        rows = rows.assign(adapters=adapters_json([Adapter(kind="lora", model=str(weights))]))
        after = sample_images(load_pipeline(rows.iloc[0], device), rows)
    write_manifest("history", history, Path(out) / ADAPTER_HISTORY)
    with atomic_path(Path(out) / ADAPTER_SAMPLES) as temporary:
        sample_sheet(rows, before, after).save(temporary, "PNG")


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.real,
            snakemake.params.model,
            snakemake.params.settings | {"gradient_checkpointing": bool(snakemake.resources.gradient_checkpointing)},
            snakemake.params.prompts | {"truncate": bool(snakemake.resources.truncate)},
            snakemake.params.group_columns,
            snakemake.params.train_split,
            snakemake.params.seed,
            snakemake.threads,
            snakemake.params.state,
            str(Path(snakemake.output.weights).parent),
        )
