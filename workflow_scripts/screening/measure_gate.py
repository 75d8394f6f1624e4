"""Decide how much of each fill every class gets, by how often the screening classifier recognises its images."""

import pandas as pd

from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.gate import measure_gate

PLAN_COLUMNS = ["image_id", "label", "label_name", "fill"]
SCORE_COLUMNS = ["image_id", "classifier_confidence", "classifier_prediction"]


def main(plan: str, scored: list[str], real: str, validation_split: str, gate: str) -> None:
    """Measure the gate of the images of `plan` (of the pilot, or of the whole plan) into the manifest `gate`.

    scored: the manifests `shard_scores` of all shards of `plan`. real: the manifest `real_scores`.
    """
    rows = read_manifest("plan", plan, PLAN_COLUMNS)
    scores = [read_manifest("shard_scores", path, SCORE_COLUMNS) for path in scored]
    if scores:
        rows = rows.merge(pd.concat(scores), on="image_id", how="left")
    else:  # no class lacks images
        rows = rows.assign(classifier_confidence=None, classifier_prediction=None)
    real_rows = read_manifest("real_scores", real, ["split", "label_name", *SCORE_COLUMNS[1:]])
    write_manifest("gate", measure_gate(rows, real_rows, validation_split), gate)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            list(snakemake.input.scores),
            snakemake.input.real,
            snakemake.params.validation_split,
            snakemake.output.gate,
        )
