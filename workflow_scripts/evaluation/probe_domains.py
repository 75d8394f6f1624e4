"""Measure how well the features of every stage-1 network separate real from synthetic images."""

from pathlib import Path

import pandas as pd
import torch

from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.evaluation.probe_images import read_probe_images
from synaug.manifests import read_with_local_paths, with_group, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.devices import leased_device
from synaug.runtime.logs import job_log
from synaug.training.data import ImageSource, images_of_experiment


def main(
    models: list[str],
    networks: list[tuple[str, str, int]],
    probe_images: str,
    real: str,
    images: ImageSource,
    test_split: str,
    threads: int,
    out: str,
) -> None:
    """Probe `models` and write rows of the manifest `metrics` to `out`.

    models: files model.safetensors. networks: stage, recipe and seed of each of them. probe_images: synthetic images
    that no network is trained on, a manifest `shard`. images: where images are read.
    """
    torch.set_num_threads(threads)
    test = with_group(read_with_local_paths("real", real))
    test = test[(test["split"] == test_split) & test["usable"]]
    synthetic = read_probe_images(probe_images, test)
    rows = paired_images(pd.concat([test.assign(source="real"), synthetic.assign(source="synthetic")]))
    table = []
    with leased_device() as device:
        for path, (stage, recipe, seed) in zip(models, networks, strict=True):
            model = load_classifier(path).to(device)
            value, low, high = domain_probe(model, rows, images.iterate(rows))
            table.append((recipe, stage, seed, "domain_probe", "all", "domains", value, low, high))
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
            images_of_experiment(results, form["image_size"], form["color"]),
            form["test_split"],
            snakemake.threads,
            snakemake.output.probes,
        )
