"""Manifests whose image paths are those of this machine."""

import os
from collections.abc import Sequence

import pandas as pd

from synaug.manifests import read_manifest
from synaug.runtime.paths import place_of, root_of


def read_located(
    kind: str, manifest: str | os.PathLike, columns: Sequence[str] | None = None, filters=None
) -> pd.DataFrame:
    """As `read_manifest`, with paths at which this job can read the images. Not to be written to another manifest."""
    rows, root = read_manifest(kind, manifest, columns, filters), root_of(manifest)
    places = {path: place_of(path, root) for path in rows["path"].dropna().unique()}
    return rows.assign(path=rows["path"].map(places))
