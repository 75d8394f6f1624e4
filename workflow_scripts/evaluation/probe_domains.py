"""Measure how well real and synthetic training images can be told apart by the features of every network."""

from pathlib import Path

import pandas as pd
import torch

from synaug.evaluation.domain_probe import domain_probe, paired_images
from synaug.manifests import read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.logs import job_log


def main(models: list[str], balanced: str, form: dict, threads: int, out: str) -> None:
    """Probe `models` (files .../train/<recipe>/<seed>/model.safetensors): rows of the manifest `metrics` in `out`.

    form: image_size and color.
    """
    torch.set_num_threads(threads)
    rows = paired_images(read_with_local_paths("balanced", balanced))
    table = []
    for path in models:
        *_, stage, recipe, seed, _ = Path(path).parts
        value, low, high = domain_probe(load_classifier(path), rows, form["image_size"], form["color"])
        table.append((recipe, stage, int(seed), "domain_probe", "all", "domains", value, low, high))
    names = ["recipe", "stage", "seed", "metric", "subset", "weighting", "value", "low", "high"]
    write_manifest("metrics", pd.DataFrame(table, columns=names), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.models),
            snakemake.input.balanced,
            snakemake.params.form,
            snakemake.threads,
            snakemake.output.probes,
        )
