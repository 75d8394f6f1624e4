"""Choose the setting of every method by the validation images."""

import logging

import pandas as pd

from synaug.evaluation.selection import select_settings, validation_metrics
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log

log = logging.getLogger(__name__)


def main(
    predictions: list[str],
    networks: list[tuple[str, str, int]],
    real: str,
    split: str,
    recipes: list[str],
    trained_on_split: list[str],
    out: str,
) -> None:
    """Choose settings by `predictions` (manifests of this name) and write the manifest `selection` to `out`.

    networks: stage, recipe and seed of each of `predictions`. real: the manifest of this name. split: name of the
    validation split. recipes: in the order of the config. trained_on_split: recipes whose stage 2 is trained on
    validation images. These images say nothing about them, so they are left out.
    """
    groups = read_manifest("real", real, ["image_id", "group"]).set_index("image_id")["group"].astype(str)
    table = []
    for recipe in trained_on_split:
        log.warning("%s is not among the settings: its stage 2 is trained on the split %s", recipe, split)
    for path, (stage, recipe, seed) in zip(predictions, networks, strict=True):
        if recipe in trained_on_split:
            continue
        rows = read_manifest("predictions", path, ["image_id", "split", "label", "predicted"])
        rows = rows[rows["split"] == split]
        for criterion, value in validation_metrics(rows, groups.loc[rows["image_id"]]).items():
            table.append((recipe, stage, seed, criterion, value))
    metrics = pd.DataFrame(table, columns=["recipe", "stage", "seed", "criterion", "value"])
    write_manifest("selection", select_settings(metrics, recipes), out)


def run(snakemake) -> None:
    """Call `main` for the rule `select_settings` or `select_settings_of_replicates`: they have the same names."""
    main(
        list(snakemake.input.predictions),
        snakemake.params.networks,
        snakemake.input.real,
        snakemake.params.split,
        snakemake.params.recipes,
        snakemake.params.trained_on_split,
        snakemake.output.selection,
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
