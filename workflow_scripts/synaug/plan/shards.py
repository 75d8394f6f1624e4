"""Shards: their names, how planned images are packed into them, and the files that hold finished images."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from synaug.manifests import read_table
from synaug.runtime.files import text_hash


def shard_name(image_ids: list[str]) -> str:
    """Name of the shard that holds these images: the hash of their ids, in any order."""
    return text_hash(sorted(image_ids))[:16]


def files_with_images(experiments: Iterable[Path]) -> list[Path]:
    """Sorted paths of the finished files with synthetic images: shards, preview and probe images.

    experiments: folders results/<experiment>; other files and folders among them hold none. unseen.parquet is the name
    of probe_images.parquet in version 0.1.
    """
    names = ("shards/*.parquet", "preview.parquet", "probe_images.parquet", "unseen.parquet")
    return sorted(file for experiment in experiments for name in names for file in experiment.glob(name))


@lru_cache
def shard_names(plan: str, changed_ns: int) -> list[str]:
    """Names of all shards of the manifest at `plan`, sorted. changed_ns: its modification time, for the cache."""
    return sorted(read_table("plan", plan, ["shard"]).column("shard").unique().to_pylist())


def shared_shards(remainders: np.ndarray, per_shard: int) -> np.ndarray:
    """Which of the shared shards holds the remainder of each cell: int, one number per cell, not decreasing.

    remainders: images per cell that do not fill a shard of their own, each less than `per_shard`. The cells are cut
    into equal runs of neighbours, one shared shard per run. Their number is the smallest power of two at which no run
    has more than `per_shard` images: a power of two changes rarely when cells grow. The run depends on the position of
    a cell only, not on a running sum, so a cell that grows does not move the others.
    """
    cells, runs = len(remainders), 1
    while True:
        run_of_cell = np.arange(cells) * min(runs, cells) // cells
        if runs >= cells or np.bincount(run_of_cell, remainders).max() <= per_shard:
            return run_of_cell
        runs *= 2
