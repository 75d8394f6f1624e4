"""Where the files are that manifests and the config name.

Their paths start from the folder that results/ lies in, which is the working directory of a job, unless the results are
in a storage: then a job gets copies of its inputs in a folder below, and finds results/ and what else is stored there.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from synaug.manifests import read_manifest


def root_of(manifest: str | os.PathLike) -> Path:
    """The folder that holds results/. manifest: results/<experiment>/<file>, the place of a job's input or output."""
    return Path(manifest).parents[2]


def place_of(path: str, root: Path) -> str:
    """Where a job finds `path`: below `root` if it is there, else where it says (a file that is in no storage)."""
    return str(root / path) if (root / path).exists() else path


def name_of(place: str, root: Path) -> str:
    """The path to record for a file at `place`, the other way round."""
    return str(Path(place).relative_to(root)) if Path(place).is_relative_to(root) else place


def read_located(
    kind: str, manifest: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """As `read_manifest`, with paths at which this job can read the images. Not to be written to another manifest."""
    rows, root = read_manifest(kind, manifest, columns, filters), root_of(manifest)
    places = {path: place_of(path, root) for path in rows["path"].dropna().unique()}
    return rows.assign(path=rows["path"].map(places))
