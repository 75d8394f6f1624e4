"""Which files of all experiments hold given images: an index of image ids, <results>/.index/.

A look-up compares the list of files with what the index has, reads the ids of the files that are new or changed, and
adds them. So nothing has to tell the index about a file: it also finds finished batches, files that were copied in by
hand, and everything again after the index was deleted. It only saves time: an answer names files, and who copies an
image reads its id and hash in the file.

Many jobs use the index at once, without a lock. It consists of parts, files that are written once, renamed into place
and never changed. A part holds the keys (the first 64 bits of the ids) of all images of some files. A new part takes
over the parts that are not larger, which are then deleted: there are always few. A part that is damaged is deleted.
"""

import json
import logging
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq

from synaug.plan.shards import EXTRA_FILES
from synaug.runtime.errors import UserError, short_text
from synaug.runtime.files import atomic_path, check_regular_file, delete_all_leftovers, text_hash

log = logging.getLogger(__name__)

_RECORD = np.dtype([("key", "<u8"), ("file", "<u4")])
_BUCKET = 128  # mean number of records in a bucket
_LARGEST = 4_000_000  # images of a part, 48 MB: a larger one is not merged
_READERS = 8  # threads: files on a network answer slowly, but many at a time
# Relative path of a file -> its size and modification time (ns), by which a changed file is noticed.
_Files = dict[str, tuple[int, int]]


class FilesWith:
    """Files of all experiments in `results` that hold images with any of `ids`: shards, extra files, finished batches.

    Every iteration looks them up anew, because another job may have moved its batches into a shard.
    """

    def __init__(self, ids: Iterable[str], results: Path) -> None:
        self.keys, self.results = _keys(list(ids)), results

    def __iter__(self) -> Iterator[Path]:
        return iter(sorted(self.results / file for file in _look_up(self.keys, self.results)[0]))


def stored_ids(ids: Iterable[str], results: Path) -> set[str]:
    """Those of `ids` that a file of any experiment in `results` holds."""
    ids = np.array(list(ids), dtype=object)
    keys = _keys(ids)
    return set(ids[np.isin(keys, _look_up(keys, results)[1])])


@dataclass
class _Part:
    """A part of the index. Its records are sorted by key and divided into buckets by the first bits of the key."""

    path: Path
    stream: BinaryIO
    files: list[tuple[str, int, int, int]]  # path, size, modification time, images
    current: np.ndarray  # of each file: it exists and is unchanged
    ends: np.ndarray  # of the buckets, in records
    checksums: list[int]  # of the buckets
    offset: int  # of the first record in the file

    def images(self) -> int:
        """The number of images in unchanged files."""
        return sum(file[3] for file, current in zip(self.files, self.current, strict=True) if current)

    def records(self, buckets: Iterable[int]) -> np.ndarray:
        """The records of unchanged files in `buckets`. Raises ValueError if the part is damaged."""
        read = []
        for bucket in buckets:
            start = int(self.ends[bucket - 1]) if bucket else 0
            self.stream.seek(self.offset + start * _RECORD.itemsize)
            data = self.stream.read((int(self.ends[bucket]) - start) * _RECORD.itemsize)
            if zlib.crc32(data) != self.checksums[bucket]:
                raise ValueError("wrong checksum")
            read.append(data)
        records = np.frombuffer(b"".join(read), _RECORD)
        return records[self.current[records["file"]]]

    def search(self, keys: np.ndarray) -> np.ndarray:
        """The records with any of `keys`."""
        records = self.records(np.unique(_buckets(keys, len(self.ends))).tolist())
        return records[np.isin(records["key"], keys)]


def _look_up(keys: np.ndarray, results: Path) -> tuple[set[str], np.ndarray]:
    """The files (relative to `results`) that hold images with any of `keys`, and the keys that they hold."""
    listed = _list_files(results)
    files, matches, intact = set(), [], []
    with ExitStack() as streams:
        for part in _open_parts(results / ".index", listed, streams):
            try:
                records = part.search(keys)
            except (ValueError, OSError) as error:
                _drop(part.path, error)
                continue
            intact.append(part)
            files |= {part.files[number][0] for number in np.unique(records["file"])}
            matches.append(records["key"])
        new_files, new_matches = _add_new_files(keys, results, intact, listed)
    return files | new_files, np.concatenate([np.empty(0, np.uint64), *matches, *new_matches])


def _add_new_files(
    keys: np.ndarray, results: Path, parts: list[_Part], listed: _Files
) -> tuple[set[str], list[np.ndarray]]:
    """Read the files that `parts` lack, and write their keys as a new part. Returns as `_look_up`, of these files."""
    indexed = {file[0] for part in parts for file, current in zip(part.files, part.current, strict=True) if current}
    files, matches = set(), []
    new: dict[str, np.ndarray] = {}
    images = 0  # in `new`
    unread = sorted(listed.keys() - indexed)
    with ThreadPoolExecutor(_READERS) as readers:
        for file, of_file in zip(unread, readers.map(lambda file: _read_keys(results / file), unread), strict=True):
            if of_file is None:
                continue
            new[file] = of_file
            images += len(of_file)
            matching = of_file[np.isin(of_file, keys)]
            if len(matching):
                files.add(file)
                matches.append(matching)
            if images >= _LARGEST:
                _add_part(results / ".index", new, listed, [])
                new, images = {}, 0
    if new:
        _add_part(results / ".index", new, listed, parts)
    return files, matches


