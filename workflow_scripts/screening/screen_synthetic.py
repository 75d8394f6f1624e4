"""Say of every synthetic image whether it may be trained on."""

from synaug.config import Screening
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log
from synaug.screening.filters import apply_filters


def main(scores: str, screening: dict, synthetic: str) -> None:
    """Hold the manifest `scores` against the thresholds of `screening`, into the manifest `synthetic`."""
    rows = apply_filters(read_manifest("scores", scores), Screening.model_validate(screening))
    write_manifest("synthetic", rows, synthetic)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.scores, snakemake.params.screening, snakemake.output.synthetic)
