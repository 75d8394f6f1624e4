"""Make the images of one shard: copy those that exist anywhere in results/, sample the others."""

from pathlib import Path

from synaug.errors import job_log
from synaug.generation.shards import generate_shard
from synaug.manifests import read_manifest


def main(plan: str, out: str, batch_size: int, threads: int) -> None:
    """Generate the shard `out` (<results>/shards/<shard>.parquet) of the manifest `plan`."""
    out = Path(out)
    results = out.parents[2]
    rows = read_manifest("plan", plan, filters=[("shard", "==", out.stem)])
    others = sorted(path for path in results.glob("*/shards/*.parquet") if path != out)
    generate_shard(rows, batch_size, out, out.parents[1] / "work" / out.stem, others, threads)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(snakemake.input.plan, snakemake.output.shard, snakemake.resources.batch_size, snakemake.threads)
