"""Images as files: <path>/<split>/<class>/<image>."""

import os
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.errors import UserError


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row` (null) and `data` (a function that reads the bytes) of every file.

    Hidden files are passed over; everything else is listed, so that a file that is no image shows up with a reason.
    Raises UserError if the folder or one of the splits is missing.
    """
    root = split_folders(dataset)
    inside = root.resolve()
    for split in dataset.splits:
        for path in sorted(_files(root / split)):
            if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
                raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
            parts = path.relative_to(root / split).parts
            if len(parts) < 2:
                raise UserError(f"{path}: lies outside any class; move it to {root}/{split}/<class>/")
            escapes = not path.resolve().is_relative_to(inside)
            yield {
                "split": split,
                "label_name": parts[0],
                "path": str(path),
                "row": None,
                "data": None if escapes else path,
            }


def files(dataset: Dataset) -> list[Path]:
    """None to be declared one by one: see `listing`. Raises UserError if the folder or one of the splits is missing."""
    split_folders(dataset)
    return []


def split_folders(dataset: Dataset) -> Path:
    """The folder of the data set. Raises UserError if it, or the folder of one of the splits, is missing."""
    root = Path(dataset.path)
    if not root.is_dir():
        raise UserError(f"dataset.path: {root} is not a folder; give the folder that holds <split>/<class>/<image>")
    for split in dataset.splits:
        if not (root / split).is_dir():
            there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "no folder"
            raise UserError(
                f"dataset.path: {root} has no folder {split!r} (there: {there}); "
                "set dataset.{train,test,validation}_split"
            )
    return root


def listing(dataset: Dataset) -> list[tuple]:
    """What can be known of all files without opening them: (path, bytes, time of change); empty if nothing is there."""
    stats = ((path, path.stat()) for path in sorted(_files(Path(dataset.path))) if path.exists())
    return [(ascii(str(path)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))
