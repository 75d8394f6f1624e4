"""Faults in the data: which images have one, by the columns of the manifest `real`, and leaving such images out."""

import logging

import pandas as pd

from synaug.config import Dataset
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)
# Modified z-score above which an image is an outlier: B. Iglewicz, D. Hoaglin, "How to Detect and Handle Outliers",
# 1993.
OUTLIER = 3.5
# Kind of fault -> `reason` of an image that is dropped for it. An image with several faults gets the first of them.
REASONS = {
    "leaks": "dropped: near-duplicate of an image of a held-out split",
    "duplicates": "dropped: near-duplicate of another image of its split",
    "label_issues": "dropped: label issue",
    "outliers": "dropped: outlier",
}


def faults_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Which faults each image of `rows` (manifest `real`) has: a column (bool) for each kind of REASONS."""
    return pd.DataFrame(
        {
            "leaks": rows["leak_of"].notna(),
            "duplicates": rows["duplicate_of"].notna(),
            "label_issues": rows["suggested_label"].notna(),
            "outliers": rows["outlier_score"] > OUTLIER,
        }
    )[list(REASONS)]


def drop_faults(rows: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """`rows` (manifest `real`, with the columns of faults), where images with the faults of the config are not usable.

    Only training images are dropped, and validation images that are also in the test split: without a test image, the
    figures of an experiment could not be compared with others. Raises UserError if a class loses its last training
    image, or the validation split its last image.
    """
    found, is_train = faults_of(rows), rows["split"] == dataset.train_split
    reasons = rows["reason"].astype(object)
    for kind, reason in REASONS.items():
        if kind in dataset.faults.drop:
            is_dropped = found[kind] & reasons.isna() & (is_train | (kind == "leaks"))
            reasons[is_dropped] = reason
            for split, count in rows.loc[is_dropped, "split"].value_counts().items():
                log.info("faults: %d images of split %r are %s", count, split, reason)
    dropped = rows.assign(usable=reasons.isna(), reason=reasons)
    for split, name in ((dataset.train_split, "label_name"), (dataset.validation_split, "split")):
        before, after = (of.loc[of["usable"] & (of["split"] == split), name] for of in (rows, dropped))
        if lost := sorted(set(before) - set(after)):
            what = f"class {lost[0]!r} keeps no training image" if name == "label_name" else f"split {split!r} is empty"
            raise UserError(
                f"dataset.faults.drop: {what}, because all {(before == lost[0]).sum()} are dropped",
                advice="drop fewer kinds of faults, or correct the data by the columns of real.parquet",
            )
    return dropped
