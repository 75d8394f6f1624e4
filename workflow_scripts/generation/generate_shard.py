"""Make the images of one shard: copy those that exist anywhere in results/, sample the others."""

from pathlib import Path
from typing import Literal

from synaug.generation.existing import FilesWith
from synaug.generation.kept_batches import KeptBatches
from synaug.generation.locks import shard_lock
from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages
from synaug.plan.compiling import COMPILE_SETTINGS
from synaug.plan.shards import rows_of_shard
from synaug.runtime.logs import job_log


def main(
    plan: str,
    real: str | None,
    out: str,
    batch_size: int,
    compile: bool | Literal["auto"],
    threads: int,
    attention: str = "",
    keep_batches_in: str = "",
) -> None:
    """Generate the shard `out` (<results>/shards/<shard>.parquet) of the manifest `plan`.

    real: the manifest of this name, for image-to-image. keep_batches_in: see the config; empty: nowhere. What it cost
    goes to <results>/costs/<shard>.json, which no rule depends on.
    """
    out = Path(out)
    experiment, results = out.parents[1], out.parents[2]
    rows = rows_of_shard(plan, out.stem)
    work = experiment / "work" / out.stem
    kept = KeptBatches(keep_batches_in, out.stem, work) if keep_batches_in else None
    with shard_lock(results, out.stem):
        generate_shard(
            rows,
            batch_size,
            out,
            work,
            # Looked up inside the lock: what another run made while this one waited is there.
            FilesWith(rows["image_id"], results),
            threads,
            compile=compile,
            attention=attention,
            plan=Path(plan),
            sources=RealImages(real, rows["source_image"], int(rows["size"].iloc[0])) if real else None,
            cost_file=experiment / "costs" / f"{out.stem}.json",
            kept=kept,
        )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.plan,
            snakemake.input.get("real"),
            snakemake.output.shard,
            snakemake.resources.batch_size,
            COMPILE_SETTINGS[snakemake.resources.compile],
            snakemake.threads,
            snakemake.resources.attention,
            snakemake.resources.keep_batches_in,
        )
