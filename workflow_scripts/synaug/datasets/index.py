"""The rows of the manifest `real`: one per image file or table row, with its class, or why it is not usable."""

import hashlib
import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synaug.config import Dataset
from synaug.datasets import celeba, folder, image_list, published, table, utkface, waterbirds
from synaug.datasets.conversion import PACKED
from synaug.datasets.long_tail import cut_rows
from synaug.datasets.look_alikes import look_alike_key, look_alikes, unified
from synaug.datasets.splits import make_splits
from synaug.datasets.tree import files_hash, read_image_file
from synaug.images.codec import inspect_image, uses_few_bits
from synaug.images.tables import in_batches
from synaug.runtime.disk import space_for
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
_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("split", "label_name", "group", "path", "column", "sha256", "reason")),
        *(("attributes", pa.list_(pa.string())), ("row", pa.int64()), ("usable", pa.bool_())),
        *((name, pa.int32()) for name in ("width", "height")),
    ]
)
_COUNTED = ["split", "label_name", "usable", "reason"]
ANY_SIZE = 32  # dataset.image_size of code that lists images, for which it has no meaning: no validator may use it
UNKNOWN = ""  # label_name of an image whose class is unknown; its label is -1, and it is not usable


def index_dataset(dataset: Dataset) -> pd.DataFrame:
    """All rows of `index_parts` as a data frame."""
    with tempfile.TemporaryDirectory() as folder:
        table = pa.concat_tables(index_parts(dataset, Path(folder, "examined.arrows"))[1])
    integers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    rows = table.to_pandas(types_mapper=integers.get).astype({"label": int})
    return rows.assign(attributes=table["attributes"].to_pylist())  # lists, where `to_pandas` has arrays


def index_parts(dataset: Dataset, examined: Path) -> tuple[int, Iterator[pa.Table]]:
    """Rows of the manifest `real`, one for every image of the splits that are used: their number; parts of them.

    An image that cannot be used is a row with `usable` false and a reason. `image_id` is the hash of the encoded
    image, so it does not change when a file is renamed or a row moves. A copy has a number appended to it.
    examined: a new file, where the rows are until all images are known. `make_splits` and `imbalance_factor` need
    some columns of all training images in memory, everything else eight bytes of each image.
    Raises UserError if the data set is missing, has fewer than two classes, or has a class without a usable training
    image.
    """
    _examine_images(dataset, examined)
    images = _Examined(examined, dataset)
    if dataset.unify_names:
        images.unify_names()
    if dataset.make_splits:
        images.make_splits()
    counts, beginnings = Counter(), array("Q")
    for rows in images.parts():
        counts.update(zip(*(rows[name].to_pylist() for name in _COUNTED), strict=True))
        beginnings.frombytes(_beginnings(rows).tobytes())
    _check(counts, dataset)
    found = {name for _, name, _, _ in counts}
    for alike in look_alikes(found):
        log.warning(
            "classes that look alike are different classes: %s; dataset.unify_names: true makes them one",
            ", ".join(map(ascii, alike)),
        )
    count, parts = sum(counts.values()), images.parts()
    if dataset.imbalance_factor is not None:
        count -= images.cut()
        is_train = pc.field("split") == dataset.train_split
        parts = chain(images.parts(is_train), images.parts(~is_train))
    names = sorted(found - {UNKNOWN}, key=_natural)
    labels = {UNKNOWN: -1} | {name: label for label, name in enumerate(names)}
    # Only images whose hashes begin alike can be copies.
    ordered = np.frombuffer(beginnings, np.uint64)
    ordered.sort()
    return count, _with_ids(parts, labels, ordered[1:][ordered[1:] == ordered[:-1]])


def _with_ids(parts: Iterable[pa.Table], labels: dict[str, int], repeated: np.ndarray) -> Iterator[pa.Table]:
    """`parts` with image_id and label. repeated: `_beginnings` that several images have, sorted."""
    copies: Counter[str] = Counter()
    for rows in parts:
        ids = pc.utf8_slice_codeunits(rows["sha256"], 0, 24).to_pylist()
        # Not `np.isin`, which would sort all of `repeated` for each part.
        beginnings = _beginnings(rows)
        after = np.searchsorted(repeated, beginnings, side="right")
        for i in np.flatnonzero(after > np.searchsorted(repeated, beginnings)):
            content = ids[i]
            ids[i] = f"{content}-{copies[content]}" if copies[content] else content
            copies[content] += 1
        label = pa.array([labels[name] for name in rows["label_name"].to_pylist()], pa.int32())
        yield rows.append_column("image_id", pa.array(ids, pa.string())).append_column("label", label)


