"""The files below a data set's folder: which of them are skipped, which lie outside it, and when they changed."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from synaug.runtime.errors import UserError

# Folders that a system, a file server or an archive program adds, in lower case. They hold thumbnails, deleted files
# or attributes of files.
SYSTEM_FOLDERS = {"@eadir", "#recycle", "__macosx", "$recycle.bin", "system volume information", "lost+found"}

BYTES_PER_PIXEL = 8  # the most that an image needs: four channels of 16 bits
_LARGE_FILE = 1 << 30  # bytes; a file of several frames may be larger than `max_megapixels` allows


def is_skipped(name: str) -> bool:
    """Whether a folder with this name is no part of a data set: it is hidden, or a system has added it."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def files_below(root: Path, pattern: str) -> list[Path]:
    """The files below `root` whose names match `pattern`, sorted, without hidden ones and those in skipped folders.

    Links to folders are followed, but not to one that is read without the link, or that contains the link. Raises
    UserError for a folder that cannot be read.
    """
    return sorted(_files_below(root, pattern, [os.path.realpath(root)])) if root.is_dir() else []


def _files_below(folder: Path, pattern: str, entered: list[str]) -> Iterator[Path]:
    """As `files_below`. entered: the real paths of `root`, and of the targets of the links on the way to `folder`."""
    try:
        paths = list(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be read ({error.strerror})", advice="change its permissions, or remove it"
        ) from None
    for path in paths:
        if path.is_file():
            if path.match(pattern) and not path.name.startswith("."):
                yield path
        elif path.is_dir() and not is_skipped(path.name):
            if not path.is_symlink():
                yield from _files_below(path, pattern, entered)
                continue
            target = os.path.realpath(path)
            if not any(target == one or _is_below(target, one) or _is_below(one, target) for one in entered):
                yield from _files_below(path, pattern, [*entered, target])


def check_holds_no_results(folder: Path) -> None:
    """Raise UserError if `results/` of the current folder, where the workflow writes, is below `folder`.

    For a folder of which all files are read: those of the results would be too, the next time.
    """
    here, outer = Path.cwd(), folder.resolve()
    if here.is_relative_to(outer) and not any(map(is_skipped, here.relative_to(outer).parts)):
        raise UserError(
            f"dataset.path: {folder} contains the current folder, so the results ({here / 'results'}) would be read",
            advice="call the workflow from a folder outside the data set",
        )


def named_file(folder: Path, name: str) -> Path:
    """The file that a table or list in `folder` names, also if Windows wrote backslashes between folders."""
    path = folder / name
    return folder / name.replace("\\", "/") if "\\" in name and not os.path.lexists(path) else path


def read_image_file(path: Path, max_megapixels: float) -> tuple[bytes, str | None]:
    """The contents of an image file, and why it cannot be read."""
    try:
        status = path.stat()
        # To open a named pipe waits for a writer, and to read a device may never end.
        if stat.S_IFMT(status.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            return b"", "is not a regular file"
        # Such as a video, which may not fit into memory.
        if status.st_size > max(_LARGE_FILE, max_megapixels * 1e6 * BYTES_PER_PIXEL):
            return b"", f"has {status.st_size:,} bytes, more than an image of dataset.max_megapixels needs"
        return path.read_bytes(), None
    except OSError as error:
        return b"", f"cannot be read ({error.strerror})"


class Boundary:
    """The folder of a data set, which its image files may not leave.

    follow_links: a link in the folder may point out of it. A path with `..` may not leave it in any case.
    """

    def __init__(self, folder: Path, follow_links: bool = False):
        self.follow_links = follow_links
        self._folder, self._target = os.path.abspath(folder), os.path.realpath(folder)
        self._targets: dict[str, str] = {}  # folder -> the same with its links resolved

    def row(self, path: Path) -> dict:
        """path, row, data and, for a file outside, reason of an image file (see `folder.find`).

        `path` is the target of a link that leaves the folder and is followed. `data` is None for a file outside.
        """
        target = self._resolve(str(path))
        if target is None:
            reason = "has a name that no file can have"
        elif _is_below(target, self._target):
            return {"path": str(path), "row": None, "data": path}
        elif not _is_below(os.path.abspath(path), self._folder):
            reason = "lies outside the data set's folder (for a table, the folder that it is in)"
        elif self.follow_links:
            return {"path": target, "row": None, "data": Path(target)}
        elif not os.path.exists(target):
            reason = "is a link to a file that does not exist"
        else:
            reason = "lies outside the data set's folder (dataset.follow_links reads links)"
        return {"path": str(path), "row": None, "data": None, "reason": reason}

    def _resolve(self, path: str) -> str | None:
        """`path` with its links resolved; None if no file can have this name."""
        parent, name = os.path.split(path)
        if "\0" in path:
            return None
        try:
            if name == ".." or os.path.islink(path):
                return os.path.realpath(path)
            if parent not in self._targets:
                # Once for every folder: to resolve every file takes minutes for a million files.
                self._targets[parent] = os.path.realpath(parent)
            return os.path.join(self._targets[parent], name)
        except ValueError:  # a name that the file system cannot encode
            return None


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def files_hash(paths: Iterable[str]) -> str:
    """Hash of the names, sizes and modification times of files, which may be missing. Empty if there are no files."""
    digest, empty = hashlib.sha256(), True
    for path in paths:
        try:
            status = os.stat(path)
            line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except (OSError, ValueError):
            line = f"{path}\0\n"
        digest.update(line.encode(errors="surrogatepass"))
        empty = False
    return "" if empty else digest.hexdigest()
