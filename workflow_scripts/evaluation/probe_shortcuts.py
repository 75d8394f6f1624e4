"""Measure whether networks use group and kind (real or synthetic) of an image as a shortcut to its class."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from synaug.evaluation.shortcut import even_images, shortcut_figures
from synaug.manifests import read_manifest, read_table, read_with_local_paths, write_manifest
from synaug.networks.classifier import load_classifier
from synaug.runtime.logs import job_log


def main(models: list[str], unseen: str, real: str, balanced: str, form: dict, threads: int, out: str) -> None:
    """Probe `models` (files .../<stage>/<recipe>/<seed>/model.safetensors): rows of the manifest `metrics` in `out`.

    unseen: synthetic images that nothing was trained on, a manifest `shard`. form: image_size, color and test_split.
    """
    torch.set_num_threads(threads)
    test = read_with_local_paths("real", real)
    test = test[(test["split"] == form["test_split"]) & test["usable"]]
    positions = test.drop_duplicates("label_name").set_index("label_name")["label"]
    made = read_table("shard", unseen, ["image_id", "label_name", "group"]).to_pandas()
    made = made.assign(label=made["label_name"].map(positions), path=unseen, row=np.arange(len(made)), column="image")
    images = even_images(made[made["label"].notna()], test)
    trained = read_manifest("balanced", balanced, ["label", "group", "source"])
    trained = trained[trained["source"] == "synthetic"]
    table = []
    for path in models:
        *_, stage, recipe, seed, _ = Path(path).parts
        figures = shortcut_figures(load_classifier(path), images, trained, form["image_size"], form["color"])
        table += [(recipe, stage, int(seed), *figure) for figure in figures]
    names = ["recipe", "stage", "seed", "metric", "subset", "weighting", "value", "low", "high"]
    write_manifest("metrics", pd.DataFrame(table, columns=names), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.models),
            snakemake.input.unseen,
            snakemake.input.real,
            snakemake.input.balanced,
            snakemake.params.form,
            snakemake.threads,
            snakemake.output.probes,
        )
