"""Shards: their names, how planned images are packed into them, and the files that hold finished images."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from synaug.manifests import read_table
from synaug.runtime.files import text_hash


def shard_name(image_ids: list[str]) -> str:
    """Name of the shard that holds these images: the hash of their ids, in any order."""
    return text_hash(sorted(image_ids))[:16]


@lru_cache
def shard_names(plan: str, changed_ns: int) -> list[str]:
    """Names of all shards of the manifest at `plan`, sorted. changed_ns: its modification time, for the cache."""
    return sorted(read_table("plan", plan, ["shard"]).column("shard").unique().to_pylist())


def stored_files(experiment: Path) -> list[Path]:
    """The files of the folder `experiment` that hold finished synthetic images: shards, preview and probe images.

    All have the schema of shards. unseen.parquet is the name that probe images had before.
    """
    names = ("shards/*", "preview", "probe_images", "unseen")
    return sorted(file for name in names for file in experiment.glob(f"{name}.parquet"))


def all_stored_files(results: Path) -> list[Path]:
    """`stored_files` of every experiment in the folder `results`."""
    return [file for experiment in sorted(results.glob("*/")) for file in stored_files(experiment)]


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
