"""Mean and 95 % interval over seeds of every figure."""

from synaug.errors import job_log
from synaug.evaluation.intervals import summarise
from synaug.manifests import read_manifest, write_manifest


def main(metrics: str, summary: str) -> None:
    """Summarise the manifest `metrics` into the manifest `summary`."""
    write_manifest("summary", summarise(read_manifest("metrics", metrics)), summary)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.metrics, snakemake.output.summary)
