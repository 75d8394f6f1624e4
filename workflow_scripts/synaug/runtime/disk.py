"""What is said when a file cannot be written for want of space."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from synaug.runtime.errors import UserError

# A full disk, a used-up quota, and a limit on the size of a file.
_NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than the system's limit",
}


@contextmanager
def space_for(path: str | os.PathLike, needed: int) -> Generator[None]:
    """Write a file of about `needed` bytes at `path` inside the block: for want of space, UserError says how much.

    Other errors pass as they are. What was finished before is untouched, whoever writes atomically.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        folder = next(one for one in Path(os.path.abspath(path)).parents if one.exists())
        raise UserError(
            f"{path}: cannot be written, {_NO_SPACE[error.errno]}: about {_megabytes(needed)} are needed, "
            f"{_megabytes(shutil.disk_usage(folder).free)} are free; make room and run the workflow again, what is "
            "finished is kept"
        ) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
