"""Synthetic images outside the shards of a plan: preview images and probe images."""

from pathlib import Path
from typing import Literal

import pandas as pd

from synaug.generation.existing import FilesWith
from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages


def generate_extra_images(
    rows: pd.DataFrame,
    real: str | None,
    out: Path,
    batch_size: int,
    compile: bool | Literal["auto"],
    threads: int,
    attention: str,
) -> None:
    """Write the images of `rows` (manifest `plan`) as one file with the schema of a shard.

    Images that exist in any experiment are copied, and later shards copy the images of this file.
    real: the manifest of this name, for image-to-image. out: results/<experiment>/<name>.parquet. What sampling used is
    written to <name>.json in the same folder. batch_size, compile, threads, attention: see `generate_shard`.
    """
    generate_shard(
        rows,
        batch_size,
        out,
        out.parent / "work" / out.stem,
        FilesWith(rows["image_id"], out.parents[1]),
        threads,
        compile=compile,
        attention=attention,
        sources=RealImages(real, rows["source_image"], int(rows["size"].iloc[0])) if real else None,
        cost_file=out.with_suffix(".json"),
    )