def input_files(dataset: Dataset) -> list[str]:
    """The files that a rule declares as inputs, so that it runs again when they change: tables, lists, authors' files.

    Image files are not among them (see `fingerprint`). Raises UserError if the data set is missing or may not be read,
    or one of the files is a named pipe, a socket or a device.
    """
    source = published if dataset.source in published.PUBLISHED else (SOURCES | PACKED)[dataset.source]
    try:
        check_regular_file(dataset.path)
        files = [str(file) for file in source.files(dataset)]
        for file in files:
            check_regular_file(file)
    except OSError as error:
        raise UserError(
            f"{error.filename or dataset.path}: cannot be read ({error.strerror or error})",
            advice="change its permissions, or give another dataset.path",
        ) from None
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
    except (UserError, OSError):
        return ""


def _examine_images(dataset: Dataset, path: Path) -> None:
    """Examine all images of the splits that are used, and write what is found to `path`: batches of _COLUMNS.

    Raises UserError for a full disk, and what the source raises.
    """
    dark, example = 0, ""
    splits = dataset.splits
    images = (row for row in SOURCES[dataset.source].find(dataset) if row["split"] in splits)
    size = lambda row: 0 if isinstance(row["data"], Path) else len(row["data"] or b"")  # noqa: E731
    with (
        ThreadPoolExecutor(usable_cores()) as pool,
        space_for(path),
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, _COLUMNS) as stream,
    ):
        # In batches, because the images of a table are in memory until they are examined.
        for batch in in_batches(images, size):
            rows = list(pool.map(lambda row: _examine(row, dataset), batch))
            if few_bits := [row["path"] for row in rows if row.pop("few_bits")]:
                dark, example = dark + len(few_bits), example or few_bits[0]
            stream.write_batch(pa.RecordBatch.from_pylist(rows, _COLUMNS))
    if dark:
        log.warning(
            "images that have 16 bits per sample and use at most 12 of them are nearly black: %d, such as %s; save "
            "them with 8 bits, or scaled to 16",
            *(dark, example),
        )


class _Examined:
    """The images in a file of `_examine_images`, which is read part by part, and what changes in their rows."""

    def __init__(self, path: Path, dataset: Dataset):
        self.path, self.dataset = path, dataset
        self._names: dict[str, str] = {}  # class -> its other name
        self._values: list[dict[str, str]] = []  # for each column of groups: value -> its other name
        self._moved: dict[int, str] = {}  # position of an image -> its other split
        self._dropped: set[int] = set()  # positions of images

    def parts(self, which: pc.Expression | None = None) -> Iterator[pa.Table]:
        """All rows, without images that `cut` dropped. which: only these rows."""
        for _, rows in self._all():
            rows = rows if which is None else rows.filter(which)
            if rows.num_rows:
                yield rows

    def unify_names(self) -> None:
        """Give the classes that look alike one name, and also the groups."""
        names: Counter[str] = Counter()
        values: list[Counter[str]] = []
        for _, rows in self._all():
            names.update(rows["label_name"].to_pylist())
            for attributes in filter(None, rows["attributes"].to_pylist()):
                values += [Counter() for _ in attributes[len(values) :]]
                for counter, value in zip(values, attributes, strict=True):
                    counter[value] += 1
        self._names, self._values = unified(names), [unified(counter) for counter in values]

    def make_splits(self) -> None:
        """Move images of the training split to the splits of `dataset.make_splits`."""
        rows = self._training_rows(["label_name", "group", "sha256", "usable", "path", "row", "column", "split"])
        make_splits(rows, self.dataset)
        self._moved = {row["position"]: row["split"] for row in rows if row["split"] != self.dataset.train_split}

    def cut(self) -> int:
        """Drop training images, as `dataset.imbalance_factor` wants it. Returns their number."""
        factor, rows = self.dataset.imbalance_factor, self._training_rows(["label_name", "sha256", "usable"])
        kept = cut_rows(rows, factor, self.dataset.largest_class, self.dataset.cut_seed)
        log.info("imbalance_factor %g keeps %d of %d training images", factor, len(kept), len(rows))
        self._dropped = {row["position"] for row in rows} - {row["position"] for row in kept}
        return len(self._dropped)

    def _training_rows(self, names: list[str]) -> list[dict]:
        """The columns `names` of all training images, and their positions."""
        rows = []
        for start, part in self._all():
            part = part.append_column("position", pa.array(range(start, start + len(part))))
            part = part.filter(pc.field("split") == self.dataset.train_split)
            rows += part.select([*names, "position"]).to_pylist()
        return rows

    def _all(self) -> Iterator[tuple[int, pa.Table]]:
        """All rows with what has been changed, in the order of the source: (position of the first, rows)."""
        start = 0
        with pa.OSFile(str(self.path)) as file:  # not memory-mapped: those pages would count as memory of the process
            for batch in pa.ipc.open_stream(file):
                rows = pa.Table.from_batches([batch])
                if self._names:
                    rows = self._renamed(rows)
                if self._moved:
                    splits = enumerate(rows["split"].to_pylist(), start)
                    rows = _with(rows, "split", [self._moved.get(at, split) for at, split in splits])
                if self._dropped:
                    rows = rows.filter(pa.array([at not in self._dropped for at in range(start, start + len(batch))]))
                yield start, rows
                start += len(batch)

    def _renamed(self, rows: pa.Table) -> pa.Table:
        rows = _with(rows, "label_name", [self._names[name] for name in rows["label_name"].to_pylist()])
        attributes = [
            row and [names[value] for names, value in zip(self._values, row, strict=True)]
            for row in rows["attributes"].to_pylist()
        ]
        rows = _with(rows, "attributes", attributes)
        return _with(rows, "group", [", ".join(row or []) for row in attributes])


