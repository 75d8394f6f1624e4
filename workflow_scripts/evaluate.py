"""Score the predictions of every network, and take the differences to a baseline."""

from pathlib import Path

import pandas as pd

from synaug.errors import UserError, job_log
from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import score, with_intervals
from synaug.evaluation.differences import compare
from synaug.evaluation.groupings import find_groupings
from synaug.imbalance import class_rows
from synaug.manifests import read_manifest, write_manifest


def main(
    predictions: list[str],
    imbalance: str,
    real: str,
    group_columns: list[str],
    probes: str | None,
    baselines: list[str],
    stage1: dict[str, str],
    metrics: str,
    differences: str,
) -> None:
    """Score `predictions` (files .../<stage>/<recipe>/<seed>/predictions.parquet): manifests `metrics`, `differences`.

    real: the manifest of this name, whose groups count if the data set has `group_columns`. probes: a manifest
    `metrics` with more figures, or None. baselines: recipes to compare with. stage1: recipe -> the one whose stage-1
    networks it takes.
    Raises UserError if they are not of the same test images.
    """
    cells = read_manifest("imbalance", imbalance)
    classes = class_rows(cells)
    shots = dict(zip(classes["label"].astype(int), classes["shot"], strict=True))
    images = read_manifest("predictions", predictions[0], ["image_id", "label"])
    groupings = find_groupings(images, read_manifest("real", real), cells, group_columns) if group_columns else []
    counts = resample(groupings[-1].cells if groupings else images["label"].to_numpy())
    tables, networks = [], {}
    for path in predictions:
        *_, stage, recipe, seed, _ = Path(path).parts
        rows = read_manifest("predictions", path)
        if not rows[["image_id", "label"]].equals(images):
            raise UserError(f"{path}: other test images than in {predictions[0]}; delete both and run again")
        scores = pd.concat([score(rows, shots, counts), *(one.score(rows, counts) for one in groupings)])
        networks.setdefault((recipe, stage), {})[int(seed)] = scores
        tables.append(with_intervals(scores).assign(stage=stage, recipe=recipe, seed=int(seed)))
    if probes:
        tables.append(read_manifest("metrics", probes))
    write_manifest("metrics", pd.concat(tables, ignore_index=True), metrics)
    write_manifest("differences", compare(networks, baselines, stage1), differences)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            list(snakemake.input.predictions),
            snakemake.input.imbalance,
            snakemake.input.real,
            snakemake.params.group_columns,
            snakemake.input.get("probes"),
            snakemake.params.baselines,
            snakemake.params.stage1,
            snakemake.output.metrics,
            snakemake.output.differences,
        )
