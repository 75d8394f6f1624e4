"""The rows of the manifest `real`: one per image file or table row, with its class, or why it is not usable."""

import hashlib
import logging
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from synaug.config import Dataset
from synaug.datasets import celeba, folder, image_list, published, table, utkface, waterbirds
from synaug.datasets.conversion import PACKED
from synaug.datasets.long_tail import cut_rows
from synaug.datasets.look_alikes import look_alike_key, look_alikes, unified
from synaug.datasets.splits import make_splits
from synaug.datasets.tree import files_hash
from synaug.images.codec import inspect_image, uses_few_bits
from synaug.images.tables import in_batches
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file
from synaug.runtime.machine import usable_cores

log = logging.getLogger(__name__)
# Source -> module with its functions `files` and `find`, and `image_files` where `files` does not return the images.
# The sources of PACKED and PUBLISHED are converted to tables.
SOURCES = {
    "folder": folder,
    "table": table,
    "image_list": image_list,
    "utkface": utkface,
    "waterbirds": waterbirds,
    "celeba": celeba,
}
UNKNOWN = ""  # label_name of an image whose class is unknown; its label is -1, and it is not usable


def index_dataset(dataset: Dataset) -> pd.DataFrame:
    """Rows of the manifest `real`, one for every image of the splits that are used.

    An image that cannot be used is a row with `usable` false and a reason. `image_id` is the hash of the encoded
    image, so it does not change when a file is renamed or a row moves. A copy has a number appended to it.
    Raises UserError if the data set is missing, has fewer than two classes, or has a class without a usable training
    image.
    """
    rows = []
    images = SOURCES[dataset.source].find(dataset)
    with ThreadPoolExecutor(usable_cores()) as pool:
        # In batches, because the images of a table are in memory until they are examined.
        for batch in in_batches(images, lambda row: 0 if isinstance(row["data"], Path) else len(row["data"] or b"")):
            rows += pool.map(lambda row: _examine(row, dataset), batch)
    _warn_of_dark_images(rows)
    if dataset.unify_names:
        _unify_names(rows)
    if dataset.make_splits:
        make_splits(rows, dataset)
    rows = [row for row in rows if row["split"] in dataset.splits]
    _check(rows, dataset)
    for alike in look_alikes(row["label_name"] for row in rows):
        log.warning(
            "classes that look alike are different classes: %s; dataset.unify_names: true makes them one",
            ", ".join(map(ascii, alike)),
        )
    if dataset.imbalance_factor is not None:
        train = [row for row in rows if row["split"] == dataset.train_split]
        kept = cut_rows(train, dataset.imbalance_factor, dataset.largest_class, dataset.cut_seed)
        log.info("imbalance_factor %g keeps %d of %d training images", dataset.imbalance_factor, len(kept), len(train))
        rows = kept + [row for row in rows if row["split"] != dataset.train_split]
    names = sorted({row["label_name"] for row in rows} - {UNKNOWN}, key=_natural)
    labels = {UNKNOWN: -1} | {name: label for label, name in enumerate(names)}
    copies: Counter[str] = Counter()
    for row in rows:
        content = row["sha256"][:24]
        row["image_id"] = f"{content}-{copies[content]}" if copies[content] else content
        copies[content] += 1
        row["label"] = labels[row["label_name"]]
    return pd.DataFrame(rows).astype({"row": "Int64", "width": "Int32", "height": "Int32"})


def input_files(dataset: Dataset) -> list[str]:
    """The files that a rule declares as inputs, so that it runs again when they change: tables, lists, authors' files.

    Image files are not among them (see `fingerprint`). Raises UserError if the data set is missing, or one of the files
    is a named pipe, a socket or a device.
    """
    source = published if dataset.source in published.PUBLISHED else (SOURCES | PACKED)[dataset.source]
    check_regular_file(dataset.path)
    files = [str(file) for file in source.files(dataset)]
    for file in files:
        check_regular_file(file)
    return files


def fingerprint(dataset: Dataset) -> str:
    """Hash of names, sizes and modification times of the image files: they are too many to declare each one.

    It is empty where there are none besides the `input_files`, and where the data set cannot be read: the rule that
    reads it reports why.
    """
    # A reader whose `files` are all that it reads needs no `image_files`.
    image_files = getattr((SOURCES | PACKED).get(dataset.source), "image_files", None)
    if image_files is None:
        return ""
    try:
        return files_hash(image_files(dataset))
    except UserError:
        return ""


