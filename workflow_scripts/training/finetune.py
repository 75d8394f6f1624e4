"""Stage 2: re-train the last layer on a few real images, and let the network read the held-out images again."""

import pandas as pd
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Recipe
from synaug.evaluation.predictions import predict
from synaug.manifests import class_names, read_manifest, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import TrainingSet, load_recipe_images, load_training_set, training_set
from synaug.training.label_mass import training_phases
from synaug.training.stage2 import finetune_stage2


def main(model: str, table: str, packed: str | None, real: str, settings: dict, seed: int, threads: int, out) -> None:
    """Fine-tune `model` into the files `out.model`, `out.history` and `out.predictions`. The rest as for `train`."""
    torch.set_num_threads(1)
    recipe = Recipe.model_validate(settings["recipe"])
    images = read_with_local_paths("real", real)
    asked = images[images["split"].isin(settings["held_out"]) & images["usable"]]
    stage1_rows = rows_of_recipe(read_manifest("packed" if packed else "balanced", table), recipe.data, recipe.fill)
    stage1_data = training_set(torch.empty(0), stage1_rows, "cpu")
    *_, last_phase = training_phases(stage1_data, recipe.stage1, len(class_names(images)))
    with leased_device() as device:
        if recipe.stage2.split in settings["held_out"]:
            data = load_split(images, recipe.stage2.split, settings, device)
        else:
            data = load_recipe_images(table, packed, "real", None, settings, threads, device)
        tuned, history = finetune_stage2(
            load_classifier(model), data, recipe.stage2, recipe.stage1, seed, last_phase.label_mass.numpy()
        )
        write_manifest("predictions", predict(tuned, asked, settings["image_size"], settings["color"]), out.predictions)
    write_manifest("history", history, out.history)
    save_classifier(tuned, out.model)


def load_split(real: pd.DataFrame, split: str, settings: dict, device: str) -> TrainingSet:
    """The usable images of `split`, decoded into memory. real: the manifest of this name; settings: as for `main`."""
    rows = real[(real["split"] == split) & real["usable"]].assign(source="real", weight=1.0)
    return load_training_set(rows, settings["image_size"], settings["color"], device)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.model,
            snakemake.input.get("index", snakemake.input.balanced),
            snakemake.input.get("packed"),
            snakemake.input.real,
            snakemake.params.settings,
            int(snakemake.wildcards.seed),
            snakemake.threads,
            snakemake.output,
        )
