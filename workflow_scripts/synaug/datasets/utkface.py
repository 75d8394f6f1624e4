"""UTKFace (Zhang et al. 2017): one folder of faces, whose names say age, gender and race.

A name is `<age>_<gender>_<race>_<date and time>.jpg`, with `.chip.jpg` behind it where the face is cut out. There is no
official split: a fifth of the images, chosen by a hash of their names, are for the test.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import check_groups, image_row
from synaug.runtime.errors import UserError

GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
# First year of each age group, its name, and how a prompt may say it ("a headshot of a person in their twenties").
AGES = (
    (0, "baby", "who is a baby"),
    (3, "child", "who is a child"),
    (13, "teenager", "who is a teenager"),
    (20, "twenties", "in their twenties"),
    (30, "thirties", "in their thirties"),
    (40, "forties", "in their forties"),
    (50, "fifties", "in their fifties"),
    (60, "60 or older", "aged 60 or older"),
)
AGE_PHRASES = {name: phrase for _, name, phrase in AGES}
COLUMNS = ("age", "gender", "race")
TEST_SHARE = 0.2
UNNAMED = "the file name says no age, gender and race"

# Three published names lack the race (39_1_20170116174525125.jpg.chip.jpg); others have a blank or no dot before `jpg`.
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)\D.*", re.ASCII)


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row` (null), `data` and `attributes` (values of `group_columns`) of every file.

    A file whose name does not say what it should has, beside the split that is trained on, `label_name` None, no
    attributes, and a `reason`. Raises UserError for a missing folder and for columns that UTKFace does not have.
    """
    root = _folder(dataset)
    inside = root.resolve()
    for path in sorted(_images(root)):
        if not str(path).isascii() and str(path).encode(errors="replace").decode() != str(path):
            raise UserError(f"{str(path)!a}: the file name is not UTF-8; rename it")
        found = describe(path.name)
        if found is None:
            yield image_row(dataset.train_split, None, [], path, inside) | {"reason": UNNAMED}
        else:
            split = dataset.test_split if is_test(path.name) else dataset.train_split
            groups = [found[name] for name in dataset.group_columns]
            yield image_row(split, found[dataset.label_column], groups, path, inside)


def files(dataset: Dataset) -> list[Path]:
    """None to be declared one by one, as for a folder. Raises UserError as `find` does."""
    _folder(dataset)
    return []


def describe(name: str) -> dict[str, str] | None:
    """The age group, gender and race that a file name says, or None."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    age, gender, race = (int(number) for number in match.groups()[:3])
    return {"age": age_group(age), "gender": GENDERS[gender], "race": RACES[race]}


def age_group(age: int) -> str:
    """The name of the age group of `age` (whole years, 0 or more)."""
    return next(name for first, name, _ in reversed(AGES) if age >= first)


def is_test(name: str) -> bool:
    """Whether the image of this name is for the test: by a hash of the name alone.

    The ends `.jpg` and `.jpg.chip.jpg` do not count, so that a whole photo goes where the face cut out of it goes.
    """
    match = _NAME.fullmatch(name)
    key = "_".join(match.groups()) if match else name
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) < TEST_SHARE * 2**64


def _folder(dataset: Dataset) -> Path:
    """The folder of the images. Raises UserError if it is missing or empty, or if a column is not one of UTKFace."""
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
    """All files in the folder, but for hidden ones; not those below it, where copies often lie."""
    return (path for path in root.iterdir() if not path.name.startswith(".") and not path.is_dir())
