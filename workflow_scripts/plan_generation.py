"""Plan every synthetic image: class, prompt, seed, and the shard that will hold it."""

import logging

from synaug.config import Balance, Generation, Prompts
from synaug.errors import job_log
from synaug.manifests import read_manifest, write_manifest
from synaug.plan import model_version, plan_generation


def main(imbalance: str, settings: dict, plan: str) -> None:
    """Plan from the manifest `imbalance` into the manifest `plan`. settings: see rules/generation.smk."""
    generation = Generation.model_validate(settings["generation"])
    rows = plan_generation(
        read_manifest("imbalance", imbalance),
        balance=Balance.model_validate(settings["balance"]),
        prompts=Prompts.model_validate(settings["prompts"]),
        generation=generation,
        seed=settings["seed"],
        image_size=settings["image_size"],
        color=settings["color"],
        version=model_version(generation.model, generation.revision),
    )
    logging.info("%d images in %d shards", len(rows), rows["shard"].nunique())
    write_manifest("plan", rows, plan)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.imbalance, snakemake.params.settings, snakemake.output.plan)