def _with(rows: pa.Table, name: str, values: list) -> pa.Table:
    """`rows` with `values` in the column `name`."""
    return rows.set_column(rows.column_names.index(name), name, pa.array(values, rows.schema.field(name).type))


def _beginnings(rows: pa.Table) -> np.ndarray:
    """The first 64 bits of the hash of each image: uint64, N."""
    return np.array([int(text[:16], 16) for text in rows["sha256"].to_pylist()], np.uint64)


def _examine(row: dict, dataset: Dataset) -> dict:
    """`row` of a source (see `folder.find`), with group, sha256, width, height, usable, reason and few_bits.

    few_bits: see `uses_few_bits`. The key `data` is removed.
    """
    data, source_reason = row.pop("data"), row.pop("reason", None)
    width, height, reason = None, None, None
    if data is None:
        data, reason = b"", source_reason
    elif isinstance(data, Path):
        data, reason = read_image_file(data, dataset.max_megapixels)
    if reason is None:
        width, height, reason = inspect_image(data, dataset.max_megapixels, dataset.color)
    # A file without contents is identified by its path: all such files would have the same hash.
    digest = hashlib.sha256(data or f"{row['path']}:{row['row']}".encode()).hexdigest()
    reason = reason or source_reason
    row |= {"label_name": row["label_name"] or UNKNOWN, "group": ", ".join(row.get("attributes", []))}
    row |= {"few_bits": reason is None and uses_few_bits(data)}
    return {**row, "sha256": digest, "width": width, "height": height, "usable": reason is None, "reason": reason}


def _check(counts: Counter[tuple], dataset: Dataset) -> None:
    """Raise UserError unless every split has a usable image and each of two or more classes a usable training image.

    counts: split, label_name, usable and reason -> number of images.
    """
    for split in dataset.splits:
        if not any(usable for of, _, usable, _ in counts if of == split):
            reasons: Counter[str] = Counter()
            for (of, _, _, reason), count in counts.items():
                reasons[reason] += count if of == split else 0
            why = _most_common(reasons)
            if split in dataset.make_splits and not why:
                raise UserError(
                    f"dataset.path: {dataset.path} has no usable image in split {split!r}: every class is too small "
                    "or has copies of one image",
                    advice="add images",
                )
            raise UserError(
                f"dataset.path: {dataset.path} has no usable image in split {split!r}" + (f" ({why})" if why else ""),
                advice="add images that can be read",
            )
    trainable = {name for split, name, usable, _ in counts if split == dataset.train_split and usable}
    for name in sorted({name for _, name, _, _ in counts} - trainable - {UNKNOWN}):
        count = sum(number for (_, of, _, _), number in counts.items() if of == name)
        other = next(split for split, of, _, _ in counts if of == name)
        for alike in trainable:
            if look_alike_key(alike) == look_alike_key(name):
                raise UserError(
                    f"dataset.path: {dataset.path}: class {name!a} of split {other!r} looks like {alike!a} of split "
                    f"{dataset.train_split!r}; set dataset.unify_names: true (synaug init: "
                    "--unify-names), or rename one"
                )
        reasons = Counter()
        for (split, of, _, reason), number in counts.items():
            reasons[reason] += number if of == name and split == dataset.train_split and reason else 0
        why = _most_common(reasons)
        rest = "remove the class" if dataset.unsplit else f"remove the class from split {other!r}"
        images = "1 image" if count == 1 else f"{count} images"
        raise UserError(
            f"dataset.path: {dataset.path}: class {name!r} ({images}) has no usable image in split "
            f"{dataset.train_split!r}" + (f" ({why})" if why else "") + f"; add some, or {rest}"
        )
    if len(trainable) < 2:
        raise UserError(
            f"dataset.path: {dataset.path} has one class ({trainable.pop()!r}), and at least two are needed",
            advice="add images of another class",
        )


def _most_common(reasons: Counter[str]) -> str:
    return ", ".join(f"{count}: {reason}" for reason, count in (+reasons).most_common(2))


def _natural(name: str) -> tuple:
    """Sort key of class names: whole numbers first, by value (2 before 10), then all other names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
