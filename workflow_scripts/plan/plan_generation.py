"""Plan every synthetic image: class, prompt, seed, and the shard that will hold it."""

import logging

from synaug.manifests import read_manifest, write_sorted
from synaug.plan.rows import plan_batches, plan_fills, read_sources
from synaug.runtime.logs import job_log


def main(
    imbalance: str,
    real: str | None,
    settings: dict,
    plan: str,
    gate: str | None = None,
    pilot: int | None = None,
) -> None:
    """Plan from the manifest `imbalance` into the manifest `plan`.

    real: the manifest of this name, for image-to-image. settings: PLAN_SETTINGS of rules/plan.smk. gate: the manifest
    of this name, after a pilot. pilot: plan only this many images of each cell and fill, by which the gate decides.
    """
    sources = read_sources(real, settings["train_split"]) if real else None
    allowed = read_manifest("gate", gate) if gate else None
    fills = plan_fills(read_manifest("imbalance", imbalance), settings, sources, allowed, pilot)
    images, shards = sum(map(len, fills)), sum(len(fill.shard_names) for fill in fills)
    logging.info("%d images in %d shards", images, shards)
    write_sorted("plan", plan_batches(fills), images, plan)


def run(snakemake) -> None:
    """Call `main` for the rule `plan_generation` or `plan_pilot`."""
    main(
        snakemake.input.imbalance,
        snakemake.input.get("real"),
        snakemake.params.settings,
        snakemake.output.plan,
        snakemake.input.get("gate"),
        snakemake.params.get("pilot"),
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
