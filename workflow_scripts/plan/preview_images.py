"""Generate the first images of every class (or class in a group), to look at before the rest is paid for."""

from pathlib import Path
from typing import Literal

from synaug.generation.extra import generate_extra_images
from synaug.manifests import read_manifest
from synaug.plan.compiling import COMPILE_SETTINGS
from synaug.plan.preview import preview_rows
from synaug.plan.rows import read_sources
from synaug.runtime.logs import job_log


def main(
    imbalance: str,
    real: str | None,
    settings: dict,
    images: str,
    batch_size: int,
    compile: bool | Literal["auto"],
    threads: int,
    attention: str = "",
) -> None:
    """Write the images as the manifest `shard` to `images`, a file in results/<experiment>/.

    real: the manifest of this name, for image-to-image. settings: of one fill, see rules/plan.smk.
    """
    sources = read_sources(real, settings["train_split"]) if real else None
    rows = preview_rows(read_manifest("imbalance", imbalance), settings, sources)
    generate_extra_images(rows, real, Path(images), batch_size, compile, threads, attention)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.output.images,
            snakemake.resources.batch_size,
            COMPILE_SETTINGS[snakemake.resources.compile],
            snakemake.threads,
            snakemake.resources.attention,
        )
