"""Images outside the plan's shards: those of a preview, and those that networks are probed with."""

from pathlib import Path

import pandas as pd

from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages
from synaug.plan.estimate import stored_files


def generate_extra_images(
    rows: pd.DataFrame, real: str | None, out: Path, batch_size: int, compile: bool, threads: int
) -> None:
    """Make the images of `rows` (of the manifest `plan`) into `out`, a manifest `shard` in results/<experiment>/.

    Images that exist anywhere in results/ are copied, and `generate_shard` copies those made here. real: the manifest
    of this name, for image-to-image. batch_size, compile, threads: as for `generate_shard`. Time and energy go to
    <out>.json beside it.
    """
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
