"""Say of every synthetic image whether it may be trained on."""

from pathlib import Path

from synaug.config import Screening
from synaug.errors import job_log
from synaug.manifests import read_manifest, write_manifest
from synaug.screening import screen_synthetic


def main(plan: str, shards: list[str], screening: dict, synthetic: str) -> None:
    """Screen the images of `plan` in `shards` into the manifest `synthetic`."""
    rows = read_manifest("plan", plan, ["image_id", "label", "label_name", "stored_size", "shard"])
    paths = {Path(path).stem: path for path in shards}
    write_manifest("synthetic", screen_synthetic(rows, paths, Screening.model_validate(screening)), synthetic)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            list(snakemake.input.shards),
            snakemake.params.screening,
            snakemake.output.synthetic,
        )
