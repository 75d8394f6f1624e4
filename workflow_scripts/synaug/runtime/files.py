"""Atomic writing of files and folders, and hashes."""

import glob
import hashlib
import json
import os
import platform
import shutil
import stat
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from synaug.runtime.errors import UserError


class atomic_path:
    """Context manager: a temporary path that replaces `path` (fsync, rename) if the block succeeds."""

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, error_type, error, trace) -> None:
        if error_type is None:
            with self.temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def open_lock_file(path: str | os.PathLike) -> TextIO:
    """Open the file at `path` for `fcntl.flock`; it is created if it is missing.

    An existing file is not truncated, and a symbolic link is not followed: it raises OSError.
    """
    return open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises UserError as `check_regular_file`."""
    check_regular_file(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_regular_file(path: str | os.PathLike) -> None:
    """Raise UserError if `path` is a named pipe, a socket or a device: to open or read one may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # who opens the file reports it
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"{path}: is not a regular file", advice="replace it by a file")


def check_no_braces(path: str | os.PathLike) -> None:
    """Raise UserError if an input or output of a rule has braces in its path, which are wildcards of Snakemake."""
    if "{" in str(path) or "}" in str(path):
        raise UserError(
            f"{path}: has a brace in its name, which Snakemake takes for a wildcard",
            advice="rename it, or name a symbolic link without braces in the config",
        )


# Created once, because a plan has millions of hashes.
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def text_hash(*parts: Iterable) -> str:
    """SHA-256 (hexadecimal) of values as JSON. It depends on their order, types and number."""
    return hashlib.sha256(_compact(parts).encode()).hexdigest()


@contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Yield an empty temporary folder, which becomes `path` if the block succeeds, and is deleted if it does not.

    Temporary folders for `path` that killed processes of this machine left are deleted.
    Raises UserError if `path` exists and is not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists already and is not empty; name a new folder, or delete it")
    path = Path(os.path.abspath(path))
    start = f".{path.name}.{platform.node()}-"
    temporary = path.with_name(f"{start}{os.getpid()}.tmp")
    try:
        for leftover in path.parent.glob(f"{glob.escape(start)}*.tmp"):
            if not _is_running(leftover.name.removeprefix(start).removesuffix(".tmp")):
                shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            path.rmdir()
        temporary.rename(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error})", advice="name a folder that can be written"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_running(pid: str) -> bool:
    """Whether this machine has a process with this number; also true for a text that is no number."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError, OverflowError):
        return True
    return True
