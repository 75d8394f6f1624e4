"""The error messages when a file cannot be written: there is no space, or the disk fails."""

import errno
import os
import re
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
def space_for(path: str | os.PathLike, needed: int | None = None) -> Generator[None]:
    """Context manager to write a file of about `needed` bytes (None: unknown) at `path`.

    Raises UserError if there is no space for it, or if the disk reports an input/output error. Other errors pass
    unchanged.
    """
    try:
        yield
    except Exception as error:
        number = _error_number(error)
        if number in _NO_SPACE:
            folder = next(parent for parent in Path(os.path.abspath(path)).parents if parent.exists())
            figures = f"{_megabytes(shutil.disk_usage(folder).free)} are free"
            if needed is not None:
                figures = f"about {_megabytes(needed)} are needed, {figures}"
            raise UserError(
                f"{path}: cannot be written, {_NO_SPACE[number]}: {figures}",
                advice="make room and run the workflow again, what is finished is kept",
            ) from error
        if number == errno.EIO:
            raise UserError(
                f"{path}: cannot be written, a disk reported an input/output error",
                advice="check the disk and run the workflow again, what is finished is kept",
            ) from error
        raise


def _error_number(error: Exception) -> int | None:
    """The number of the system's error; None if there is none."""
    if isinstance(error, OSError):
        return error.errno
    # safetensors: an error of its own, with the number in its text.
    number = re.search(r"\(os error (\d+)\)", str(error))
    return int(number[1]) if number else None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
