"""Stage 2: re-train the last layer on a few real images, and let the network read the held-out images again."""

from pathlib import Path

import torch

from synaug.balance import rows_of_recipe, training_rows
from synaug.config import Recipe
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.allocation import use_large_pages
from synaug.runtime.devices import WHOLE_DEVICE, leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import ImageSource, images_of_rule, open_training_set, predict_rows
from synaug.training.label_mass import last_label_mass
from synaug.training.memory import share_for
from synaug.training.stage2 import finetune_stage2


def main(
    model: str,
    balanced: str | None,
    images: ImageSource,
    real: str,
    train_split: str,
    settings: dict,
    seed: int,
    out,
    gpu_share: int = WHOLE_DEVICE,
) -> None:
    """Fine-tune `model` into the files `out.model`, `out.history` and `out.predictions`. The rest as for `train`."""
    torch.set_num_threads(1)
    use_large_pages()
    recipe = Recipe.model_validate(settings["recipe"])
    rows = read_with_local_paths("real", real)
    asked = rows[rows["split"].isin(settings["held_out"]) & rows["usable"]]
    trained_on = training_rows(balanced, rows, train_split)
    stage1_rows = rows_of_recipe(trained_on, recipe.data, recipe.fill)
    mass = last_label_mass(stage1_rows, recipe.stage1, len(class_names(rows)))
    if recipe.stage2.split in settings["held_out"]:
        tuned_on = rows[(rows["split"] == recipe.stage2.split) & rows["usable"]].assign(source="real", weight=1.0)
    else:
        tuned_on = rows_of_recipe(trained_on, "real")
    with leased_device(share_for(len(tuned_on), gpu_share)) as device:
        data = open_training_set(tuned_on, images, device)
        tuned, history = finetune_stage2(load_classifier(model), data, recipe.stage2, recipe.stage1, seed, mass)
        write_manifest("predictions", predict_rows(tuned, asked, images), out.predictions)
    write_manifest("history", history, out.history)
    save_classifier(tuned, out.model)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.model,
            snakemake.input.balanced or None,
            images_of_rule(
                snakemake.input, Path(snakemake.output.model).parents[3], snakemake.params.settings, snakemake.threads
            ),
            snakemake.input.real,
            snakemake.params.train_split,
            snakemake.params.settings,
            int(snakemake.wildcards.seed),
            snakemake.output,
            snakemake.resources.gpu_share,
        )
