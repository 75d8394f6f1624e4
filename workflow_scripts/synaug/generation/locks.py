"""No two runs make the same shard at the same time: the second waits, and copies what the first one made.

Snakemake keeps two runs off the same file, but the same images may be wanted for two experiments, which are two files.
"""

import fcntl
import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(results: Path, shard: str) -> Generator[None]:
    """Inside the block no other process that shares the folder `results` is in it for this `shard`.

    The lock is held by the kernel for as long as the process lives, so a killed job leaves none. On a file system
    without locks two runs may make the same images, each its own files: the second for nothing, neither wrongly.
    """
    path = results / ".locks" / shard
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("w") as lock:
            try:
                _take(lock, shard)
            except OSError as error:
                log.warning("%s cannot be locked (%s): another run may make the same images", path, error.strerror)
                yield
                return
            # Whoever held it before has deleted it, and a third one may hold a new file of this name.
            if _is_still(path, lock):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _take(lock, shard: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another run makes shard %s just now: waiting for it", shard)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(path: Path, lock) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
