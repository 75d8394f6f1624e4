"""The features of images that the screening writes: reading them, and choosing images that cover all of them."""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaug.manifests import read_table

# Images whose gain is computed together.
_BLOCK = 64


class Features(NamedTuple):
    """positions: row of each image in `matrix` (index: source, image_id). matrix: float, N x D. extractor: network."""

    positions: pd.Series
    matrix: np.ndarray
    extractor: str


def read_features(path: str | os.PathLike) -> Features:
    """Read the manifest `features`."""
    table = read_table("features", path, ["image_id", "source", "features", "extractor"])
    keys = table.select(["source", "image_id"]).to_pandas().astype("str")
    values = table.column("features").combine_chunks().values
    matrix = values.to_numpy(zero_copy_only=False).reshape(len(keys), -1)
    extractors = table.column("extractor").unique().to_pylist()
    positions = pd.Series(np.arange(len(keys)), pd.MultiIndex.from_frame(keys))
    return Features(positions[~positions.index.duplicated()], matrix, extractors[0] if extractors else "")


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
    # The gain of an image never rises, so an earlier gain is a bound (lazy evaluation, Minoux 1978). Rounded, because
    # the last digits depend on which images are computed together.
    bounds = (len(unit) + unit @ unit.sum(0)).round(9)
    chosen: list[int] = []
    while len(chosen) < count:
        is_current = np.zeros(len(unit), bool)
        while not is_current[best := int(np.argmax(bounds))]:
            highest = np.argsort(-bounds, kind="stable")[:_BLOCK]
            highest = highest[np.isfinite(bounds[highest])]
            bounds[highest] = np.maximum(unit[highest] @ unit.T - covered, 0).sum(1).round(9)
            is_current[highest] = True
        covered = np.maximum(covered, unit @ unit[best])
        bounds[best] = -np.inf
        chosen.append(best)
    return np.array(chosen, np.int64)
