"""A lock per shard: a second run that wants the same images waits, then copies what the first run made.

Snakemake keeps two runs from writing the same file, but two experiments may want the same images in different files.
"""

import fcntl
import logging
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from synaug.runtime.files import open_lock_file

log = logging.getLogger(__name__)


@contextmanager
def shard_lock(results: Path, shard: str) -> Generator[None]:
    """Inside the block no other process with the same folder `results` is inside it for the same `shard`.

    The kernel holds the lock for as long as the process lives, so a killed job releases it. If the file cannot be
    locked (some network file systems have no locks), a warning is logged and two runs may make the same images, each in
    its own file: wasted work, but no wrong result.
    """
    path = results / ".locks" / shard
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _acquire(path, shard)
    except OSError as error:
        log.warning("%s cannot be locked (%s): another run may make the same images", path, error.strerror)
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.close()


def is_locked(results: Path, shard: str) -> bool:
    """Whether a process is in the block of `shard_lock`. False if the file system has no locks."""
    return is_file_locked(results / ".locks" / shard)


def is_file_locked(path: Path) -> bool:
    """Whether a process holds a lock of the file at `path`. False if there is no such file, or no locks."""
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _acquire(path: Path, shard: str) -> TextIO:
    """The locked file at `path`; waits until no other process holds its lock."""
    while True:
        with ExitStack() as closed_unless_kept:
            lock = closed_unless_kept.enter_context(open_lock_file(path))
            _flock(lock, shard)
            # The process that held the lock before has deleted the file, and a third one may hold a new file.
            if _is_file_at(path, lock):
                closed_unless_kept.pop_all()
                return lock


def _flock(lock: TextIO, shard: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another run makes shard %s: waiting for it", shard)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_file_at(path: Path, lock: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
