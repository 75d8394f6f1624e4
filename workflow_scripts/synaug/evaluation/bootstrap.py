"""Intervals over test images: what would figures be, had other images of the same classes been in the test set?

The percentile bootstrap (Efron and Tibshirani 1993, chapter 13). Every network of an experiment is scored on the same
resamples, so that the difference of two networks can be taken resample by resample. A resample is noisier than the test
set, which makes its worst class and its calibration error worse: of these two the interval may lie beside the figure.
"""

import numpy as np
from scipy import sparse

DRAWS = 1000
SEED = 0


def resample(labels: np.ndarray) -> np.ndarray:
    """How often each image is in each resample: uint8, (1 + DRAWS) x N. Row 0 is the test set itself, all ones.

    labels: class of each image, N. Images are drawn with replacement within their class, since the sizes of the classes
    of a test set are chosen and not chance. The same labels give the same resamples.
    """
    generator = np.random.default_rng(SEED)
    # An image is drawn once on average, whatever the size of its class: 255 times does not happen.
    counts = np.ones((1 + DRAWS, len(labels)), np.uint8)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        drawn = generator.integers(len(own), size=(DRAWS, len(own))) + len(own) * np.arange(DRAWS)[:, None]
        counts[1:, own] = np.bincount(drawn.ravel(), minlength=DRAWS * len(own)).reshape(DRAWS, len(own))
    return counts


def group_sums(counts: np.ndarray, groups: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Sums of `values` (N) over the images of each group, in each resample: float64, rows of `counts` x number.

    counts: as `resample` gives them. groups: the group of each image, 0 to number - 1, N.
    """
    table = sparse.csr_array((values, (np.arange(len(values)), groups)), shape=(len(values), number))
    # In chunks, since the product makes float64 of the counts.
    return np.concatenate([counts[i : i + 100].astype(float) @ table for i in range(0, len(counts), 100)])


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval that holds the middle `level` of the last axis: the resamples, without row 0."""
    return tuple(np.percentile(draws, [50 * (1 - level), 50 * (1 + level)], axis=-1))
