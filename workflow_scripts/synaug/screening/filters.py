"""Filters: thresholds on the scores of the synthetic images. A rejected image stays as a row, with the reason."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from synaug.config.screening import Screening, SimilarityThresholds
from synaug.runtime.errors import UserError

# In this order. An image that fails several filters is rejected by the first of them.
FILTERS = ("file", "contrast", "safety", "text_image", "classifier", "leakage_test", "leakage_train", "duplicates")


def apply_filters(scores: pd.DataFrame, screening: Screening) -> pd.DataFrame:
    """Rows of the manifest `synthetic`: those of the manifest `scores` with accepted, rejected_by, reason and weight.

    Raises UserError if a check of the predicted class is set, and the scores do not have it.
    """
    rows = scores.sort_values(["label", "index"], ignore_index=True)
    rejected_by = pd.Series([None] * len(rows), dtype=object)
    reasons = pd.Series([None] * len(rows), dtype=object)

    def reject(name: str, failed: pd.Series, reason: str) -> None:
        """Reject images that `failed` the filter `name` but none before it. reason: text with columns in braces."""
        for i in np.flatnonzero(failed & reasons.isna()):
            rejected_by[i], reasons[i] = name, reason.format(**rows.iloc[i])

    reject("file", rows["fault"].notna(), "{fault}")
    low = screening.min_contrast
    reject("contrast", rows["contrast"] < low, f"is blank (contrast {{contrast:.2f}} < {low:g})")
    # A network score that is NaN fails its filter: hence `not (score <= maximum)` instead of `score > maximum`.
    if screening.safety and (high := screening.safety.max_score) is not None:
        reason = f"is unsafe (score {{safety_score:.3f}} > {high:g})"
        reject("safety", ~(rows["safety_score"] <= high), reason)
    if screening.text_image and (low := screening.text_image.min_score) is not None:
        reason = f"does not show its prompt (similarity {{text_image_score:.3f}} < {low:g})"
        reject("text_image", ~(rows["text_image_score"] >= low), reason)
    if screening.classifier and (low := screening.classifier.min_confidence) is not None:
        reason = f"is not taken for its class (confidence {{classifier_confidence:.3f}} < {low:g})"
        reject("classifier", ~(rows["classifier_confidence"] >= low), reason)
    weight = 1.0
    if screening.classifier and screening.classifier.uses_prediction:
        scored = rows["classifier_confidence"].notna()
        if scored.any() and rows["classifier_prediction"].isna().all():
            raise UserError(
                "scores.parquet: has no predicted classes, because an older version wrote it",
                advice="delete it and run again",
            )
        agrees = read_as_its_class(rows)
        if screening.classifier.must_agree:
            reject("classifier", ~scored, "has no predicted class (its probabilities are not numbers)")
            reason = "is taken for {classifier_prediction} (confidence in its own class {classifier_confidence:.3f})"
            reject("classifier", ~agrees, reason)
        weight = np.where(agrees, 1.0, screening.classifier.disagreement_weight)
    if screening.leakage:
        for split, image in (("test", "test image"), ("train", "real training image")):
            for neighbour, similarity, failed in _too_similar(rows, split, screening.leakage):
                # Not "copies": two images of clothes may well have the same hash.
                reject(f"leakage_{split}", failed, f"is too near to the {image} {{{neighbour}}} ({similarity})")
    if screening.duplicates:
        rows["kept"] = _kept_duplicate(rows, reasons.isna(), screening.duplicates)
        repeats = rows["kept"].notna() & (rows["kept"] != rows["image_id"])
        reject("duplicates", repeats, "repeats the earlier image {kept}")
        rows = rows.drop(columns="kept")
    verdict = {"accepted": reasons.isna(), "rejected_by": rejected_by, "reason": reasons, "weight": weight}
    return rows.drop(columns="fault").assign(**verdict)


def read_as_its_class(rows: pd.DataFrame) -> pd.Series:
    """Whether the screening classifier predicts the class that an image was generated for: bool, aligned with `rows`.

    rows: of the manifests `scores` or `synthetic`. An image without a confidence (it cannot be read, or the classifier
    gave NaN) is not read as its class.
    """
    return (rows["classifier_prediction"] == rows["label_name"]) & rows["classifier_confidence"].notna()


def _too_similar(
    rows: pd.DataFrame, others: str, thresholds: SimilarityThresholds
) -> Iterator[tuple[str, str, pd.Series]]:
    """Which images are too similar to their nearest neighbour, for each threshold that is set.

    others: where the neighbours were searched, as in the column names: earlier, train or test. Yields the column with
    the neighbour's id, how similar it is (text with a column in braces), and which rows are too similar.
    """
    if (maximum := thresholds.max_hash_distance) is not None:
        column = f"nearest_{others}_distance"
        yield f"hash_nearest_{others}", f"hash distance {{{column}:.0f}} <= {maximum}", rows[column] <= maximum
    if (minimum := thresholds.min_similarity) is not None:
        column = f"nearest_{others}_similarity"
        yield f"nearest_{others}", f"similarity {{{column}:.4f}} >= {minimum:g}", rows[column] >= minimum


def _kept_duplicate(rows: pd.DataFrame, passed: pd.Series, thresholds: SimilarityThresholds) -> pd.Series:
    """For each image, the id of the image kept from its group of near-duplicates; null if none is kept.

    A group is a connected component of the graph in which each image is linked to its nearest earlier image, if that is
    too similar. The image that is kept is the first in the order of the plan that `passed` all other filters. So one
    image of a series of repeats is kept, even if the first of them fails another filter.
    """
    # Imported here because the rules import this package: else every Snakemake call would wait for scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    position = pd.Series(np.arange(len(rows)), rows["image_id"])
    links = [np.empty((2, 0), np.int64)]
    for neighbour, _, too_similar in _too_similar(rows, "earlier", thresholds):
        linked = np.flatnonzero(too_similar & rows[neighbour].notna())
        links.append(np.stack([linked, position[rows[neighbour].iloc[linked]].to_numpy()]))
    start, end = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(rows), len(rows)))
    _, group = connected_components(graph, directed=False)
    first_passed = rows["image_id"][passed].groupby(group[passed.to_numpy()]).first()
    return pd.Series(group, rows.index).map(first_passed)
