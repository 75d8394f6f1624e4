"""Train the chosen recipe again, on the training and the validation images: the networks that are used in the end."""

from pathlib import Path

import pandas as pd
import torch

from synaug.balance import rows_of_recipe, training_rows
from synaug.config import Recipe
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.allocation import use_large_pages
from synaug.runtime.devices import WHOLE_DEVICE, leased_devices
from synaug.runtime.logs import job_log
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import ImageSource, images_of_rule, open_training_set, predict_rows
from synaug.training.label_mass import last_label_mass
from synaug.training.memory import share_for
from synaug.training.parallel import run_on
from synaug.training.stage2 import finetune_stage2
from training.train import checkpoint_of, train


def main(
    stage: str,
    recipe: Recipe,
    balanced: str | None,
    images: ImageSource,
    real: str,
    splits: dict[str, str],
    seed: int,
    checkpoint: Checkpoint,
    out,
    gpu_share: int = WHOLE_DEVICE,
) -> None:
    """Train into the files `out.model`, `out.history` and `out.predictions` (of the test images).

    stage: the last stage that is used, train or finetune. balanced, real: the manifests of these names; balanced is
    None for a recipe without synthetic images. splits: names of the splits `train`, `validation` and `test`. gpu_share:
    the resource of this name.
    """
    torch.set_num_threads(1)
    use_large_pages()
    rows = read_with_local_paths("real", real)
    rows = rows[rows["usable"]]
    validation = rows[rows["split"] == splits["validation"]].assign(source="real", weight=1.0)
    together = pd.concat([training_rows(balanced, rows, splits["train"]), validation], ignore_index=True)
    trained_on = rows_of_recipe(together, recipe.data, recipe.fill)
    classes, test = class_names(rows), rows[rows["split"] == splits["test"]]
    arguments = (trained_on, images, classes, recipe.stage1, seed, checkpoint, out.model, out.history)
    with leased_devices(recipe.stage1.devices, share_for(len(trained_on), gpu_share)) as devices:
        run_on(devices, train, *arguments)
        model = load_classifier(out.model).to(devices[0], memory_format=torch.channels_last)
        if stage == "finetune":
            data = open_training_set(rows_of_recipe(together, "real"), images, devices[0])
            mass = last_label_mass(trained_on, recipe.stage1, len(classes))
            model, _ = finetune_stage2(model, data, recipe.stage2, recipe.stage1, seed, mass)
            save_classifier(model, out.model)
        write_manifest("predictions", predict_rows(model, test, images), out.predictions)
    checkpoint.delete()  # only now: after a failure, Snakemake deletes the network


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        (recipe, stage), settings = snakemake.params.chosen, snakemake.params.settings
        seed, experiment = int(snakemake.wildcards.seed), Path(snakemake.output.model).parents[2]
        devices = settings["recipe"]["stage1"]["devices"]
        decisive = (recipe, stage, settings, snakemake.params.images, snakemake.params.code)
        main(
            stage,
            Recipe.model_validate(settings["recipe"]),
            snakemake.input.balanced or None,
            images_of_rule(snakemake.input, experiment, settings, snakemake.threads, devices),
            snakemake.input.real,
            snakemake.params.splits,
            seed,
            # No recipe can have this name.
            checkpoint_of(experiment, "_final", seed, snakemake.input.pretrained, *decisive),
            snakemake.output,
            snakemake.resources.gpu_share,
        )
