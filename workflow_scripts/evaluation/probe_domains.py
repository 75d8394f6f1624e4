"""Measure how well the features of every stage-1 network separate real from synthetic training images."""

import pandas as pd
import torch

from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.manifests import read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.logs import job_log


def main(
    models: list[str], networks: list[tuple[str, str, int]], balanced: str, form: dict, threads: int, out: str
) -> None:
    """Probe `models` and write rows of the manifest `metrics` to `out`.

    models: files model.safetensors. networks: stage, recipe and seed of each of them. form: image_size and color.
    """
    torch.set_num_threads(threads)
    rows = paired_images(read_with_local_paths("balanced", balanced))
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
            snakemake.input.balanced,
            snakemake.params.form,
            snakemake.threads,
            snakemake.output.probes,
        )
