"""Score the predictions of every network."""

from pathlib import Path

import pandas as pd

from synaug.errors import job_log
from synaug.evaluation.classification import score
from synaug.manifests import read_manifest, write_manifest


def main(predictions: list[str], imbalance: str, metrics: str) -> None:
    """Score `predictions` (files .../<stage>/<recipe>/<seed>/predictions.parquet) into the manifest `metrics`."""
    cells = read_manifest("imbalance", imbalance).query("kind == 'cell'")
    shots = dict(zip(cells["label"].astype(int), cells["shot"], strict=True))
    tables = []
    for path in predictions:
        *_, stage, recipe, seed, _ = Path(path).parts
        scores = score(read_manifest("predictions", path, ["label", "label_name", "predicted"]), shots)
        tables.append(scores.assign(stage=stage, recipe=recipe, seed=int(seed)))
    write_manifest("metrics", pd.concat(tables, ignore_index=True), metrics)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(list(snakemake.input.predictions), snakemake.input.imbalance, snakemake.output.metrics)
