"""Plan the first images of every class and fill, by which the gate decides whether the others are planned."""

import logging

from synaug.manifests import read_manifest, write_manifest
from synaug.plan.rows import plan_from_settings, read_sources
from synaug.runtime.logs import job_log


def main(imbalance: str, real: str | None, settings: dict, images: int, plan: str) -> None:
    """Plan from the manifest `imbalance` into `plan`, of the manifest `plan` at most `images` of each cell and fill.

    real: the manifest of this name, for image-to-image. settings: PLAN_SETTINGS of rules/plan.smk.
    """
    sources = read_sources(real, settings["train_split"]) if real else None
    rows = plan_from_settings(read_manifest("imbalance", imbalance), settings, sources, pilot=images)
    logging.info("%d images in %d shards", len(rows), rows["shard"].nunique())
    write_manifest("plan", rows, plan)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.params.images,
            snakemake.output.plan,
        )
