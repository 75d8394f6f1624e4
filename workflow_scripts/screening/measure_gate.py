"""Decide how much of each fill every class gets, by how often the screening classifier recognises its images."""

import pyarrow as pa

from synaug.manifests import read_manifest, read_table, to_frame, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.gate import measure_gate
from synaug.screening.planned import Planned

PLAN_COLUMNS = ["label", "label_name", "fill", "image_id", "shard"]
SCORE_COLUMNS = ["image_id", "classifier_confidence", "classifier_prediction"]


def main(plan: str, scored: list[str], real: str, validation_split: str, gate: str) -> None:
    """Measure the gate of the images of `plan` (of the pilot, or of the whole plan) into the manifest `gate`.

    scored: the manifests `shard_scores` of all shards of `plan`, scores/<shard>.parquet. real: the manifest
    `real_scores`.
    """
    planned = Planned(read_table("plan", plan, PLAN_COLUMNS))
    rows = (
        to_frame(planned.rows.select(PLAN_COLUMNS[:3]).take(pa.array(positions))).join(to_frame(table))
        for _, table, positions in planned.in_files(scored, SCORE_COLUMNS)
    )
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
