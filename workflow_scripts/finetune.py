"""Stage 2: re-train the last layer on a few real images, and let the network read the test images again."""

import numpy as np
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Recipe
from synaug.errors import job_log
from synaug.evaluation.predictions import predict
from synaug.generation.devices import leased_device
from synaug.manifests import read_manifest, write_manifest
from synaug.training.backbones import load_classifier, save_classifier
from synaug.training.data import load_training_set
from synaug.training.stages import finetune_stage2


def main(model: str, balanced: str, real: str, settings: dict, seed: int, threads: int, out) -> None:
    """Fine-tune `model` into the files `out.model`, `out.history` and `out.predictions`."""
    torch.set_num_threads(threads)
    recipe = Recipe.model_validate(settings["recipe"])
    table = read_manifest("balanced", balanced)
    rows = rows_of_recipe(table, "real")
    counts = np.bincount(rows_of_recipe(table, recipe.data)["label"])
    images = read_manifest("real", real)
    test = images[(images["split"] == settings["test_split"]) & images["usable"]]
    with leased_device() as device:
        data = load_training_set(rows, settings["image_size"], settings["color"], device)
        tuned, history = finetune_stage2(load_classifier(model), data, recipe.stage2, recipe.stage1, seed, counts)
        write_manifest("predictions", predict(tuned, test, settings["image_size"], settings["color"]), out.predictions)
    write_manifest("history", history, out.history)
    save_classifier(tuned, out.model)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.model,
            snakemake.input.balanced,
            snakemake.input.real,
            snakemake.params.settings,
            int(snakemake.wildcards.seed),
            snakemake.threads,
            snakemake.output,
        )
