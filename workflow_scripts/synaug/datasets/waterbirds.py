"""Waterbirds (Sagawa et al. 2020): birds pasted on places, in the layout of `waterbird_complete95_forest2water2`.

`metadata.csv` lists the images, relative to its folder. Class: landbird or waterbird. Group column `background`: land
or water. The splits are the official ones: train, val, test.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import SPLITS, check_groups, check_splits, image_row, read_lines
from synaug.runtime.errors import UserError

CLASSES = {"0": "landbird", "1": "waterbird"}
BACKGROUNDS = {"0": "land", "1": "water"}
GROUP_COLUMN = "background"

_CODES = {"y": CLASSES, "split": SPLITS, "place": BACKGROUNDS}


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, path, row` (null), `data` and `attributes` (the background, if asked for) of every row.

    Raises UserError for a missing table or column, an unknown group or split, and a row that is not as it should be.
    """
    (file,) = files(dataset)
    root = file.parent
    inside = root.resolve()
    for number, row in _rows(file):
        said = {}
        for column, names in _CODES.items():
            value = (row[column] or "").strip()
            if value not in names:
                raise UserError(f"{file}: line {number}: {column} is {value!r}, should be {' or '.join(names)}")
            said[column] = names[value]
        groups = [said["place"] for _ in dataset.group_columns]
        yield image_row(said["split"], said["y"], groups, root / (row["img_filename"] or ""), inside)


def files(dataset: Dataset) -> list[Path]:
    """The table. Raises UserError if it is missing, or for an unknown group or split."""
    check_groups(dataset, [GROUP_COLUMN])
    check_splits(dataset)
    file = Path(dataset.path) / "metadata.csv"
    if not file.is_file():
        raise UserError(
            f"dataset.path: {dataset.path} holds no metadata.csv; give the folder waterbird_complete95_forest2water2/"
        )
    return [file]


def _rows(file: Path) -> Iterator[tuple[int, dict]]:
    """(number of the line, {column: text}) of every row after the header."""
    reader = csv.DictReader(read_lines(file))
    try:
        there = reader.fieldnames or []
        for name in ("img_filename", *_CODES):
            if name not in there:
                said = ", ".join(there) or "none"
                raise UserError(f"{file}: has no column {name!r} (there: {said}); use the published file")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read as CSV ({error}); download it again") from None
