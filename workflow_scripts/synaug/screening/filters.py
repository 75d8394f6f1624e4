"""The verdict on every synthetic image: scores against thresholds. A rejected image keeps its row, and has a reason."""

import numpy as np
import pandas as pd

from synaug.config.screening import Screening, SimilarityThresholds

# In this order: an image that fails several checks is said to fail the first of them.
CHECKS = ("file", "contrast", "safety", "text_image", "classifier", "leakage_test", "leakage_train", "duplicates")


def screen_synthetic(scores: pd.DataFrame, screening: Screening) -> pd.DataFrame:
    """Rows of the manifest `synthetic`: those of the manifest `scores` with accepted, rejected_by and reason."""
    rows = scores.sort_values(["label", "index"], ignore_index=True)
    reasons = pd.Series([None] * len(rows), dtype=object)
    rejected_by = pd.Series([None] * len(rows), dtype=object)

    def reject(check: str, failed: pd.Series, reason) -> None:
        for i in np.flatnonzero(failed & reasons.isna()):
            reasons[i], rejected_by[i] = reason(rows.iloc[i]), check

    reject("file", rows["fault"].notna(), lambda row: row["fault"])
    low = screening.min_contrast
    reject("contrast", rows["contrast"] < low, lambda row: f"is blank (contrast {row['contrast']:.2f} < {low:g})")
    if screening.safety and (most := screening.safety.max_score) is not None:
        failed = ~(rows["safety_score"] <= most)  # what is not a number is not safe
        reject("safety", failed, lambda row: f"is unsafe (score {row['safety_score']:.3f} > {most:g})")
    if screening.text_image and (least := screening.text_image.min_score) is not None:
        failed = ~(rows["text_image_score"] >= least)
        text = "does not show its prompt (similarity {:.3f} < {:g})"
        reject("text_image", failed, lambda row: text.format(row["text_image_score"], least))
    if screening.classifier and (sure := screening.classifier.min_confidence) is not None:
        failed = ~(rows["classifier_confidence"] >= sure)
        what = "is not taken for its class (confidence {:.3f} < {:g})"
        reject("classifier", failed, lambda row: what.format(row["classifier_confidence"], sure))
    for split, what in (("test", "test image"), ("train", "real training image")) if screening.leakage else ():
        for column, measure, failed in _near(rows, split, screening.leakage):
            # Not "copies": two images of clothes may well have the same hash.
            text = f"is too near to the {what} {{}} ({{}})".format
            reject(f"leakage_{split}", failed, lambda row, c=column, m=measure, t=text: t(row[c], m(row)))
    if screening.duplicates:
        kept = _first_of_group(rows, reasons.isna(), screening.duplicates)
        reject(
            "duplicates",
            kept.notna() & (kept != rows["image_id"]),
            lambda row: f"repeats the earlier image {kept[row.name]}",
        )
    return rows.drop(columns="fault").assign(accepted=reasons.isna(), rejected_by=rejected_by, reason=reasons)


def _near(rows: pd.DataFrame, name: str, limits: SimilarityThresholds):
    """For each threshold that is on: column of the neighbour's id, its distance as text, rows that are too near."""
    if (bits := limits.max_hash_distance) is not None:
        column = f"nearest_{name}_distance"
        yield f"hash_nearest_{name}", lambda row: f"hash distance {row[column]:.0f} <= {bits}", rows[column] <= bits
    if (alike := limits.min_similarity) is not None:
        other = f"nearest_{name}_similarity"
        yield f"nearest_{name}", lambda row: f"similarity {row[other]:.4f} >= {alike:g}", rows[other] >= alike


def _first_of_group(rows: pd.DataFrame, passed: pd.Series, limits: SimilarityThresholds) -> pd.Series:
    """For each image the id of the first one of its group, in plan order, that passed; null if none of them did.

    A group is what hangs together by links of an image to its nearest earlier one, if that is too near: so that of a
    series of repeats one is kept, also when the first of them failed another check.
    """
    # Here: the rules read this module, and every call of Snakemake would wait for scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    position = pd.Series(np.arange(len(rows)), rows["image_id"])
    links = [np.empty((2, 0), np.int64)]
    for column, _, near in _near(rows, "earlier", limits):
        here = np.flatnonzero(near & rows[column].notna())
        links.append(np.stack([here, position[rows[column].iloc[here]].to_numpy()]))
    start, end = np.concatenate(links, axis=1)
    count = len(rows)
    _, group = connected_components(coo_array((np.ones(len(start)), (start, end)), shape=(count, count)), False)
    first = rows["image_id"][passed].groupby(group[passed.to_numpy()]).first()
    return pd.Series(group, rows.index).map(first)
