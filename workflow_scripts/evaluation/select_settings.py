"""Choose the settings of every method by what the validation images say."""

from pathlib import Path

import pandas as pd

from synaug.evaluation.selection import select_settings, validation_figures
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log


def main(predictions: list[str], real: str, split: str, recipes: list[str], out: str) -> None:
    """Choose by `predictions` (files .../<stage>/<recipe>/<seed>/predictions.parquet): the manifest `selection`.

    real: the manifest of this name. split: name of the validation split. recipes: in the order of the config.
    """
    groups = read_manifest("real", real, ["image_id", "group"]).set_index("image_id")["group"].astype(str)
    table = []
    for path in predictions:
        *_, stage, recipe, seed, _ = Path(path).parts
        rows = read_manifest("predictions", path, ["image_id", "split", "label", "predicted"])
        rows = rows[rows["split"] == split]
        for criterion, value in validation_figures(rows, groups.loc[rows["image_id"]]).items():
            table.append((recipe, stage, int(seed), criterion, value))
    figures = pd.DataFrame(table, columns=["recipe", "stage", "seed", "criterion", "value"])
    write_manifest("selection", select_settings(figures, recipes), out)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.input.real,
            snakemake.params.split,
            snakemake.params.recipes,
            snakemake.output.selection,
        )
