"""Image files in folders: <path>/<split>/<class>/<image>, or <path>/<class>/<image> if `make_splits` divides them."""

import logging
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from PIL import Image

from synaug.config import Dataset
from synaug.datasets.tree import Boundary, check_holds_no_results, is_skipped
from synaug.images.codec import FORMATS
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
TABLES = (".parquet", ".csv", ".jsonl", ".ndjson")


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per image, as every source does. Its keys, from which `index_dataset` makes a row of `real`:

    split, label_name: of the image; label_name is None if the class is unknown.
    path: of the image file, or of the table that holds the image.
    row: of the image in that table, None for an image file; and with it column, the name of the table's column.
    data: the encoded image (bytes), or the Path of the image file, or None, with a reason, if it cannot be read, such
        as a file outside the data set's folder.
    attributes: values of `group_columns`, where the source has groups.
    reason: why the image is not usable, if the source knows one.

    Hidden files are skipped, and folders that a system has added (`tree.SYSTEM_FOLDERS`). Every other file of a class
    is listed, so that one that is not an image appears with a reason. A file beside the class folders that is not an
    image, such as a README, is skipped. Raises UserError if the folder or a split is missing, for a folder that is
    empty or unreadable, for a link to a folder unless `follow_links`, and for an image outside the class folders.
    """
    boundary = Boundary(Path(dataset.path), dataset.follow_links)
    for split, folder in split_folders(dataset).items():
        files, depth = map(Path, _files(folder, dataset.follow_links, check=True)), len(folder.parts)
        # Class by class, which is the order of all: the paths of a million files take hundreds of megabytes.
        by_class = groupby(files, key=lambda path: path.parts[depth])
        for path in (path for _, paths in by_class for path in sorted(paths)):
            if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
                raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
            parts = path.parts[depth:]
            if len(parts) > 1:
                yield {"split": split, "label_name": parts[0], **boundary.row(path)}
            elif looks_like_image(path):
                raise UserError(f"{path}: lies outside the class folders; {_advice_for_image_outside(folder)}")
            else:
                log.info("%s: is skipped, because it is no image and lies outside the class folders", path)


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all files of the splits that are used. Raises UserError if a folder is missing."""
    for folder in split_folders(dataset).values():
        yield from _files(folder, dataset.follow_links)


def looks_like_image(path: Path) -> bool:
    """Whether a file is meant as an image: by its name, or by its header."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS):
            return True
    except Exception:  # a damaged header can raise nearly any exception
        return False


def _advice_for_image_outside(folder: Path) -> str:
    tables = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in TABLES)
    if tables:
        return f"if {folder / tables[0]} lists the images, give it as dataset.path, with source: table"
    return f"move it to {folder}/<class>/"


def files(dataset: Dataset) -> list[Path]:
    """An empty list, since there are too many files (see `image_files`).

    Raises UserError if a folder is missing, or would hold the results of the workflow.
    """
    for folder in split_folders(dataset).values():
        check_holds_no_results(folder)
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


def _files(folder: Path, follow_links: bool, check: bool = False) -> Iterator[str]:
    """All files below `folder` that are not hidden, in a fixed order.

    check: raise UserError for a folder that would be skipped, or that contains itself by a link.
    """
    before_links: dict[str, list[str]] = {}  # folder -> the real folders of the links on the way to it
    for parent, folders, files in os.walk(folder, onerror=_unreadable if check else None, followlinks=follow_links):
        folders[:] = sorted(name for name in folders if not is_skipped(name))
        passed = before_links.pop(parent, [])
        for path in [os.path.join(parent, name) for name in folders]:
            before_links[path] = passed
            if not os.path.islink(path):
                continue
            if check and not follow_links:
                raise UserError(
                    f"{path}: is a link to a folder, and links are not followed; set dataset.follow_links: true "
                    "(synaug init: --follow-links), or "
                    "copy its files"
                )
            before_links[path] = [*passed, os.path.realpath(parent)]
            target = os.path.join(os.path.realpath(path), "")
            if any(os.path.join(place, "").startswith(target) for place in before_links[path]):
                if check:
                    raise UserError(f"{path}: is a link to a folder that contains it; remove the link")
                folders.remove(os.path.basename(path))
        files = sorted(name for name in files if not name.startswith("."))
        if check and not files and not folders and Path(parent) != folder:
            raise UserError(f"{parent}: is an empty folder; put images there, or remove it")
        yield from (os.path.join(parent, name) for name in files)


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions, or remove it")
