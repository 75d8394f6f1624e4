"""Stage 2: re-train the last layer on a few real images, and let the network read the held-out images again."""

import torch

from synaug.balance import rows_of_recipe
from synaug.config import Recipe
from synaug.evaluation.predictions import predict, predict_from_features
from synaug.manifests import class_names, read_manifest, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import load_features, load_recipe_images, load_training_set, training_set
from synaug.training.features import read_features
from synaug.training.label_mass import training_phases
from synaug.training.stage2 import finetune_stage2


def main(
    model: str,
    table: str,
    packed: str | None,
    features: str | None,
    real: str,
    settings: dict,
    seed: int,
    threads: int,
    out,
) -> None:
    """Fine-tune `model` into the files `out.model`, `out.history` and `out.predictions`. The rest as for `train`."""
    torch.set_num_threads(1)
    recipe = Recipe.model_validate(settings["recipe"])
    images = read_with_local_paths("real", real)
    asked = images[images["split"].isin(settings["held_out"]) & images["usable"]]
    stage1_rows = rows_of_recipe(read_manifest("packed" if packed else "balanced", table), recipe.data, recipe.fill)
    stage1_data = training_set(torch.empty(0), stage1_rows, "cpu")
    of_split = recipe.stage2.split in settings["held_out"]
    split_rows = images[(images["split"] == recipe.stage2.split) & images["usable"]].assign(source="real", weight=1.0)
    size, color = settings["image_size"], settings["color"]
    *_, last_phase = training_phases(stage1_data, recipe.stage1, len(class_names(images)))
    with leased_device() as device:
        if features:
            rows = split_rows if of_split else rows_of_recipe(read_manifest("balanced", table), "real")
            data = load_features(rows, features, size, color, device)
        elif of_split:
            data = load_training_set(split_rows, size, color, device)
        else:
            data = load_recipe_images(table, packed, "real", None, settings, threads, device)
        tuned, history = finetune_stage2(
            load_classifier(model), data, recipe.stage2, recipe.stage1, seed, last_phase.label_mass.numpy()
        )
        if features:
            predictions = predict_from_features(tuned, asked, read_features(features, asked["image_id"]))
        else:
            predictions = predict(tuned, asked, size, color)
        write_manifest("predictions", predictions, out.predictions)
    write_manifest("history", history, out.history)
    save_classifier(tuned, out.model)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        features = snakemake.input.features or None  # an empty list, if the recipe uses none
        main(
            snakemake.input.model,
            snakemake.input.balanced if features else snakemake.input.get("index", snakemake.input.balanced),
            None if features else snakemake.input.get("packed"),
            features,
            snakemake.input.real,
            snakemake.params.settings,
            int(snakemake.wildcards.seed),
            snakemake.threads,
            snakemake.output,
        )
