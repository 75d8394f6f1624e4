"""List the shards that no plan names, then delete them."""

import shutil
import sys
from pathlib import Path

from synaug.errors import job_log
from synaug.generation.shards import orphans


def main(results: str) -> None:
    """Print and delete the orphans below the folder `results`, and print how much they held."""
    freed = 0
    found = orphans(Path(results))
    for path in found:
        freed += sum(file.stat().st_size for file in [path, *path.rglob("*")])
        print(path, file=sys.__stdout__)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    print(f"deleted {len(found)} orphans, {freed / 1e6:.1f} MB", file=sys.__stdout__)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main("results")
