"""Atomic writing of files and folders, and hashes."""

import fcntl
import glob
import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from synaug.runtime.disk import space_for
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)

# The leftover of another machine, whose processes cannot be seen, is one if it has not changed for so long.
_LEFTOVER_SECONDS = 24 * 3600


@contextmanager
def atomic_path(path: str | os.PathLike, size: int | None = None) -> Generator[Path]:
    """Yield a temporary path, whose file replaces `path` (fsync, rename) if the block succeeds, else it is deleted.

    All files of the workflow are written in this way, so that a file is never half written. size: about how many bytes,
    for the message of a full disk. Temporary files for `path` that killed processes left are deleted.
    Raises UserError if the disk is full or reports an error.
    """
    path = Path(path)
    temporary = _temporary_path(path)
    try:
        with space_for(path, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            delete_leftovers(path)
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # a broken disk; the first error counts
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def temporary_folder(path: Path) -> Generator[Path]:
    """Yield an empty folder with a hidden name like that of `path` beside it, which is deleted afterwards.

    Those that killed processes left are deleted first.
    """
    folder = _temporary_path(path)
    delete_leftovers(path)
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process that had the number of this one, as in containers
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cache_folder() -> Path:
    """The folder of this project in the cache of the user. It may be deleted at any time, and need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "synaug"


def sync(file: Path) -> None:
    """Wait until the content of `file` is on the disk. An error of the disk that was not seen before is raised here."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")


def is_temporary(name: str, names: Iterable[str]) -> bool:
    """Whether `name` is that of a temporary file for one of the files `names` in the same folder."""
    return name.endswith(".tmp") and name.startswith(tuple(f".{file}." for file in names))


def delete_leftovers(path: Path) -> None:
    """Delete the temporary files and folders for `path` that killed processes left.

    Those of this machine are known by the number of the process, those of other machines by their age.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        machine, _, pid = leftover.name.removeprefix(f".{path.name}.").removesuffix(".tmp").rpartition("-")
        with suppress(OSError):  # another process may delete it at the same time
            if machine == platform.node():
                killed = not _is_running(pid)
            else:
                killed = leftover.stat().st_mtime < time.time() - _LEFTOVER_SECONDS
            if killed and leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            elif killed:
                leftover.unlink()


def delete_all_leftovers(folder: Path, suffix: str) -> None:
    """`delete_leftovers` for every file of `folder` whose name ends in `suffix`.

    For files whose names are never used again, so that `atomic_path` would not delete their leftovers.
    """
    for leftover in folder.glob(f".*{suffix}.*.tmp"):
        name, _, _ = leftover.name.removeprefix(".").partition(f"{suffix}.")
        delete_leftovers(folder / (name + suffix))


def open_lock_file(path: str | os.PathLike) -> TextIO:
    """Open the file at `path` for `fcntl.flock`; it is created if it is missing.

    An existing file is not truncated, and a symbolic link is not followed: it raises OSError.
    """
    return open(path, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))


@contextmanager
def locked_if_possible(path: str | os.PathLike, otherwise: str) -> Generator[None]:
    """Inside the block no other process is inside it for the same `path`. It waits until that is so.

    If the file cannot be locked (some network file systems have no locks), a warning says what may happen instead:
    `otherwise`.
    """
    with open_lock_file(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s cannot be locked (%s): %s", path, error.strerror, otherwise)
        yield


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
def new_folder(path: Path, replace: bool = False) -> Generator[Path]:
    """Yield an empty temporary folder, which becomes `path` if the block succeeds, and is deleted if it does not.

    Temporary folders for `path` that killed processes left are deleted. replace: `path` may be a folder with files.
    Raises UserError if the folder cannot be written, if `path` is a mount point, and, unless `replace`, if it exists
    and is not empty.
    """
    if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists already and is not empty; name a new folder, or delete it")
    # Of a link, the folder that it leads to: renaming would replace the link itself.
    path = Path(os.path.realpath(path))
    if os.path.ismount(path):
        raise UserError(f"{path}: is a mount point, which cannot be replaced; name a new folder inside it")
    temporary, old = _temporary_path(path), path.with_name(f".{path.name}.replaced.tmp")
    try:
        if replace and old.exists() and not path.exists():  # killed between the two renames below
            old.rename(path)
        delete_leftovers(path)
        shutil.rmtree(temporary, ignore_errors=True)  # as in `temporary_folder`
        temporary.mkdir(parents=True)
        yield temporary
        if replace and path.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        elif path.is_dir():
            path.rmdir()
        temporary.rename(path)
        if replace:
            shutil.rmtree(old, ignore_errors=True)
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
