"""WebDataset: tars of samples, each <key>.jpg (or .png, ...) with <key>.cls or <key>.json, read in sequence.

The name of a tar, or of a folder that it lies in, begins with its split: train-000003.tar.
"""

import json
import logging
import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Self

from synaug.config import Dataset
from synaug.datasets.tree import BYTES_PER_PIXEL, SYSTEM_FOLDERS, files_below
from synaug.runtime.errors import UserError, short_text

log = logging.getLogger(__name__)
IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")
# A member of a tar that is larger is refused before it is read: a small compressed tar may hold gigabytes of zeros.
_TEXT_BYTES = 1 << 24  # of <key>.cls and <key>.json
_HEADER_BYTES = 1 << 20  # of long names and other additions to the header of a member
_END_BYTES = 2 * tarfile.BLOCKSIZE  # the mark of the end of a tar: so many zeros, or more


def files(dataset: Dataset) -> list[Path]:
    """The tars that are used. Raises UserError if there are none, or if a split has none."""
    root = Path(dataset.path)
    tars = [root] if root.is_file() else files_below(root, "*.tar")
    if not tars:
        raise UserError(f"dataset.path: {root} holds no *.tar; give a tar, or a folder of tars")
    if dataset.unsplit:
        return tars
    for split in dataset.given_splits:
        if not any(_split(file, dataset) == split for file in tars):
            raise UserError(
                f"dataset.path: {root} holds no tar whose name begins with {split!r} (but {tars[0].name}, ...); "
                "set dataset.{train,test,validation}_split, or have splits made: dataset.make_splits"
            )
    return [file for file in tars if _split(file, dataset) in dataset.given_splits]


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` and `data` (bytes) of every sample.

    Raises UserError for an unreadable tar, and for a sample without image, class or group, or with two of a part.
    """
    for file in files(dataset):
        try:
            # ignore_zeros: tars that `cat` joined have an end mark in the middle. `_Member` raises for damaged headers,
            # which would be skipped too.
            with tarfile.open(file, tarinfo=_Member, ignore_zeros=True) as tar:
                for key, members in groupby(_members(tar, file), lambda member: _key(member.name)[0]):
                    sample: dict[str, bytes | None] = {}
                    for member in members:
                        part = _key(member.name)[1]
                        content = _content(tar, member, file, dataset)
                        if sample.get(part) is not None:
                            raise UserError(
                                f"{file}: {key}: has several parts {part!r}; make the tar again, with one of them, or "
                                "with another key"
                            )
                        sample[part] = content
                    yield {"split": _split(file, dataset)} | _read(f"{file}: {key}", sample, dataset)
        except (tarfile.TarError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            why = short_text(error).rstrip(":")
            raise UserError(f"{file}: cannot be read as tar ({why}); make or download it again") from None


def _split(file: Path, dataset: Dataset) -> str | None:
    if dataset.unsplit:
        return dataset.train_split
    parts = file.relative_to(dataset.path).parts if Path(dataset.path).is_dir() else [file.name]
    # Longest first: validation-0.tar is not of the split `val` if there is a split `validation`.
    splits = sorted(dataset.splits, key=len, reverse=True)
    return next((split for name in reversed(parts) for split in splits if name.startswith(split)), None)


def _members(tar: tarfile.TarFile, file: Path) -> Iterator[tarfile.TarInfo]:
    """The files that are not hidden. Links are skipped, since the file that they point to is listed itself.

    As GNU tar does, a tar without end mark is read if it ends where a member does, and bytes behind the end mark are
    not read: both with a warning. Raises ReadError for a damaged tar, and for one that is cut off in a member.
    """
    end, last = 0, ""  # of the last member, and its name
    try:
        for member in tar:
            end, last = tar.offset, member.name
            tar.members.clear()  # only for look-ups by name: those of millions of files take gigabytes
            path = PurePosixPath(member.name)
            if (
                member.isfile()
                and not path.name.startswith(".")
                and SYSTEM_FOLDERS.isdisjoint(map(str.lower, path.parts[:-1]))
            ):
                yield member
    except _NoHeaderError:
        size = _bytes_behind(tar)
        if size and tar.offset - end < _END_BYTES:
            raise
        if size:
            log.warning("%s: %s bytes behind its end mark are not read", file, f"{size:,}")
    if tar.offset - end < _END_BYTES:
        problem = f"has no end mark, and may be cut off after {last}" if last else "is empty"
        log.warning("%s: %s; if files are missing, make or download it again", file, problem)


def _bytes_behind(tar: tarfile.TarFile) -> int:
    """The number of bytes from `tar.offset` to the end of the file; 0 if all of them are zero.

    Raises ReadError if there is a header of a member among them: then they are the rest of a damaged tar.
    """
    tar.fileobj.seek(tar.offset)
    size, only_zeros = 0, True
    while block := tar.fileobj.read(tarfile.BLOCKSIZE):
        size, only_zeros = size + len(block), only_zeros and not any(block)
        try:
            tarfile.TarInfo.frombuf(block, tar.encoding, tar.errors)
        except tarfile.HeaderError:
            continue
        raise tarfile.ReadError("a header is damaged")
    return 0 if only_zeros else size


class _NoHeaderError(tarfile.ReadError):
    """Where the header of a member should be, there are other bytes. `tarfile` would end there or go on."""


class _Member(tarfile.TarInfo):
    """The header of a member. Additions to it are read into memory at once, whatever size they declare."""

    @classmethod
    def fromtarfile(cls, *arguments, **keywords) -> Self:
        try:
            return super().fromtarfile(*arguments, **keywords)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise _NoHeaderError(str(error)) from None

    def _proc_member(self, tar: tarfile.TarFile):
        additions = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
        if self.type in (*additions, tarfile.SOLARIS_XHDTYPE) and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size:,} bytes")
        return super()._proc_member(tar)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path, dataset: Dataset) -> bytes | None:
    """The content of a member; None if it is neither the image nor the class of a sample.

    Raises UserError for one that is larger than an image, or a text, can be.
    """
    part = _key(member.name)[1]
    if part not in (*IMAGES, "cls", "json"):
        return None
    most = _TEXT_BYTES
    if part in IMAGES:
        most += int(min(dataset.max_megapixels * 1e6 * BYTES_PER_PIXEL, sys.maxsize - most))
    if member.size > most:  # also of a sparse member, which takes no space in the tar
        raise UserError(
            f"{file}: {member.name} has {member.size:,} bytes, more than an image of dataset.max_megapixels needs; "
            "remove it"
        )
    return tar.extractfile(member).read()


def _key(name: str) -> tuple[str, str]:
    """Sample and part, cut at the first dot: `a/0001.seg.png` is the part `seg.png` of the sample `a/0001`."""
    path = PurePosixPath(name)
    stem, _, part = path.name.partition(".")
    return str(path.with_name(stem)), part.lower()


def _read(where: str, sample: dict[str, bytes | None], dataset: Dataset) -> dict:
    """Class, groups and image of one sample. where: its tar and key. sample: part -> content, None if not used."""
    images = [part for part in IMAGES if part in sample]
    if not images:
        raise UserError(f"{where}: has no image (its parts: {', '.join(sample)}); make the tar again, with <key>.jpg")
    if len(images) > 1:
        raise UserError(
            f"{where}: has several images ({', '.join(images)}); make the tar again, with one of them (or with another "
            "as <key>.mask.png, which is not read)"
        )
    values = {}
    if "json" in sample:
        try:
            values = json.loads(sample["json"], parse_float=str, parse_int=str, parse_constant=lambda _: None)
        except ValueError as error:
            raise UserError(
                f"{where}.json: is not JSON ({error})", advice="correct it, and make the tar again"
            ) from None
        if not isinstance(values, dict):
            raise UserError(f'{where}.json: should be an object, as {{"{dataset.label_column}": "cat"}}')
    if "cls" in sample:
        try:
            values = {dataset.label_column: sample["cls"].decode("utf-8-sig").strip()} | values
        except UnicodeDecodeError:
            raise UserError(
                f"{where}.cls: is {sample['cls'][:40]!r}, which is not UTF-8 text", advice="write it as UTF-8"
            ) from None
    for name in (dataset.label_column, *dataset.group_columns):
        value = values.get(name)
        if isinstance(value, dict | list):
            raise UserError(
                f"{where}.json: {name!r} should be one text or number, not {json.dumps(value, ensure_ascii=False):.40}"
            )
        if value is None or not str(value).strip():
            present = ", ".join([*sample, *(f"json: {key}" for key in values)])
            raise UserError(
                f"{where}: has no {name} (its parts: {present}); set dataset.label_column, group_columns, or add it"
            )
    label, *groups = (str(values[name]) for name in (dataset.label_column, *dataset.group_columns))
    return {"label_name": label, "attributes": groups, "data": sample[images[0]]}
