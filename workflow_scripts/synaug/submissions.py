"""Which small jobs share a submission to a cluster, and how long a job of a submission may take at most.

Only the rules use this module: what it says decides no result.
"""

from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from synaug.config import Stage1
from synaug.plan.shards import fills_of_shards
from synaug.training.memory import needs_little_memory

# Minutes of a job beside its actual work: the start, and the reading and decoding of the images.
_START = 10
# Images of 32 pixels that a small network trains on in a minute. By its operations (0.4 GFLOP an image), a GPU of 2018
# should be five times as fast; not measured.
_IMAGES_PER_MINUTE = 60_000
# Images that are scored in a minute. Also a vision transformer should be ten times as fast on a GPU; not measured.
_SCORED_PER_MINUTE = 500
# A training that may take longer has a submission of its own: a submission that is put back into the queue, or of which
# a job failed, runs all its jobs again.
_LONGEST = 20


def short_training_minutes(settings: Stage1, image_size: int) -> int | None:
    """Minutes that are enough for a training with these settings on a GPU; None if it may take longer than 20 minutes.

    image_size: pixels. Only small networks, and the last layer on the features of a frozen network, can be that quick.
    The number of training images does not matter, only that of the steps.
    """
    if not needs_little_memory(settings, image_size):
        return None
    if settings.freeze == "backbone":
        return _START
    steps = settings.steps + (settings.jtt.steps if settings.jtt else 0)
    pixels = steps * settings.batch_size * image_size**2
    minutes = _START + -(-pixels // (_IMAGES_PER_MINUTE * 32**2))
    return minutes if minutes <= _LONGEST else None


def scoring_minutes(images_per_shard: int) -> int:
    """Minutes that are enough to score a shard."""
    return _START + -(-images_per_shard // _SCORED_PER_MINUTE)


def numbers_of_submissions(units: Iterable[Sequence[Hashable]], jobs: int) -> dict[Hashable, int]:
    """Number of the submission of each job, from 0 on, if a submission holds `jobs` jobs at most.

    units: jobs that depend on each other, first the one that the others depend on. They share a submission if they fit.
    No submission depends on a later one.
    """
    numbers, number, free = {}, 0, jobs
    for unit in units:
        if free < min(len(unit), jobs):
            number, free = number + 1, jobs
        for job in unit:
            if not free:
                number, free = number + 1, jobs
            numbers[job], free = number, free - 1
    return numbers


@lru_cache
def order_of_shards(plan: str, changed_ns: int, folder: str) -> dict[str, int]:
    """Position of each shard of the manifest at `plan`: first those that have no file in `folder`, which is beside it.

    changed_ns: the modification time of the plan, for the cache. A run keeps the positions that it has once used,
    although it makes the files.
    """
    files = Path(plan).parent / folder
    shards = sorted(fills_of_shards(plan, changed_ns), key=lambda name: (files / f"{name}.parquet").exists())
    return {shard: position for position, shard in enumerate(shards)}
