"""WebDataset: tars of <key>.jpg (or .png, ...) and <key>.cls or <key>.json, read one after the other.

The split of a tar is the one that its name, or that of a folder it lies in, begins with: train-000003.tar.
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
    """The tars that are used. Raises UserError if there are none, or none of one of the splits."""
    root = Path(dataset.path)
    there = [root] if root.is_file() else sorted(root.rglob("*.tar"))
    if not there or not root.exists():
        raise UserError(f"dataset.path: {root} holds no *.tar; give a tar, or the folder that holds them")
    if dataset.unsplit:
        return there
    given = [split for split in dataset.splits if split not in dataset.make_splits]
    for split in given:
        if not any(_split(file, dataset) == split for file in there):
            raise UserError(
                f"dataset.path: {root} holds no tar whose name begins with {split!r} (there: {there[0].name}, ...); "
                "set dataset.{train,test,validation}_split, or have splits made: dataset.make_splits"
            )
    return [file for file in there if _split(file, dataset) in given]


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` and `data` (bytes) of every sample.

    Raises UserError for a tar that cannot be read, and a sample without image, class or group.
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
    inner = file.relative_to(dataset.path).parts if Path(dataset.path).is_dir() else [file.name]
    # `val` must not take what begins with `validation`, if there is a split of that name.
    splits = sorted(dataset.splits, key=len, reverse=True)
    return next((split for name in reversed(inner) for split in splits if name.startswith(split)), None)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Files only, hidden ones apart; links are passed over, since what they point at has its own key."""
    return (member for member in tar if member.isfile() and not PurePosixPath(member.name).name.startswith("."))


def _key(name: str) -> tuple[str, str]:
    """`folder/0001.seg.png` is the part `seg.png` of the sample `folder/0001`: the name is cut at its first dot."""
    path = PurePosixPath(name)
    stem, _, part = path.name.partition(".")
    return str(path.with_name(stem)), part.lower()


def _read(where: str, sample: dict[str, bytes], dataset: Dataset) -> dict:
    """Class, groups and image of the parts of one sample."""
    image = next((sample[part] for part in IMAGES if part in sample), None)
    if image is None:
        raise UserError(f"{where}: has no image (there: {', '.join(sample)}); make the tar again, with <key>.jpg")
    said = {}
    if "json" in sample:
        try:
            said = json.loads(sample["json"], parse_float=str, parse_int=str, parse_constant=lambda _: None)
        except ValueError as error:
            raise UserError(f"{where}.json: is no JSON ({error})") from None
        if not isinstance(said, dict):
            raise UserError(f'{where}.json: should be an object, as {{"{dataset.label_column}": "cat"}}')
    if "cls" in sample:
        said = {dataset.label_column: sample["cls"].decode(errors="replace").strip()} | said
    for name in (dataset.label_column, *dataset.group_columns):
        if str(said.get(name) or "").strip() == "" or isinstance(said[name], dict | list):
            there = ", ".join([*sample, *(f"json: {key}" for key in said)])
            raise UserError(
                f"{where}: has no {name} (there: {there}); set dataset.label_column, group_columns, or add it"
            )
    label, *groups = (str(said[name]) for name in (dataset.label_column, *dataset.group_columns))
    return {"label_name": label, "attributes": groups, "data": image}
