"""Generate synthetic images that no network is trained on, to probe the networks with."""

from pathlib import Path
from typing import Literal

from synaug.evaluation.probe_images import default_images_per_cell, probe_image_rows
from synaug.generation.extra import generate_extra_images
from synaug.manifests import read_manifest
from synaug.plan.compiling import COMPILE_SETTINGS
from synaug.plan.preview import cells_with_sources
from synaug.plan.rows import read_sources
from synaug.runtime.logs import job_log


def main(
    imbalance: str,
    real: str | None,
    tested: str,
    test_split: str,
    settings: dict,
    images_per_cell: int | None,
    images: str,
    batch_size: int,
    compile: bool | Literal["auto"],
    threads: int,
    attention: str = "",
) -> None:
    """Write `images_per_cell` images of every class (in every group) as the manifest `shard` to `images`.

    images: a file in results/<experiment>/. images_per_cell: None: see `default_images_per_cell`. real: the manifest of
    this name, for image-to-image. tested: the same manifest, for the number of test images. settings: PLAN_SETTINGS of
    rules/plan.smk.

    With image-to-image, the probe images start from training images, as those of the plan do: no split for this is
    certain to have images of every class. A network that knows its training images by heart may recognise them in the
    probe images, while the real images of the probes are test images. So `domain_probe` and `pair_probe` may be too
    high, the more so the lower `generation.strength` is. Test images are no alternative: each probe image would then be
    told from the real image that it started from.
    """
    sources = read_sources(real, settings["train_split"]) if real else None
    cells = cells_with_sources(read_manifest("imbalance", imbalance), sources)
    if images_per_cell is None:
        test = read_manifest("real", tested, ["split", "usable", "label", "group"])
        images_per_cell = default_images_per_cell(cells, test[(test["split"] == test_split) & test["usable"]])
    rows = probe_image_rows(cells, settings, images_per_cell, sources)
    generate_extra_images(rows, real, Path(images), batch_size, compile, threads, attention)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.input.tested,
            snakemake.params.test_split,
            snakemake.params.settings,
            snakemake.params.images_per_cell,
            snakemake.output.images,
            snakemake.resources.batch_size,
            COMPILE_SETTINGS[snakemake.resources.compile],
            snakemake.threads,
            snakemake.resources.attention,
        )
