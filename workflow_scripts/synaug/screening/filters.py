"""Filters: thresholds on the scores of the synthetic images. A rejected image stays as a row, with the reason."""

from collections.abc import Callable, Iterable, Iterator
from string import Formatter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synaug.config.screening import Screening, SimilarityThresholds
from synaug.runtime.errors import UserError

# In this order. An image that fails several filters is rejected by the first of them.
FILTERS = ("file", "contrast", "safety", "text_image", "classifier", "leakage_test", "leakage_train", "duplicates")


# The columns of the manifest `scores` that decide.
COLUMNS = [
    "image_id", "label_name", "index", "fault", "contrast", "safety_score", "text_image_score", "classifier_confidence",
    "classifier_prediction",
    *[f"{name}_{other}{of}" for other in ("earlier", "train", "test")
      for name, of in (("nearest", ""), ("nearest", "_similarity"), ("hash_nearest", ""), ("nearest", "_distance"))],
]  # fmt: skip
# Rows of the manifest `scores` in parts, one after the other: a function of the columns that are needed. It is called
# several times.
Parts = Callable[[list[str]], Iterable[pd.DataFrame]]


def apply_filters(scores: pd.DataFrame, screening: Screening) -> pd.DataFrame:
    """Rows of the manifest `synthetic`: those of the manifest `scores` with accepted, rejected_by, reason and weight.

    Raises UserError as `verdicts`.
    """
    rows = scores.sort_values(["label", "index"], ignore_index=True)
    [verdict] = verdicts(lambda columns: [rows], screening)
    return rows.drop(columns="fault").assign(**verdict)


def verdicts(parts: Parts, screening: Screening) -> Iterator[pd.DataFrame]:
    """The columns accepted, rejected_by, reason and weight of each part, aligned with its rows.

    parts: the rows of the manifest `scores`, in its order; the images of a class in the order of the plan will do.
    Raises UserError if a check of the predicted class is set, and the scores do not have it.
    """
    if screening.classifier and screening.classifier.uses_prediction:
        _check_predictions(parts)
    repeats: dict[int, str] = {}
    if screening.duplicates:
        repeats = _repeats(parts, screening, screening.duplicates)
    start = 0
    for rows in parts(COLUMNS):
        rejected_by = np.full(len(rows), None, object)
        reasons = np.full(len(rows), None, object)
        left = np.ones(len(rows), bool)

        def reject(name: str, failed: np.ndarray, reason: str, rows: pd.DataFrame = rows) -> None:
            """Reject images that `failed` the filter `name` but none before it."""
            at = np.flatnonzero(failed & left)  # noqa: B023
            shown = [column for _, column, _, _ in Formatter().parse(reason) if column]
            texts = [reason.format(**row) for row in rows[shown].iloc[at].to_dict("records")] if shown else reason
            rejected_by[at], reasons[at], left[at] = name, texts, False  # noqa: B023

        for check in _checks(rows, screening):
            reject(*check)
        if repeats:
            kept = pd.Series([repeats.get(position) for position in range(start, start + len(rows))], dtype=object)
            reject(
                "duplicates", kept.notna().to_numpy(), "repeats the earlier image {kept}", pd.DataFrame({"kept": kept})
            )
        weight = np.ones(len(rows))
        if screening.classifier and screening.classifier.uses_prediction:
            weight = np.where(read_as_its_class(rows), 1.0, screening.classifier.disagreement_weight)
        start += len(rows)
        verdict = {"accepted": left, "rejected_by": rejected_by, "reason": reasons, "weight": weight}
        yield pd.DataFrame(verdict, rows.index).astype({"rejected_by": object, "reason": object})


def _checks(rows: pd.DataFrame, screening: Screening) -> Iterator[tuple[str, np.ndarray, str]]:
    """All filters but the last: name, which of `rows` fail it, and the reason, a text with columns in braces."""
    yield "file", rows["fault"].notna().to_numpy(), "{fault}"
    low = screening.min_contrast
    yield "contrast", (rows["contrast"] < low).to_numpy(), f"is blank (contrast {{contrast:.2f}} < {low:g})"
    # A network score that is NaN fails its filter: hence `not (score <= maximum)` instead of `score > maximum`.
    if screening.safety and (high := screening.safety.max_score) is not None:
        reason = f"is unsafe (score {{safety_score:.3f}} > {high:g})"
        yield "safety", ~(rows["safety_score"] <= high).to_numpy(), reason
    if screening.text_image and (low := screening.text_image.min_score) is not None:
        reason = f"does not show its prompt (similarity {{text_image_score:.3f}} < {low:g})"
        yield "text_image", ~(rows["text_image_score"] >= low).to_numpy(), reason
    if screening.classifier and (low := screening.classifier.min_confidence) is not None:
        reason = f"is not taken for its class (confidence {{classifier_confidence:.3f}} < {low:g})"
        yield "classifier", ~(rows["classifier_confidence"] >= low).to_numpy(), reason
    if screening.classifier and screening.classifier.must_agree:
        unscored = rows["classifier_confidence"].isna().to_numpy()
        yield "classifier", unscored, "has no predicted class (its probabilities are not numbers)"
        reason = "is taken for {classifier_prediction} (confidence in its own class {classifier_confidence:.3f})"
        yield "classifier", ~read_as_its_class(rows).to_numpy(), reason
    if screening.leakage:
        for split, image in (("test", "test image"), ("train", "real training image")):
            for neighbour, similarity, failed in _too_similar(rows, split, screening.leakage):
                # Not "copies": two images of clothes may well have the same hash.
                reason = f"is too near to the {image} {{{neighbour}}} ({similarity})"
                yield f"leakage_{split}", failed.to_numpy(), reason


