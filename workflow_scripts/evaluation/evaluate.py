"""Score the predictions of every network, and take the differences to a baseline."""

from pathlib import Path

import pandas as pd

from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import score, with_intervals
from synaug.evaluation.differences import compare
from synaug.evaluation.groupings import find_groupings
from synaug.imbalance import class_rows
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError
from synaug.runtime.logs import job_log


def main(
    predictions: list[str],
    imbalance: str,
    real: str,
    test_split: str,
    group_columns: list[str],
    probes: list[str],
    baselines: list[str],
    stage1: dict[str, str],
    metrics: str,
    differences: str,
) -> None:
    """Score `predictions` (files .../<stage>/<recipe>/<seed>/predictions.parquet): manifests `metrics`, `differences`.

    Only images of `test_split` count. real: the manifest of this name, whose groups count if the data set has
    `group_columns`. probes: manifests `metrics` with more figures. baselines: recipes to compare with. stage1: recipe
    -> the one whose stage-1 networks it takes.
    Raises UserError if they are not of the same test images.
    """
    cells = read_manifest("imbalance", imbalance)
    classes = class_rows(cells)
    shots = dict(zip(classes["label"].astype(int), classes["shot"], strict=True))
    images = read_test(predictions[0], test_split)[["image_id", "label"]]
    groupings = find_groupings(images, read_manifest("real", real), cells, group_columns) if group_columns else []
    counts = resample(groupings[-1].cells if groupings else images["label"].to_numpy())
    tables, networks = [], {}
    for path in predictions:
        *_, stage, recipe, seed, _ = Path(path).parts
        rows = read_test(path, test_split)
        if not rows[["image_id", "label"]].equals(images):
            raise UserError(f"{path}: other test images than in {predictions[0]}; delete both and run again")
        scores = pd.concat([score(rows, shots, counts), *(one.score(rows, counts) for one in groupings)])
        networks.setdefault((recipe, stage), {})[int(seed)] = scores
        tables.append(with_intervals(scores).assign(stage=stage, recipe=recipe, seed=int(seed)))
    tables += [read_manifest("metrics", path) for path in probes]
    write_manifest("metrics", pd.concat(tables, ignore_index=True), metrics)
    write_manifest("differences", compare(networks, baselines, stage1), differences)


def read_test(predictions: str, test_split: str) -> pd.DataFrame:
    """The rows of the manifest `predictions` that are of the test split."""
    rows = read_manifest("predictions", predictions)
    return rows[rows["split"] == test_split].reset_index(drop=True)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.input.imbalance,
            snakemake.input.real,
            snakemake.params.test_split,
            snakemake.params.group_columns,
            list(snakemake.input.probes),
            snakemake.params.baselines,
            snakemake.params.stage1,
            snakemake.output.metrics,
            snakemake.output.differences,
        )
