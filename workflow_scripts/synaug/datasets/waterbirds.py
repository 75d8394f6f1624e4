"""Waterbirds (Sagawa et al. 2020): birds pasted on backgrounds, in the layout of `waterbird_complete95_forest2water2`.

`metadata.csv` lists the images, relative to its folder. Class: landbird or waterbird. Group column `background`: land
or water. The splits are the official ones: train, val, test.
"""

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from synaug.config import Dataset
from synaug.datasets.groups import SPLITS, check_groups, check_splits, image_row, read_lines
from synaug.datasets.tree import Boundary
from synaug.runtime.errors import UserError

CLASSES = {"0": "landbird", "1": "waterbird"}
BACKGROUNDS = {"0": "land", "1": "water"}
GROUP_COLUMN = "background"

_CODES = {"y": CLASSES, "split": SPLITS, "place": BACKGROUNDS}


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield a dict per row of the table, as `folder.find` does; `attributes` is the background if it is a group column.

    Raises UserError for a missing table or column, an unknown group or split, and a malformed row.
    """
    (file,) = files(dataset)
    root = file.parent
    boundary = Boundary(root, dataset.follow_links)
    for number, row in _rows(file):
        decoded = {}
        for column, names in _CODES.items():
            code = (row[column] or "").strip()
            if code not in names:
                raise UserError(f"{file}: line {number}: {column} is {code!r}, should be {' or '.join(names)}")
            decoded[column] = names[code]
        groups = [decoded["place"] for _ in dataset.group_columns]
        yield image_row(decoded["split"], decoded["y"], groups, root / (row["img_filename"] or ""), boundary)


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


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of all images of the table. Raises UserError as `files`, and for a table that cannot be read."""
    (file,) = files(dataset)
    return (os.path.join(file.parent, row["img_filename"] or "") for _, row in _rows(file))


def _rows(file: Path) -> Iterator[tuple[int, dict]]:
    """(line number, {column: text}) of every row after the header."""
    reader = csv.DictReader(read_lines(file))
    try:
        columns = reader.fieldnames or []
        for name in ("img_filename", *_CODES):
            if name not in columns:
                present = ", ".join(columns) or "none"
                raise UserError(f"{file}: has no column {name!r} (its columns: {present}); use the published file")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}: cannot be read as CSV ({error}); download it again") from None
