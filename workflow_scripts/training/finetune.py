"""Stage 2: re-train the last layer on a few real images, and let the network read the held-out images again."""

from pathlib import Path

import numpy as np
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Recipe
from synaug.evaluation.predictions import predict
from synaug.manifests import read_manifest, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import LargeImages, SmallImages, images_of_rule, load_recipe_images
from synaug.training.stage2 import finetune_stage2


def main(
    model: str, balanced: str, images: SmallImages | LargeImages, real: str, settings: dict, seed: int, out
) -> None:
    """Fine-tune `model` into the files `out.model`, `out.history` and `out.predictions`. The rest as for `train`."""
    torch.set_num_threads(1)
    recipe = Recipe.model_validate(settings["recipe"])
    trained_on = rows_of_recipe(read_manifest("balanced", balanced), recipe.data)
    counts = np.bincount(trained_on["label"])
    rows = read_with_local_paths("real", real)
    asked = rows[rows["split"].isin(settings["held_out"]) & rows["usable"]]
    with leased_device() as device:
        data = load_recipe_images(balanced, images, "real", device)
        tuned, history = finetune_stage2(load_classifier(model), data, recipe.stage2, recipe.stage1, seed, counts)
        write_manifest("predictions", predict(tuned, asked, images.iterate(asked)), out.predictions)
    write_manifest("history", history, out.history)
    save_classifier(tuned, out.model)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.model,
            snakemake.input.balanced,
            images_of_rule(
                snakemake.input, Path(snakemake.output.model).parents[3], snakemake.params.settings, snakemake.threads
            ),
            snakemake.input.real,
            snakemake.params.settings,
            int(snakemake.wildcards.seed),
            snakemake.output,
        )
