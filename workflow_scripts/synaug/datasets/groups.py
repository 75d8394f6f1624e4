"""Functions shared by the known data sets whose images have groups (UTKFace, Waterbirds, CelebA)."""

from collections.abc import Iterable
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.tree import Boundary
from synaug.runtime.errors import UserError
from synaug.runtime.files import check_regular_file

# Split numbers in the files of Waterbirds and CelebA.
SPLITS = {"0": "train", "1": "val", "2": "test"}


def image_row(split: str, label_name: str | None, attributes: list[str], path: Path, boundary: Boundary) -> dict:
    """The dict of an image file (see `folder.find`). boundary: of the data set's folder."""
    return {"split": split, "label_name": label_name, "attributes": attributes, **boundary.row(path)}


def check_groups(dataset: Dataset, columns: Iterable[str], label: str | None = None) -> None:
    """Raise UserError unless `group_columns` are distinct, among `columns`, and different from the class `label`."""
    columns = list(columns)
    for number, name in enumerate(dataset.group_columns):
        if name not in columns:
            raise UserError(f"dataset.group_columns: {name!r} should be one of {', '.join(columns)}")
        if name == label:
            raise UserError(f"dataset.group_columns: {name!r} is already the class (dataset.label_column); remove it")
        if name in dataset.group_columns[:number]:
            raise UserError(f"dataset.group_columns: {name!r} is listed twice; remove one")


def check_splits(dataset: Dataset) -> None:
    """Raise UserError unless every split of `dataset` is an official one."""
    for key in ("train_split", "test_split", "validation_split"):
        name = getattr(dataset, key)
        if name is not None and name not in SPLITS.values():
            raise UserError(f"dataset.{key}: {name!r} should be one of {', '.join(SPLITS.values())}")


def read_lines(file: Path) -> list[str]:
    """The lines of a text file. Raises UserError if it cannot be read."""
    check_regular_file(file)
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text ({error}); download it again") from None
