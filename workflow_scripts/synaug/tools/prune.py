"""Shards that no plan names any more: which they are, what they hold, and how they go."""

import shutil
from pathlib import Path

from synaug.manifests import read_table


def orphans(results: Path) -> list[Path]:
    """Shards below `results` that no plan names, their work folders and what is noted of their cost.

    An experiment without a plan keeps its shards: they may be all that is left of it.
    """
    found = []
    for plan in sorted(results.glob("*/plan.parquet")):
        named = set(read_table("plan", plan, ["shard"]).column("shard").unique().to_pylist())
        for pattern in ("shards/*.parquet", "work/*", "costs/*.json"):
            found += [path for path in sorted(plan.parent.glob(pattern)) if path.stem not in named]
    return found


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def delete(paths: list[Path]) -> None:
    """Delete files and folders."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
