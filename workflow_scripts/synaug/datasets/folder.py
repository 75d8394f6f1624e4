"""Images as files: <path>/<split>/<class>/<image>, or <path>/<class>/<image> if the splits are still to be made."""

import os
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.runtime.errors import UserError


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row` (null) and `data` (a function that reads the bytes) of every file.

    Hidden files are passed over; everything else is listed, so that a file that is no image shows up with a reason.
    Raises UserError if the folder or one of the splits is missing, and for a folder that is empty or a link, or that
    cannot be read.
    """
    inside = Path(dataset.path).resolve()
    for split, folder in split_folders(dataset).items():
        for path in sorted(_files(folder, check=True)):
            if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
                raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
            parts = path.relative_to(folder).parts
            if len(parts) < 2:
                raise UserError(f"{path}: lies outside any class; move it to {folder}/<class>/")
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


def split_folders(dataset: Dataset) -> dict[str, Path]:
    """Split -> folder of its classes: that of the data set itself, if the splits are still to be made.

    Raises UserError if the folder of the data set, or of one of the splits, is missing.
    """
    root = Path(dataset.path)
    if not root.is_dir():
        instead = "<class>/<image>" if dataset.unsplit else "<split>/<class>/<image>"
        raise UserError(f"dataset.path: {root} is not a folder; give the folder that holds {instead}")
    if dataset.unsplit:
        folders = {dataset.train_split: root}
    else:
        folders = {split: root / split for split in dataset.splits if split not in dataset.make_splits}
    for split, folder in folders.items():
        if not folder.is_dir():
            there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "no folder"
            raise UserError(
                f"dataset.path: {root} has no folder {split!r} (there: {there}); "
                "set dataset.{train,test,validation}_split, or let dataset.make_splits divide <class>/<image>"
            )
    return folders


def listing(dataset: Dataset) -> list[tuple]:
    """What can be known of all files without opening them: (path, bytes, time of change); empty if nothing is there."""
    stats = ((path, path.stat()) for path in sorted(_files(Path(dataset.path))) if path.exists())
    return [(ascii(str(path)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _files(folder: Path, check: bool = False) -> Iterator[Path]:
    """All files below `folder` but hidden ones. check: raise UserError for a folder that would be passed over."""
    for parent, folders, files in os.walk(folder, onerror=_unreadable if check else None):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if check and Path(parent, name).is_symlink():
                raise UserError(
                    f"{parent}/{name}: is a link to a folder, which is not followed; link or copy its files"
                )
        files = [name for name in files if not name.startswith(".")]
        if check and not files and not folders and Path(parent) != folder:
            raise UserError(f"{parent}: is an empty folder; put images there, or remove it")
        yield from (Path(parent, name) for name in files)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions, or remove it")