def _examine(row: dict, dataset: Dataset) -> dict:
    """`row` of a source (see `folder.find`), with group, sha256, width, height, usable, reason and few_bits.

    few_bits: see `uses_few_bits`. The key `data` is removed.
    """
    data, source_reason = row.pop("data"), row.pop("reason", None)
    width, height, reason = None, None, None
    if data is None:
        data, reason = b"", source_reason or "lies out of the data set's folder (dataset.follow_links reads links)"
    elif isinstance(data, Path):
        data, reason = _read(data)
    if reason is None:
        width, height, reason = inspect_image(data, dataset.max_megapixels, dataset.color)
    # A file without contents is identified by its path: all such files would have the same hash.
    digest = hashlib.sha256(data or f"{row['path']}:{row['row']}".encode()).hexdigest()
    reason = reason or source_reason
    row |= {"label_name": row["label_name"] or UNKNOWN, "group": ", ".join(row.get("attributes", []))}
    row |= {"few_bits": reason is None and uses_few_bits(data)}
    return {**row, "sha256": digest, "width": width, "height": height, "usable": reason is None, "reason": reason}


def _read(path: Path) -> tuple[bytes, str | None]:
    """The contents of an image file, and why it cannot be read."""
    try:
        # To open a named pipe waits for a writer, and to read a device may never end.
        if stat.S_IFMT(path.stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            return b"", "is not a regular file"
        return path.read_bytes(), None
    except OSError as error:
        return b"", f"cannot be read ({error.strerror})"


def _unify_names(rows: list[dict]) -> None:
    """Give the classes that look alike one name, and also the groups."""
    names = unified(row["label_name"] for row in rows)
    attributes = [row["attributes"] for row in rows if row.get("attributes")]
    values = [unified(column) for column in zip(*attributes, strict=True)]
    for row in rows:
        row["label_name"] = names[row["label_name"]]
        if row.get("attributes"):
            row["attributes"] = [unify[value] for unify, value in zip(values, row["attributes"], strict=True)]
            row["group"] = ", ".join(row["attributes"])


def _warn_of_dark_images(rows: list[dict]) -> None:
    """Remove the key `few_bits`, and warn of the images that have it."""
    dark = [row["path"] for row in rows if row.pop("few_bits")]
    if dark:
        log.warning(
            "images that have 16 bits per sample and use at most 12 of them are nearly black: %d, such as %s; save "
            "them with 8 bits, or scaled to 16",
            *(len(dark), dark[0]),
        )


def _check(rows: list[dict], dataset: Dataset) -> None:
    """Raise UserError unless every split has a usable image and each of two or more classes a usable training image."""
    for split in dataset.splits:
        if not any(row["split"] == split and row["usable"] for row in rows):
            reasons = Counter(row["reason"] for row in rows if row["split"] == split)
            why = ", ".join(f"{count}: {reason}" for reason, count in reasons.most_common(2))
            raise UserError(
                f"dataset.path: {dataset.path} has no usable image in split {split!r}" + (f" ({why})" if why else ""),
                advice="add images that can be read",
            )
    trainable = {row["label_name"] for row in rows if row["split"] == dataset.train_split and row["usable"]}
    for name in sorted({row["label_name"] for row in rows} - trainable - {UNKNOWN}):
        count = sum(row["label_name"] == name for row in rows)
        other = next(row["split"] for row in rows if row["label_name"] == name)
        for alike in trainable:
            if look_alike_key(alike) == look_alike_key(name):
                raise UserError(
                    f"dataset.path: {dataset.path}: class {name!a} of split {other!r} looks like {alike!a} of split "
                    f"{dataset.train_split!r}; set dataset.unify_names: true, or rename one"
                )
        raise UserError(
            f"dataset.path: {dataset.path}: class {name!r} ({count} images) has no usable image in split "
            f"{dataset.train_split!r}; add some, or remove the class from split {other!r}"
        )
    if len(trainable) < 2:
        raise UserError(
            f"dataset.path: {dataset.path} has one class ({trainable.pop()!r}), and at least two are needed",
            advice="add images of another class",
        )


def _natural(name: str) -> tuple:
    """Sort key of class names: whole numbers first, by value (2 before 10), then all other names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
