"""The error message when a file cannot be written because there is no space."""

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from synaug.runtime.errors import UserError

_NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than the system's limit",
}


@contextmanager
def space_for(path: str | os.PathLike, needed: int) -> Generator[None]:
    """Context manager to write a file of about `needed` bytes at `path`. Raises UserError if there is no space for it.

    Other errors pass unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        folder = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
        raise UserError(
            f"{path}: cannot be written, {_NO_SPACE[error.errno]}: about {_megabytes(needed)} are needed, "
            f"{_megabytes(shutil.disk_usage(folder).free)} are free; make room and run the workflow again, what is "
            "finished is kept"
        ) from error


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
