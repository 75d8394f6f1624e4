"""Image files in folders: <path>/<split>/<class>/<image>, or <path>/<class>/<image> if `make_splits` divides them."""

import os
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.runtime.errors import UserError


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per image, as every source does. Its keys, from which `index_dataset` makes a row of `real`:

    split, label_name: of the image; label_name is None if the class is unknown.
    path: of the image file, or of the table that holds the image.
    row: of the image in that table, None for an image file; and with it column, the name of the table's column.
    data: the encoded image (bytes), or the Path of the image file, or None if it lies outside the data set's folder.
    attributes: values of `group_columns`, where the source has groups.
    reason: why the image is not usable, if the source knows one.

    Hidden files are skipped. Every other file is listed, so that one that is not an image appears with a reason.
    Raises UserError if the folder or a split is missing, and for a folder that is empty, a link, or unreadable.
    """
    inside = Path(dataset.path).resolve()
    for split, folder in split_folders(dataset).items():
        for path in sorted(_files(folder, check=True)):
            if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
                raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
            parts = path.relative_to(folder).parts
            if len(parts) < 2:
                raise UserError(f"{path}: lies outside the class folders; move it to {folder}/<class>/")
            escapes = not path.resolve().is_relative_to(inside)
            yield {
                "split": split,
                "label_name": parts[0],
                "path": str(path),
                "row": None,
                "data": None if escapes else path,
            }


def files(dataset: Dataset) -> list[Path]:
    """An empty list, since there are too many files (see `listing`). Raises UserError if a folder is missing."""
    split_folders(dataset)
    return []


def split_folders(dataset: Dataset) -> dict[str, Path]:
    """Split -> folder of its classes. If `make_splits` makes the test split, `path` itself is the training split.

    Raises UserError if the folder of the data set or of a split is missing.
    """
    root = Path(dataset.path)
    if not root.is_dir():
        instead = "<class>/<image>" if dataset.unsplit else "<split>/<class>/<image>"
        raise UserError(f"dataset.path: {root} is not a folder; give the folder that holds {instead}")
    if dataset.unsplit:
        folders = {dataset.train_split: root}
    else:
        folders = {split: root / split for split in dataset.given_splits}
    for split, folder in folders.items():
        if not folder.is_dir():
            present = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "none"
            raise UserError(
                f"dataset.path: {root} has no folder {split!r} (its folders: {present}); "
                "set dataset.{train,test,validation}_split, or let dataset.make_splits divide <class>/<image>"
            )
    return folders


def listing(dataset: Dataset) -> list[tuple]:
    """(path, size in bytes, modification time in ns) of every file. Empty if the folder is missing."""
    stats = ((path, path.stat()) for path in sorted(_files(Path(dataset.path))) if path.exists())
    return [(ascii(str(path)), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def _files(folder: Path, check: bool = False) -> Iterator[Path]:
    """All files below `folder` that are not hidden. check: raise UserError for a folder that would be skipped."""
    for parent, folders, files in os.walk(folder, onerror=_unreadable if check else None):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if check and Path(parent, name).is_symlink():
                raise UserError(
                    f"{parent}/{name}: is a link to a folder, and such links are not followed; link or copy its files"
                )
        files = [name for name in files if not name.startswith(".")]
        if check and not files and not folders and Path(parent) != folder:
            raise UserError(f"{parent}: is an empty folder; put images there, or remove it")
        yield from (Path(parent, name) for name in files)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions, or remove it")
