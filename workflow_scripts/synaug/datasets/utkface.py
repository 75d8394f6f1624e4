"""UTKFace (Zhang et al. 2017): one folder of faces, whose file names hold age, gender and race.

A name is `<age>_<gender>_<race>_<date and time>.jpg`, followed by `.chip.jpg` if the face is cropped. There is no
official split: a fifth of the images, chosen by a hash of their names, are test images.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import check_groups, image_row
from synaug.datasets.tree import Boundary
from synaug.runtime.errors import UserError

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
# First year of each age group, and its name.
AGES = (
    (0, "baby"),
    (3, "child"),
    (13, "teenager"),
    (20, "twenties"),
    (30, "thirties"),
    (40, "forties"),
    (50, "fifties"),
    (60, "60 or older"),
)
COLUMNS = ("age", "gender", "race")
TEST_SHARE = 0.2
UNNAMED = "the file name does not hold age, gender and race"

# Three published names lack a value (39_1_20170116174525125.jpg.chip.jpg); others have a blank or no dot before `jpg`.
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)\D.*", re.ASCII)


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per file, as `folder.find` does, with the values of `group_columns` as `attributes`.

    A file whose name lacks a value is listed in the training split with `label_name` None, no attributes, and a
    `reason`. Raises UserError for a missing folder and for columns that UTKFace does not have.
    """
    root = _folder(dataset)
    boundary = Boundary(root, dataset.follow_links)
    for path in sorted(_images(root)):
        if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
            raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
        values = describe(path.name)
        if values is None:
            yield image_row(dataset.train_split, None, [], path, boundary) | {"reason": UNNAMED}
        else:
            split = dataset.test_split if is_test(path.name) else dataset.train_split
            groups = [values[name] for name in dataset.group_columns]
            yield image_row(split, values[dataset.label_column], groups, path, boundary)


def files(dataset: Dataset) -> list[Path]:
    """An empty list, since there are too many files (see `image_files`). Raises UserError as `find` does."""
    _folder(dataset)
    return []


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all files of the folder. Raises UserError as `files`."""
    return (str(path) for path in sorted(_images(_folder(dataset))))


def describe(name: str) -> dict[str, str] | None:
    """Age group, gender and race in a file name, or None if it lacks one of them."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    age, gender, race = (int(number) for number in match.groups()[:3])
    return {"age": age_group(age), "gender": GENDERS[gender], "race": RACES[race]}


def age_group(age: int) -> str:
    """The name of the age group of `age` (years, 0 or more)."""
    return next(name for first, name in reversed(AGES) if age >= first)


def is_test(name: str) -> bool:
    """Whether the image is a test image, by a hash of its name.

    The endings `.jpg` and `.jpg.chip.jpg` do not count, so a photo and the face cropped from it are in the same split.
    """
    match = _NAME.fullmatch(name)
    key = "_".join(match.groups()) if match else name
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) < TEST_SHARE * 2**64


def _folder(dataset: Dataset) -> Path:
    """The folder of the images. Raises UserError if it is missing or empty, or if UTKFace lacks one of the columns."""
    if dataset.label_column not in COLUMNS:
        raise UserError(f"dataset.label_column: {dataset.label_column!r} should be one of {', '.join(COLUMNS)}")
    check_groups(dataset, COLUMNS, dataset.label_column)
    root = Path(dataset.path)
    if not root.is_dir():
        raise UserError(f"dataset.path: {root} is not a folder; give the folder UTKFace/ of the images")
    if next(_images(root), None) is None:
        below = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir())) or "none"
        raise UserError(f"dataset.path: {root} holds no files (folders: {below}); give the folder of the images itself")
    return root


def _images(root: Path) -> Iterator[Path]:
    """All files of the folder that are not hidden. Folders below it are skipped: they often hold copies."""
    return (path for path in root.iterdir() if not path.name.startswith(".") and not path.is_dir())
