"""Shards: their names, how planned images are packed into them, and the files that hold finished images."""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.manifests import count_rows, stream_table, to_frame
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.files import text_hash

# Files of an experiment with synthetic images that are no shards, as patterns: with fills, each has its own preview.
EXTRA_FILES = ("preview*.parquet", "probe_images.parquet")
# Images that fill at most this number of shards are not cut into blocks.
_FEW_SHARDS = 8


def shard_name(image_ids: list[str]) -> str:
    """Name of the shard that holds these images: the hash of their ids, in any order."""
    return text_hash(sorted(image_ids))[:16]


def files_with_images(experiments: Iterable[Path]) -> list[Path]:
    """Sorted paths of the finished files with synthetic images: shards, preview and probe images.

    experiments: folders results/<experiment>; other files and folders among them hold none.
    """
    names = ("shards/*.parquet", *EXTRA_FILES)
    return sorted(file for experiment in experiments for name in names for file in experiment.glob(name))


@lru_cache
def fills_of_shards(plan: str, changed_ns: int) -> dict[str, str]:
    """Name of each shard of the manifest at `plan`, sorted -> its fill.

    changed_ns: its modification time, for the cache.
    """
    shards = count_rows("plan", plan, ["shard", "fill"])
    return dict(sorted(zip(shards["shard"], shards["fill"], strict=True)))


def planned_shards(experiment: Path) -> set[str]:
    """Names of the shards in the plans of `experiment`, the pilot's too. Raises UserError for an unreadable plan."""
    plans = [experiment / f"{name}.parquet" for name in ("plan", "pilot")]
    return {shard for plan in plans if plan.exists() for shard in count_rows("plan", plan, ["shard"])["shard"]}


def rows_of_shard(plan: str | os.PathLike, shard: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The rows of the manifest at `plan` that `shard` holds: all columns, or `columns`."""
    wanted = columns or SCHEMAS["plan"].names
    parts = list(stream_table("plan", plan, wanted, only=("shard", shard)))
    return to_frame(pa.concat_tables(parts) if parts else SCHEMAS["plan"].empty_table().select(wanted))


def runs_of_shards(counts: np.ndarray, phases: np.ndarray, per_shard: int) -> tuple[np.ndarray, np.ndarray]:
    """Which shard holds each image, as runs of images that follow each other: shard and number of images, int.

    The runs are in the order of the images, cell by cell. Shards are numbered from 0.
    counts: images of each cell. phases: of each cell, a number that falls by as much as its count rises if all cells
    grow together (a cell's real images). per_shard: the largest size of a shard.

    Each full block of a cell, images k * per_shard to (k + 1) * per_shard - 1, is a shard of its own. What is left of
    the cells shares shards: as it is, if that takes few shards. Otherwise it is cut into blocks of about a fifth of
    `per_shard`, what is left of these into blocks of a fifth of that, and so on. Smaller blocks become a larger one
    when a cell grows over a multiple of the larger size, and cells with the same phase do so together. Therefore the
    cells whose phases are neighbours form a group that shares shards with nobody else: one more image in every cell
    changes one group of every size of block.
    """
    block, rest = per_shard, counts % per_shard
    images, groups = [counts - rest], [np.arange(len(counts))]  # per size of block: of each cell
    while (run := _shared_by_position(rest, per_shard)).max(initial=0) >= _FEW_SHARDS and block > 1:
        block = _smaller_block(block)
        images.append(rest - rest % block)
        groups.append(_groups(images[-1], phases % block, block, per_shard) + groups[-1].max() + 1)
        rest = rest % block
    images.append(rest)
    groups.append(run + groups[-1].max(initial=-1) + 1)
    images, groups = np.stack(images), np.stack(groups)
    # In a group the images lie one after the other, ordered by cell. Every `per_shard` of them are a shard, but the
    # last two shards are equally large: a job for a handful of images would load a model for them.
    order = np.argsort(groups, axis=None, kind="stable")
    in_order = images.ravel()[order]
    of_group = np.bincount(groups.ravel(), images.ravel()).astype(int)
    start = np.empty(images.size, int)
    start[order] = np.cumsum(in_order) - in_order
    start = start.reshape(images.shape) - (np.cumsum(of_group) - of_group)[groups]
    shards = -(-of_group // per_shard)
    last = np.maximum(0, shards - 1)  # the last shard of a group, and where it begins
    before_last = np.maximum(0, shards - 2) * per_shard
    begin_of_last = np.where(shards > 1, before_last + -(-(of_group - before_last) // 2), 0)
    # From here on per block, in the order of the plan: all blocks of the first cell, then of the second.
    images, groups, start = (array.T.ravel() for array in (images, groups, start))
    images, groups, start = (array[images > 0] for array in (images, groups, start))
    end = start + images

    def shard_at(place: np.ndarray) -> np.ndarray:
        return np.where(place >= begin_of_last[groups], last[groups], place // per_shard)

    # A block is a run for each shard that it lies in.
    first, runs = shard_at(start), shard_at(end - 1) - shard_at(start) + 1
    block = np.repeat(np.arange(len(images)), runs)
    groups, start, end = groups[block], start[block], end[block]
    shard = first[block] + np.arange(len(block)) - np.repeat(np.cumsum(runs) - runs, runs)

    def begin_of(number: np.ndarray) -> np.ndarray:
        return np.where(number == last[groups], begin_of_last[groups], number * per_shard)

    end = np.where(shard == last[groups], end, np.minimum(end, begin_of(shard + 1)))
    length = end - np.maximum(start, begin_of(shard))
    return shard + (np.cumsum(shards) - shards)[groups], length


def _shared_by_position(rests: np.ndarray, per_shard: int) -> np.ndarray:
    """Which of the shared shards holds the images that are left of each cell: int, one number per cell, not decreasing.

    rests: images of each cell, less than `per_shard` each. The cells are cut into equal runs of neighbours, one shared
    shard per run. Their number is the smallest power of two at which no run has more than `per_shard` images: a power
    of two changes rarely when cells grow. The run depends on the position of a cell only, not on a running sum, so a
    cell that grows does not move the others.
    """
    cells, runs = len(rests), 1
    while True:
        run_of_cell = np.arange(cells) * min(runs, cells) // cells
        if runs >= cells or np.bincount(run_of_cell, rests).max() <= per_shard:
            return run_of_cell
        runs *= 2


def _smaller_block(block: int) -> int:
    """About a fifth of `block`; if possible a divisor of it, so that all sizes of blocks fill up together."""
    divisors = [size for size in range(max(1, block // 8), block // 4 + 1) if block % size == 0]
    return divisors[-1] if divisors else max(1, block // 5)


def _groups(images: np.ndarray, phases: np.ndarray, block: int, per_shard: int) -> np.ndarray:
    """The group of each cell, from 0 on: cells with neighbouring phases, and of these, if there are many, neighbours.

    images: of each cell, in blocks of the size `block`. phases: less than `block`. A group fills about four to eight
    shards: with more, a cell that changes would move more images; with fewer, the last shards of the groups, which are
    not full, would be too many. All bounds are powers of two, which a few images more seldom change.
    """
    width = 1  # phases in a group
    while width < block and images.sum() * width < _FEW_SHARDS / 2 * per_shard * block:
        width *= 2
    phases = phases // width
    parts = np.bincount(phases, images) / (_FEW_SHARDS * per_shard)
    parts = 2 ** np.ceil(np.log2(np.maximum(1, parts))).astype(int)
    part = np.arange(len(images)) * parts[phases] // len(images)
    return np.unique(np.stack([phases, part]), axis=1, return_inverse=True)[1].ravel()