def _check_predictions(parts: Parts) -> None:
    """Raise UserError if there are images with a confidence, but none with a predicted class."""
    scored = predicted = False
    for rows in parts(["classifier_confidence", "classifier_prediction"]):
        scored |= bool(rows["classifier_confidence"].notna().any())
        predicted |= bool(rows["classifier_prediction"].notna().any())
    if scored and not predicted:
        raise UserError(
            "scores.parquet: has no predicted classes, because an older version wrote it",
            advice="delete it and run again",
        )


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


def _repeats(parts: Parts, screening: Screening, thresholds: SimilarityThresholds) -> dict[int, str]:
    """Position of each image that repeats another -> the id of the image that is kept of its group of near-duplicates.

    A group is a connected component of the graph in which each image is linked to its nearest earlier image, if that is
    too similar. The image that is kept is the first in the order of the plan that passed all other filters. So one
    image of a series of repeats is kept, even if the first of them fails another filter. If none passed, none is kept.
    """
    # Imported here because the rules import this package: else every Snakemake call would wait for scipy.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Only images with links are in memory, and of the others a bit: whether they passed.
    passed, indices, linked, neighbours = [], [], [np.empty(0, np.int64)], [pa.array([], pa.string())]
    start = 0
    for rows in parts(COLUMNS):
        failed = np.zeros(len(rows), bool)
        for _, fails, _ in _checks(rows, screening):
            failed |= fails
        passed.append(~failed)
        indices.append(rows["index"].to_numpy(np.int32))
        for neighbour, _, too_similar in _too_similar(rows, "earlier", thresholds):
            at = np.flatnonzero(too_similar & rows[neighbour].notna())
            linked.append(start + at)
            neighbours.append(pa.array(rows[neighbour].iloc[at].tolist(), pa.string()))
        start += len(rows)
    ends, number_of_end = _unique(neighbours)
    positions = np.full(len(ends), -1)  # of `ends`
    start = 0
    for rows in parts(["image_id"]):
        number = pc.index_in(pa.array(rows["image_id"].tolist(), pa.string()), ends)
        at = np.flatnonzero(number.is_valid().to_numpy(zero_copy_only=False))
        positions[number.drop_null().to_numpy()] = start + at
        start += len(rows)
    if (positions < 0).any():
        unknown = ends[int(np.flatnonzero(positions < 0)[0])].as_py()
        raise UserError(
            f"scores.parquet: has no image {unknown}, which others are near to", advice="delete it and run again"
        )
    nodes, node = np.unique(np.concatenate([*linked, positions[number_of_end]]), return_inverse=True)
    begin, end = node[: len(node) // 2], node[len(node) // 2 :]
    graph = coo_array((np.ones(len(begin)), (begin, end)), shape=(len(nodes), len(nodes)))
    _, group = connected_components(graph, directed=False)
    in_order = np.lexsort([nodes, np.concatenate([*indices, np.empty(0, np.int32)])[nodes], group])
    in_order = in_order[np.concatenate([*passed, np.empty(0, bool)])[nodes[in_order]]]
    groups, first = np.unique(group[in_order], return_index=True)
    kept = np.full(len(nodes), -1)  # of the group of each node: the position of the image that is kept
    known = np.isin(group, groups)
    kept[known] = nodes[in_order[first]][np.searchsorted(groups, group[known])]
    repeats = dict(zip(nodes[known & (kept != nodes)].tolist(), kept[known & (kept != nodes)].tolist(), strict=True))
    ids, start = {}, 0
    wanted = np.unique(np.array(list(repeats.values()), np.int64))
    for rows in parts(["image_id"]):
        at = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(rows))]
        ids |= dict(zip(at.tolist(), rows["image_id"].iloc[at - start], strict=True))
        start += len(rows)
    return {position: ids[other] for position, other in repeats.items()}


def _unique(texts: list[pa.Array]) -> tuple[pa.Array, np.ndarray]:
    """The different ones of `texts`, and for each of `texts` its position among them."""
    encoded = pa.chunked_array(texts).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.dictionary, encoded.indices.to_numpy()
