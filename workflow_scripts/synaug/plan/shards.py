"""How planned images are packed into shards."""

from functools import lru_cache

import numpy as np

from synaug.manifests import read_table
from synaug.runtime.files import text_hash


def shard_name(image_ids: list[str]) -> str:
    """Name of the shard that holds these images: the hash of their ids, in any order."""
    return text_hash(sorted(image_ids))[:16]


@lru_cache
def shard_names(plan: str, changed_ns: int) -> list[str]:
    """Names of all shards of the manifest at `plan`, sorted. changed_ns: time of its last change, for the cache."""
    return sorted(read_table("plan", plan, ["shard"]).column("shard").unique().to_pylist())


def _tail_slots(tails: np.ndarray, per_shard: int) -> np.ndarray:
    """Which of the shared shards holds what class c has beyond whole blocks: int, one per class, rising.

    tails: images beyond whole blocks, per class, each less than `per_shard`. The classes are cut into equal runs, as
    few as a power of two that leaves no run with more than `per_shard` images. A power of two, so that the number
    stays when classes grow a little; and the position of a class, not a running sum, decides its run, so that a class
    that grows leaves the others alone.
    """
    classes, runs = len(tails), 1
    while True:
        slots = np.arange(classes) * min(runs, classes) // classes
        if runs >= classes or np.bincount(slots, tails).max() <= per_shard:
            return slots
        runs *= 2
