"""Make images of every cell beside the shards: the first ones, to look at, or ones that nothing is trained on.

Images that exist are copied, and those made here need not be made again.
"""

from pathlib import Path

from synaug.evaluation.probe_images import probe_image_rows
from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages
from synaug.manifests import read_manifest
from synaug.plan.estimate import stored_files
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
    out = Path(out)
    sources = read_sources(real, settings["train_split"]) if real else None
    cells = read_manifest("imbalance", imbalance)
    rows = preview_rows(cells, settings, sources) if unseen is None else probe_image_rows(cells, settings, unseen, sources)
    generate_shard(
        rows,
        batch_size,
        out,
        out.parent / "work" / out.stem,
        [path for path in stored_files(out.parents[1]) if path != out],
        threads,
        compile=compile,
        sources=RealImages(real, rows["source_image"], int(rows["size"].iloc[0])) if real else None,
        cost_file=out.with_suffix(".json"),
    )


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
