"""Paths in manifests and configs, and where a job finds these files.

The paths are relative to the folder that holds results/. That is the working directory of a job, unless the results are
in a storage: then a job gets copies of its inputs in a folder below, which holds results/ and whatever else is stored.
"""

import os
from pathlib import Path


def root_of(manifest: str | os.PathLike) -> Path:
    """The folder that holds results/. manifest: results/<experiment>/<file>, the place of a job's input or output."""
    return Path(manifest).parents[2]


def place_of(path: str, root: Path) -> str:
    """Where a job finds `path`: below `root` if it is there, else where it says (a file that is in no storage)."""
    return str(root / path) if (root / path).exists() else path


def name_of(place: str, root: Path) -> str:
    """The path to record for a file at `place`, the other way round."""
    return str(Path(place).relative_to(root)) if Path(place).is_relative_to(root) else place