def _list_files(results: Path) -> _Files:
    files: _Files = {}

    def add(folder: str, names: tuple[str, ...] | None = None) -> list[str]:
        """Add the tables in `folder` (all, or those that match `names`). Returns the names of its folders."""
        try:
            entries = list(os.scandir(results / folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            log.warning("%s: skipped: %s", results / folder, error)
            return []
        for entry in entries:
            if entry.name.endswith(".parquet") and (names is None or any(fnmatch(entry.name, name) for name in names)):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # deleted by another job
                    continue
                files[f"{folder}/{entry.name}"] = (status.st_size, status.st_mtime_ns)
        return [entry.name for entry in entries if not entry.name.endswith(".parquet") and entry.is_dir()]

    for experiment in add(".", ()):
        add(experiment, EXTRA_FILES)
        add(f"{experiment}/shards")
        for work in add(f"{experiment}/work", ()):
            add(f"{experiment}/work/{work}")
    return files


def _read_keys(file: Path) -> np.ndarray | None:
    """The keys of the images in `file`; None, with a warning, if it cannot be read."""
    try:
        check_regular_file(file)
        with pq.ParquetFile(file) as table:
            return _keys(table.read(["image_id"], use_threads=False).column("image_id").to_pylist())
    except FileNotFoundError:  # a batch that another job has just moved into its shard
        return None
    except Exception as error:
        # Copying only saves time: images that cannot be read are sampled again.
        log.warning("%s: skipped: %s", file, error)
        return None


def _keys(ids: Iterable[str]) -> np.ndarray:
    """The first 64 bits of ids, which are 24 hexadecimal digits. Raises ValueError if they are not."""
    digits = "".join(ids)
    if len(digits) != 24 * len(ids):
        raise ValueError("has ids that are not 24 hexadecimal digits")
    numbers = np.frombuffer(bytes.fromhex(digits), ">u4").reshape(-1, 3).astype(np.uint64)
    return (numbers[:, 0] << np.uint64(32)) | numbers[:, 1]


def _buckets(keys: np.ndarray, number: int) -> np.ndarray:
    """The bucket of each key. number: of all buckets, a power of two and at least 2."""
    return (keys >> np.uint64(65 - number.bit_length())).astype(int)


def _open_parts(folder: Path, listed: _Files, streams: ExitStack) -> list[_Part]:
    """All parts of the index. streams: closes their files."""
    for _ in range(3):
        parts, complete = [], True
        for path in sorted(folder.glob("*.ids")):
            try:
                parts.append(_open_part(path, listed, streams))
            except FileNotFoundError:  # another job has just merged it into a part that is not in this list
                complete = False
            except (ValueError, OSError) as error:
                _drop(path, error)
        if complete:
            break
    return parts


def _open_part(path: Path, listed: _Files, streams: ExitStack) -> _Part:
    stream = streams.enter_context(path.open("rb"))
    length, checksum = np.frombuffer(stream.read(8), "<u4").tolist()
    head = stream.read(length)
    if zlib.crc32(head) != checksum:
        raise ValueError("wrong checksum")
    head = json.loads(head)
    files = [tuple(file) for file in head["files"]]
    unchanged = [listed.get(file) == (size, changed) for file, size, changed, _ in files]
    return _Part(path, stream, files, np.array(unchanged, bool), np.array(head["ends"]), head["checksums"], 8 + length)


def _drop(path: Path, error: Exception) -> None:
    """Delete the part at `path` if it is damaged. Its files are read again."""
    log.warning("%s: skipped: %s", path, error)
    if isinstance(error, ValueError):
        try:
            path.unlink(missing_ok=True)
        except OSError as refused:
            log.warning("%s: cannot be deleted: %s", path, refused)


def _add_part(folder: Path, new: dict[str, np.ndarray], listed: _Files, parts: list[_Part]) -> None:
    """Write the keys of `new` files as a part, together with those of `parts` that are not larger, which it replaces.

    If it cannot be written, later look-ups read the files again.
    """
    merged, keys = [], dict(new)
    try:
        images = sum(map(len, keys.values()))
        for part in sorted(parts, key=_Part.images):
            if part.images() > 2 * images or images + part.images() > _LARGEST:
                break
            records = part.records(range(len(part.ends)))
            records = records[np.argsort(records["file"], kind="stable")]
            numbers, starts = np.unique(records["file"], return_index=True)
            for number, of_file in zip(numbers, np.split(records["key"], starts[1:]), strict=True):
                keys.setdefault(part.files[number][0], of_file)
            images += part.images()
            merged.append(part)
        _write_part(folder, keys, listed)
        for part in merged:
            part.path.unlink(missing_ok=True)
        delete_all_leftovers(folder, ".ids")
    except (UserError, OSError, ValueError) as error:
        log.warning("%s: the index of images is not updated: %s", folder, short_text(error.__cause__ or error))


def _write_part(folder: Path, keys: dict[str, np.ndarray], listed: _Files) -> None:
    files = [(file, *listed[file], len(keys[file])) for file in sorted(keys)]
    all_keys = np.concatenate([keys[file[0]] for file in files])
    file_numbers = np.repeat(np.arange(len(files)), [file[3] for file in files])
    order = np.argsort(all_keys, kind="stable")
    data = np.rec.fromarrays([all_keys[order], file_numbers[order]], dtype=_RECORD).tobytes()
    number = max(2, 1 << (len(order) // _BUCKET).bit_length())
    ends = np.searchsorted(_buckets(all_keys[order], number), np.arange(number), side="right")
    bounds = np.concatenate([[0], ends]) * _RECORD.itemsize
    checksums = [zlib.crc32(data[start:end]) for start, end in pairwise(bounds)]
    head = json.dumps({"files": files, "ends": ends.tolist(), "checksums": checksums}).encode()
    # Jobs that index the same files at the same time write the same part.
    with atomic_path(folder / f"{text_hash(files)[:16]}.ids") as temporary, temporary.open("wb") as file:
        file.write(np.array([len(head), zlib.crc32(head)], "<u4").tobytes() + head)
        file.write(data)
