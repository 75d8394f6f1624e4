"""Stage 1: train a network on the images of a recipe, or on their features, and let it read the held-out images."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch

from synaug.balance import rows_of_recipe, training_rows
from synaug.config import Recipe, Stage1
from synaug.manifests import class_names, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier, save_classifier
from synaug.runtime.allocation import use_large_pages
from synaug.runtime.devices import WHOLE_DEVICE, leased_devices
from synaug.runtime.files import file_hash
from synaug.runtime.logs import job_log
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import ImageSource, images_of_rule, open_training_set, predict_rows
from synaug.training.memory import share_for
from synaug.training.parallel import Process, run_on
from synaug.training.stage1 import train_stage1


def checkpoint_of(experiment: Path, recipe: str, seed: int, weights: Iterable[str], *decisive) -> Checkpoint:
    """Where an interrupted training of `recipe` with `seed` continues: <experiment>/checkpoints/<recipe>-<seed>.pt.

    weights: files of pretrained weights. decisive: everything else that decides the network, as values that JSON can
    write. If one of them has changed, training begins anew.
    """
    contents = [file_hash(file) for file in weights]
    key = hashlib.sha256(json.dumps([seed, contents, *decisive], sort_keys=True).encode())
    return Checkpoint(experiment / "checkpoints" / f"{recipe}-{seed}.pt", key.hexdigest())


def main(
    balanced: str | None,
    images: ImageSource,
    real: str,
    train_split: str,
    settings: dict,
    seed: int,
    checkpoint: Checkpoint,
    out,
    gpu_share: int = WHOLE_DEVICE,
) -> None:
    """Train into the files `out.model`, `out.history` and `out.predictions`. settings: see rules/training.smk.

    balanced: None for a recipe without synthetic images. gpu_share: the resource of this name.
    """
    # Whatever the machine: another number of threads adds up in another order, and gives another network.
    torch.set_num_threads(1)
    use_large_pages()
    recipe = Recipe.model_validate(settings["recipe"])
    rows = read_with_local_paths("real", real)
    asked = rows[rows["split"].isin(settings["held_out"]) & rows["usable"]]
    trained_on = rows_of_recipe(training_rows(balanced, rows, train_split), recipe.data, recipe.fill)
    arguments = (trained_on, images, class_names(rows), recipe.stage1, seed, checkpoint, out.model, out.history)
    with leased_devices(recipe.stage1.devices, share_for(len(trained_on), gpu_share)) as devices:
        run_on(devices, train, *arguments)
        model = load_classifier(out.model).to(devices[0], memory_format=torch.channels_last)
        write_manifest("predictions", predict_rows(model, asked, images), out.predictions)
    checkpoint.delete()  # only now: after a failure, Snakemake deletes the network


def train(
    process: Process,
    rows: pd.DataFrame,
    images: ImageSource,
    classes: list[str],
    settings: Stage1,
    seed: int,
    checkpoint: Checkpoint,
    model_file: str,
    history_file: str,
) -> None:
    """Train a network as (one of the processes of) `process`, and write it and its history.

    rows: of the manifest `balanced`.
    """
    torch.set_num_threads(1)
    data = open_training_set(rows, images, process.device)
    model, history = train_stage1(data, classes, settings, seed, checkpoint, process)
    if process.rank == 0:
        write_manifest("history", history, history_file)
        save_classifier(model, model_file)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        settings, recipe, seed = snakemake.params.settings, snakemake.wildcards.recipe, int(snakemake.wildcards.seed)
        experiment = Path(snakemake.output.model).parents[3]
        decisive = (snakemake.input.pretrained, settings, snakemake.params.images, snakemake.params.code)
        devices = settings["recipe"]["stage1"]["devices"]
        main(
            snakemake.input.balanced or None,
            images_of_rule(snakemake.input, experiment, settings, snakemake.threads, devices),
            snakemake.input.real,
            snakemake.params.train_split,
            settings,
            seed,
            checkpoint_of(experiment, recipe, seed, *decisive),
            snakemake.output,
            snakemake.resources.gpu_share,
        )
