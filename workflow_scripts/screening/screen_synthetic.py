"""Say of every synthetic image whether it may be trained on."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from synaug.config import Screening
from synaug.manifests import row_count, stream_table, to_frame, write_sorted
from synaug.manifests.sorting import sorted_in_classes
from synaug.runtime.logs import job_log
from synaug.screening.filters import verdicts


def main(scores: str, screening: dict, synthetic: str, threads: int = 1) -> None:
    """Hold the manifest `scores` against the thresholds of `screening`, into the manifest `synthetic`."""
    count = row_count("scores", scores)
    rows = sorted_in_classes(
        "synthetic", screened(scores, Screening.model_validate(screening)), Path(synthetic), threads
    )
    write_sorted("synthetic", rows, count, synthetic)


def screened(scores: str, screening: Screening) -> Iterator[pa.Table]:
    """The rows of the manifest `synthetic`, in the order of the manifest `scores`."""
    judged = verdicts(lambda columns: map(to_frame, stream_table("scores", scores, columns)), screening)
    for rows, verdict in zip(stream_table("scores", scores), judged, strict=True):
        rows = rows.drop_columns("fault")
        for name, column in verdict.items():
            column_type = pa.string() if column.dtype == object else None
            rows = rows.append_column(str(name), pa.array(column, column_type, from_pandas=True))
        yield rows


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.scores, snakemake.params.screening, snakemake.output.synthetic, snakemake.threads)
