"""Make images of every cell beside the shards: the first ones, to look at, or ones that nothing is trained on.

Images that exist are copied, and those made here need not be made again.
"""

from pathlib import Path

from synaug.evaluation.probe_images import unseen_rows
from synaug.generation.extra import generate_extra_images
from synaug.manifests import read_manifest
from synaug.plan.preview import preview_rows
from synaug.plan.rows import read_sources
from synaug.runtime.logs import job_log


def main(
    imbalance: str,
    real: str | None,
    settings: dict,
    unseen: int | None,
    out: str,
    batch_size: int,
    compile: bool,
    threads: int,
) -> None:
    """Write the images as the manifest `shard` to `out`, a file in results/<experiment>/.

    real: the manifest of this name, for image-to-image. settings: see rules/generation.smk. unseen: images of every
    cell that the plan does not have; None: the first ones of a preview. What it cost goes to <out>.json beside it.
    """
    sources = read_sources(real, settings["train_split"]) if real else None
    cells = read_manifest("imbalance", imbalance)
    rows = preview_rows(cells, settings, sources) if unseen is None else unseen_rows(cells, settings, unseen, sources)
    generate_extra_images(rows, Path(out), real=real, batch_size=batch_size, compile=compile, threads=threads)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.imbalance,
            snakemake.input.get("real"),
            snakemake.params.settings,
            snakemake.params.get("unseen"),
            snakemake.output.images,
            snakemake.resources.batch_size,
            bool(snakemake.resources.compile),
            snakemake.threads,
        )
