"""Measure whether networks use the group and source (real or synthetic) of an image as a shortcut to its class."""

from pathlib import Path

import pandas as pd
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Fill
from synaug.evaluation.probe_images import read_probe_images
from synaug.evaluation.shortcut import balanced_probe_images, shortcut_metrics
from synaug.manifests import read_manifest, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import ImageSource, images_of_experiment


def main(
    models: list[str],
    networks: list[tuple[str, str, int]],
    probe_images: str,
    real: str,
    balanced: str,
    images: ImageSource,
    test_split: str,
    recipes: dict[str, dict],
    threads: int,
    out: str,
) -> None:
    """Probe `models` and write rows of the manifest `metrics` to `out`.

    models: files model.safetensors. networks: stage, recipe and seed of each of them. probe_images: synthetic images
    that no network is trained on, a manifest `shard`. images: where images are read. recipes: their keys `data` and
    `fill`. Networks without synthetic images are measured by all of `balanced`, to compare with.
    """
    torch.set_num_threads(threads)
    test = read_with_local_paths("real", real)
    test = test[(test["split"] == test_split) & test["usable"]]
    rows = balanced_probe_images(read_probe_images(probe_images, test), test)
    columns = ["image_id", "index", "label", "label_name", "group", "source", "fill"]
    rows_of_all = read_manifest("balanced", balanced, columns)
    trained = {}
    for recipe, keys in recipes.items():
        fill = Fill.model_validate(keys["fill"]) if keys["fill"] else None
        used = rows_of_recipe(rows_of_all, "balanced", fill if keys["data"] == "balanced" else None)
        trained[recipe] = used[used["source"] == "synthetic"]
    table = []
    with leased_device() as device:
        for path, (stage, recipe, seed) in zip(models, networks, strict=True):
            model = load_classifier(path).to(device)
            metrics = shortcut_metrics(model, rows, trained[recipe], images.iterate(rows))
            table += [(recipe, stage, seed, *row) for row in metrics]
    names = ["recipe", "stage", "seed", "metric", "subset", "weighting", "value", "low", "high"]
    write_manifest("metrics", pd.DataFrame(table, columns=names), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        results, form = Path(snakemake.output.probes).parent, snakemake.params.form
        main(
            list(snakemake.input.models),
            snakemake.params.networks,
            snakemake.input.probe_images,
            snakemake.input.real,
            snakemake.input.balanced,
            images_of_experiment(results, form["image_size"], form["color"]),
            form["test_split"],
            snakemake.params.recipes,
            snakemake.threads,
            snakemake.output.probes,
        )
