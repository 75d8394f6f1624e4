"""WebDataset: tars of samples, each <key>.jpg (or .png, ...) with <key>.cls or <key>.json, read in sequence.

The name of a tar, or of a folder that it lies in, begins with its split: train-000003.tar.
"""

import json
import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath

from synaug.config import Dataset
from synaug.runtime.errors import UserError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")


def files(dataset: Dataset) -> list[Path]:
    """The tars that are used. Raises UserError if there are none, or if a split has none."""
    root = Path(dataset.path)
    tars = [root] if root.is_file() else sorted(root.rglob("*.tar"))
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

    Raises UserError for an unreadable tar, and for a sample without image, class or group.
    """
    for file in files(dataset):
        try:
            with tarfile.open(file) as tar:
                for key, parts in groupby(_members(tar), lambda member: _key(member.name)[0]):
                    sample = {_key(member.name)[1]: tar.extractfile(member).read() for member in parts}
                    yield {"split": _split(file, dataset)} | _read(f"{file}: {key}", sample, dataset)
        except (tarfile.TarError, OSError, EOFError) as error:
            why = str(error).partition("\n")[0].rstrip(":")
            raise UserError(f"{file}: cannot be read as tar ({why}); make or download it again") from None


def _split(file: Path, dataset: Dataset) -> str | None:
    if dataset.unsplit:
        return dataset.train_split
    parts = file.relative_to(dataset.path).parts if Path(dataset.path).is_dir() else [file.name]
    # Longest first: validation-0.tar is not of the split `val` if there is a split `validation`.
    splits = sorted(dataset.splits, key=len, reverse=True)
    return next((split for name in reversed(parts) for split in splits if name.startswith(split)), None)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files that are not hidden. Links are skipped, since the file that they point to is listed itself."""
    return (member for member in tar if member.isfile() and not PurePosixPath(member.name).name.startswith("."))


def _key(name: str) -> tuple[str, str]:
    """Sample and part, cut at the first dot: `a/0001.seg.png` is the part `seg.png` of the sample `a/0001`."""
    path = PurePosixPath(name)
    stem, _, part = path.name.partition(".")
    return str(path.with_name(stem)), part.lower()


def _read(where: str, sample: dict[str, bytes], dataset: Dataset) -> dict:
    """Class, groups and image of one sample. where: its tar and key. sample: part -> content."""
    image = next((sample[part] for part in IMAGES if part in sample), None)
    if image is None:
        raise UserError(f"{where}: has no image (its parts: {', '.join(sample)}); make the tar again, with <key>.jpg")
    values = {}
    if "json" in sample:
        try:
            values = json.loads(sample["json"], parse_float=str, parse_int=str, parse_constant=lambda _: None)
        except ValueError as error:
            raise UserError(f"{where}.json: is not JSON ({error})") from None
        if not isinstance(values, dict):
            raise UserError(f'{where}.json: should be an object, as {{"{dataset.label_column}": "cat"}}')
    if "cls" in sample:
        values = {dataset.label_column: sample["cls"].decode(errors="replace").strip()} | values
    for name in (dataset.label_column, *dataset.group_columns):
        if str(values.get(name) or "").strip() == "" or isinstance(values[name], dict | list):
            present = ", ".join([*sample, *(f"json: {key}" for key in values)])
            raise UserError(
                f"{where}: has no {name} (its parts: {present}); set dataset.label_column, group_columns, or add it"
            )
    label, *groups = (str(values[name]) for name in (dataset.label_column, *dataset.group_columns))
    return {"label_name": label, "attributes": groups, "data": image}
