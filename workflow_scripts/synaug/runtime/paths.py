"""Logical paths, which stand in manifests and configs, and local paths, at which a job can open the same files.

A logical path is relative to the folder that holds results/. Without a storage that folder is the working directory of
every job, and the two are the same. With results in a storage, Snakemake copies the inputs of a job into a local folder
that again holds results/, and everything else that is stored.
"""

import os
from pathlib import Path

from synaug.runtime.errors import UserError


def results_root(manifest: str | os.PathLike) -> Path:
    """The folder that holds results/. manifest: local path of results/<experiment>/<file>.

    Raises UserError if it is not in two folders.
    """
    parents = Path(manifest).parents
    if len(parents) < 3:
        raise UserError(
            f"{manifest}: is not in results/<experiment>/, and the paths of its images start where results/ is",
            advice="name the file in the folder of its experiment",
        )
    return parents[2]


def local_path(path: str, root: Path) -> str:
    """Where a job can open the logical `path`: below `root` if that exists, else at `path` (the file is not stored)."""
    return str(root / path) if (root / path).exists() else path


def logical_path(path: str, root: Path) -> str:
    """The path to record for a file at the local `path`; the inverse of `local_path`."""
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path
