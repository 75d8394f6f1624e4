"""Plan every synthetic image: class, prompt, seed, and the shard that will hold it."""

import logging

from synaug.config import Balance, Generation, Prompts
from synaug.errors import job_log
from synaug.manifests import read_manifest, write_manifest
from synaug.models import adapters_text, model_version
from synaug.plan import plan_generation


def main(imbalance: str, real: str | None, settings: dict, plan: str) -> None:
    """Plan from the manifest `imbalance` into the manifest `plan`.

    real: the manifest of this name, for image-to-image. settings: see rules/generation.smk.
    """
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
        adapters=adapters_text(generation.adapters),
        sources=_sources(real, settings["train_split"]) if real else None,
    )
    logging.info("%d images in %d shards", len(rows), rows["shard"].nunique())
    write_manifest("plan", rows, plan)


def _sources(real: str, train_split: str):
    rows = read_manifest("real", real, ["image_id", "split", "label_name", "usable"])
    return rows[(rows["split"] == train_split) & rows["usable"]]


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.output.plan,
        )
