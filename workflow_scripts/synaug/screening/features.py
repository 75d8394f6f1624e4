"""The features of images that the screening writes: reading them, and choosing images that cover all of them."""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaug.manifests import read_table
from synaug.runtime.errors import UserError

# Similarities in memory at a time: 32 MB.
_BLOCK = 1 << 22


def check_size(images: int, values: int) -> None:
    """Raise UserError if a table cannot hold the features of so many `images`, of so many `values` each.

    Arrow counts the values of a column of lists with 31 bits, and a table is read and written as a whole.
    """
    if images * values >= 1 << 31:
        raise UserError(
            f"{images:,} images with {values:,} features each are {images * values:,} numbers, and a table "
            f"can hold {(1 << 31) - 1:,}",
            advice="divide the experiment (docs/scaling.md), or use a network with fewer features",
        )


class Features(NamedTuple):
    """positions: row of each image in `matrix` (index: source, image_id). matrix: float, N x D. extractor: network."""

    positions: pd.Series
    matrix: np.ndarray
    extractor: str


def read_features(path: str | os.PathLike) -> Features:
    """Read the manifest `features`."""
    table = read_table("features", path, ["image_id", "source", "features", "extractor"])
    keys = table.select(["source", "image_id"]).to_pandas().astype("str")
    values = table.column("features").combine_chunks().values.to_numpy(zero_copy_only=False)
    matrix = values.reshape(len(keys), -1) if len(keys) else np.empty((0, 0), np.float32)
    extractors = table.column("extractor").unique().to_pylist()
    positions = pd.Series(np.arange(len(keys)), pd.MultiIndex.from_frame(keys))
    return Features(positions, matrix, extractors[0] if extractors else "")


def covering(features: np.ndarray, count: int) -> np.ndarray:
    """Positions (int64) of `count` images that together represent all images, in the order in which they are chosen.

    Greedy facility location (Nemhauser, Wolsey and Fisher 1978; for training sets: Wei, Iyer and Bilmes, ICML 2015):
    the next image is the one that adds most to the sum, over all images, of the highest cosine similarity to a chosen
    image. The first is therefore the most typical image, and an outlier comes late, because it represents only itself.
    Ties go to the earlier image. features: float, N x D, N >= count.
    """
    values = np.nan_to_num(np.asarray(features, np.float64))
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.finfo(float).tiny)
    covered = np.full(len(unit), -1.0)
    gains = len(unit) + unit @ unit.sum(0)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(np.argmax(gains.round(9)))  # the last digits are noise, which would decide between equal images
        similar = unit @ unit[best]
        # The gains change only by the images that `best` represents better than those before: fewer and fewer.
        changed = np.flatnonzero(similar > covered)
        for block in np.array_split(changed, -(-len(changed) * len(unit) // _BLOCK) or 1):
            similarities = unit[block] @ unit.T
            np.clip(similarities, covered[block, None], similar[block, None], out=similarities)
            gains -= similarities.sum(0) - covered[block].sum()
        covered[changed] = similar[changed]
        gains[best] = -np.inf
        chosen.append(best)
    return np.array(chosen, np.int64)
