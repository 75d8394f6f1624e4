"""Percentile bootstrap over test images (Efron and Tibshirani 1993, chapter 13).

The interval shows how a metric varies when other images of the same classes are tested. All networks of an experiment
are scored on the same resamples, so two networks can be compared resample by resample. A resample repeats some images
and omits others. Minima over classes are therefore lower and calibration errors larger than on the test set itself, and
the intervals of these metrics may lie next to the measured value instead of around it.
"""

import numpy as np

DRAWS = 1000
SEED = 0
_DRAWN_AT_ONCE = 2_000_000  # numbers of 8 bytes; which ones are drawn does not depend on it


def resample(strata: np.ndarray) -> np.ndarray:
    """How often each image occurs in each resample: uint8, (1 + DRAWS) x N. Row 0 is the test set itself, all ones.

    strata: stratum of each image (its class, or its cell), N. Images are drawn with replacement within their stratum,
    because the sizes of classes and cells in a test set are chosen, not random. Equal strata give equal resamples.
    """
    generator = np.random.default_rng(SEED)
    # An image is drawn once on average, so 255 draws of the same image, the largest uint8, do not occur.
    counts = np.ones((1 + DRAWS, len(strata)), np.uint8)
    for stratum in np.unique(strata):
        (members,) = np.nonzero(strata == stratum)
        counts[1:, members] = _draw(generator, len(members), len(members))
    return counts


def unbiased_factors(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resamples whose sums vary as much as those of new images: (1 + DRAWS) x N, uint8; and a factor per image, N.

    The bootstrap of a stratum of n images has (n - 1) / n of the variance that new images have, which is half for two
    images and nothing for one. So n - 1 images are drawn, and each counts n / (n - 1) times (Rao and Wu 1988). Strata
    of one image are resampled together, as one stratum (collapsed strata, Cochran 1977, 5A.12), and if there is only
    one of them, together with the smallest other one. That overstates their variance. Row 0, all ones, has no factor.
    """
    _, merged, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    single = sizes[merged] == 1
    if single.sum() == 1 and len(sizes) > 1:
        single |= merged == np.argmin(np.where(sizes > 1, sizes, len(strata)))
    merged[single] = len(sizes)
    generator = np.random.default_rng(SEED)
    counts, factors = np.ones((1 + DRAWS, len(strata)), np.uint8), np.ones(len(strata))
    for stratum in np.unique(merged):
        (members,) = np.nonzero(merged == stratum)
        size = len(members)
        if size > 1:
            counts[1:, members] = _draw(generator, size, size - 1)
            factors[members] = size / (size - 1)
    return counts, factors


def _draw(generator: np.random.Generator, size: int, drawn: int) -> np.ndarray:
    """How often each of `size` images is among `drawn` draws with replacement: uint8, DRAWS x size."""
    counts = np.empty((DRAWS, size), np.uint8)
    rows = max(1, _DRAWN_AT_ONCE // size)
    for block in np.split(counts, range(rows, DRAWS, rows)):
        # Row r draws member i as number r * size + i, so that one bincount counts the draws of all rows.
        numbers = generator.integers(size, size=(len(block), drawn)) + size * np.arange(len(block))[:, None]
        block[:] = np.bincount(numbers.ravel(), minlength=block.size).reshape(block.shape)
    return counts


def group_sums(counts: np.ndarray, groups: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    """Sums of `values` (N) over the images of each group, in each resample: float64, rows of `counts` x number.

    counts: from `resample`. groups: the group of each image, 0 to number - 1, N.
    """
    from scipy import sparse  # here, because the report needs only other functions, and no scipy

    table = sparse.csr_array((values, (np.arange(len(values)), groups)), shape=(len(values), number))
    # In chunks, because the product converts the counts to float64.
    return np.concatenate([counts[i : i + 100].astype(float) @ table for i in range(0, len(counts), 100)])


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval that contains the middle share `level` of the last axis: the resamples, without row 0."""
    return tuple(np.percentile(values, [50 * (1 - level), 50 * (1 + level)], axis=-1))


def value_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """A metric and the ends of its 95 % interval. values: the metric in each resample; the first is the metric."""
    low, high = percentile_interval(values[None, 1:])
    return float(values[0]), float(low[0]), float(high[0])
