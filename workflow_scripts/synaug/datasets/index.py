"""From any source to the rows of `real.parquet`: one per file or table row, each with its class, or a reason."""

import hashlib
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pandas as pd

from synaug.config import Dataset
from synaug.datasets import celeba, folder, image_list, published, table, utkface, waterbirds
from synaug.datasets import conversion as packed
from synaug.datasets.long_tail import cut_rows
from synaug.datasets.splits import make_splits
from synaug.images.codec import inspect_image
from synaug.runtime.errors import UserError
from synaug.runtime.files import text_hash

log = logging.getLogger(__name__)
SOURCES = {"folder": folder, "table": table, "image_list": image_list}
SOURCES |= {"utkface": utkface, "waterbirds": waterbirds, "celeba": celeba}
UNKNOWN = ""  # class of an image that says none, which is listed and not used


def index_dataset(dataset: Dataset) -> pd.DataFrame:
    """Rows of the manifest `real`, one for every image of the splits that are used.

    An image that cannot be used is a row with `usable` false and a reason. `image_id` is the hash of the encoded
    image, so that it stays when files are renamed or rows are moved; a copy gets a number behind it.
    Raises UserError if the data set is missing, or if a class has no usable training image.
    """
    rows = []
    found = SOURCES[dataset.source].find(dataset)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # In slices: a table's images are all in memory while they wait.
        while batch := list(islice(found, 4096)):
            rows += pool.map(lambda row: _examine(row, dataset.max_megapixels), batch)
    if dataset.make_splits:
        make_splits(rows, dataset)
    rows = [row for row in rows if row["split"] in dataset.splits]
    _check(rows, dataset)
    if dataset.imbalance_factor is not None:
        train = [row for row in rows if row["split"] == dataset.train_split]
        kept = cut_rows(train, dataset.imbalance_factor, dataset.largest_class, dataset.cut_seed)
        log.info("imbalance_factor %g keeps %d of %d training images", dataset.imbalance_factor, len(kept), len(train))
        rows = kept + [row for row in rows if row["split"] != dataset.train_split]
    names = sorted({row["label_name"] for row in rows} - {UNKNOWN}, key=_natural)
    position = {UNKNOWN: -1} | {name: label for label, name in enumerate(names)}
    seen: Counter[str] = Counter()
    for row in rows:
        identity = row["sha256"][:24]
        row["image_id"] = f"{identity}-{seen[identity]}" if seen[identity] else identity
        seen[identity] += 1
        row["label"] = position[row["label_name"]]
    frame = pd.DataFrame(rows)
    return frame.astype({"row": "Int64", "width": "Int32", "height": "Int32"})


def input_files(dataset: Dataset) -> list[str]:
    """The files that a rule must declare to be run again when the data change: tables, lists, the authors' files.

    Raises UserError if the data set is not there.
    """
    source = published if dataset.source in published.FORMATS else (SOURCES | packed.FORMATS)[dataset.source]
    return [str(file) for file in source.files(dataset)]


def fingerprint(dataset: Dataset) -> str:
    """Hash of names, sizes and times of the files of a folder source: too many to be declared one by one."""
    return text_hash(folder.listing(dataset)) if dataset.source in ("folder", "utkface") else ""


def _examine(row: dict, max_megapixels: float) -> dict:
    data, said = row.pop("data"), row.pop("reason", None)
    width, height, reason = None, None, None
    if data is None:
        data, reason = b"", said or "lies out of the data set's folder"
    elif isinstance(data, Path):
        try:
            data = data.read_bytes()
        except OSError as error:
            data, reason = b"", f"cannot be read ({error.strerror})"
    if reason is None:
        width, height, reason = inspect_image(data, max_megapixels)
    # A file without contents is identified by its place, or all such files would share one id.
    digest = hashlib.sha256(data or f"{row['path']}:{row['row']}".encode()).hexdigest()
    reason = reason or said
    row |= {"label_name": row["label_name"] or UNKNOWN, "group": ", ".join(row.get("attributes", []))}
    return {**row, "sha256": digest, "width": width, "height": height, "usable": reason is None, "reason": reason}


def _check(rows: list[dict], dataset: Dataset) -> None:
    for split in dataset.splits:
        if not any(row["split"] == split and row["usable"] for row in rows):
            reasons = Counter(row["reason"] for row in rows if row["split"] == split)
            why = ", ".join(f"{count}: {reason}" for reason, count in reasons.most_common(2))
            raise UserError(
                f"dataset.path: {dataset.path} has no usable image in split {split!r}" + (f" ({why})" if why else "")
            )
    trained = {row["label_name"] for row in rows if row["split"] == dataset.train_split and row["usable"]}
    for name in sorted({row["label_name"] for row in rows} - trained - {UNKNOWN}):
        count = sum(row["label_name"] == name for row in rows)
        other = next(row["split"] for row in rows if row["label_name"] == name)
        raise UserError(
            f"dataset.path: {dataset.path}: class {name!r} ({count} images) has no usable image in split "
            f"{dataset.train_split!r}; add some, or remove the class from split {other!r}"
        )
    if len(trained) < 2:
        raise UserError(f"dataset.path: {dataset.path} has one class ({trained.pop()!r}); at least two are needed")


def _natural(name: str) -> tuple:
    """Sort key: class names that are whole numbers by value (2 before 10), before all others."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
