"""Measure how well the features of every stage-1 network separate real from synthetic images."""

import pandas as pd
import torch

from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.evaluation.probe_images import read_probe_images
from synaug.manifests import read_with_local_paths, with_group, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.logs import job_log


def main(
    models: list[str],
    networks: list[tuple[str, str, int]],
    probe_images: str,
    real: str,
    form: dict,
    threads: int,
    out: str,
) -> None:
    """Probe `models` and write rows of the manifest `metrics` to `out`.

    models: files model.safetensors. networks: stage, recipe and seed of each of them. probe_images: synthetic images
    that no network is trained on, a manifest `shard`. form: image_size, color and test_split.
    """
    torch.set_num_threads(threads)
    test = with_group(read_with_local_paths("real", real))
    test = test[(test["split"] == form["test_split"]) & test["usable"]]
    synthetic = read_probe_images(probe_images, test)
    rows = paired_images(pd.concat([test.assign(source="real"), synthetic.assign(source="synthetic")]))
    table = []
    for path, (stage, recipe, seed) in zip(models, networks, strict=True):
        value, low, high = domain_probe(load_classifier(path), rows, form["image_size"], form["color"])
        table.append((recipe, stage, seed, "domain_probe", "all", "domains", value, low, high))
    names = ["recipe", "stage", "seed", "metric", "subset", "weighting", "value", "low", "high"]
    write_manifest("metrics", pd.DataFrame(table, columns=names), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.models),
            snakemake.params.networks,
            snakemake.input.probe_images,
            snakemake.input.real,
            snakemake.params.form,
            snakemake.threads,
            snakemake.output.probes,
        )
