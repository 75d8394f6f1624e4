"""List the shards that no plan names, then delete them."""

import sys
from pathlib import Path

from synaug.errors import job_log
from synaug.tools.prune import delete, orphans, size_of


def main(results: str) -> None:
    """Print and delete the orphans below the folder `results`, and print how much they held."""
    found = orphans(Path(results))
    for path in found:
        print(path, file=sys.__stdout__)
    freed = sum(map(size_of, found))
    delete(found)
    print(f"deleted {len(found)} orphans, {freed / 1e6:.1f} MB", file=sys.__stdout__)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main("results")
