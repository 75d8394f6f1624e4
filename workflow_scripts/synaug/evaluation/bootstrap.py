"""Percentile bootstrap over test images (Efron and Tibshirani 1993, chapter 13).

The interval shows how a metric varies when other images of the same classes are tested; `resample` makes it wide enough
for classes with few images. All networks of an experiment are scored on the same resamples, so two networks can be
compared resample by resample. A resample repeats some images and omits others. Minima over classes are therefore lower
and calibration errors larger than on the test set itself, and the intervals of these metrics may lie next to the
measured value instead of around it.
"""

from dataclasses import dataclass

import numpy as np

DRAWS = 1000
SEED = 0
_DRAWN_AT_ONCE = 2_000_000  # numbers of 8 bytes; which ones are drawn does not depend on it


@dataclass(frozen=True)
class Resamples:
    """How often each image occurs in each resample: uint8, (1 + DRAWS) x N. Row 0 is the images themselves, all ones.

    within: every image is drawn from its own stratum, so that every resample has the strata of the images. A stratum of
    one image then never varies. for_means: such strata are drawn together, so that a mean over them varies; the size of
    a single stratum does too. factors, factors_for_means: what a drawn image counts, N. Row 0 has no factors.
    """

    within: np.ndarray
    factors: np.ndarray
    for_means: np.ndarray
    factors_for_means: np.ndarray

    def __len__(self) -> int:
        return len(self.within)

    def of(self, images: np.ndarray) -> "Resamples":
        """The resamples of some of the images. images: positions, or true for each of them."""
        return Resamples(
            self.within[:, images], self.factors[images], self.for_means[:, images], self.factors_for_means[images]
        )


def resample(strata: np.ndarray, similar: np.ndarray | None = None) -> Resamples:
    """Resamples in which sums over images vary as much as those of new images of the same strata.

    strata: stratum of each image (its class, or its cell), N. Images are drawn with replacement within their stratum,
    because the sizes of classes and cells are chosen, not random. The plain bootstrap of n images has (n - 1) / n of
    the variance that new images have, which is half for two images. So n - 1 images are drawn, and each counts
    n / (n - 1) times (Rao and Wu 1988).
    similar: a number for each image, N; None: all are equal. For means, strata of one image with the same number are
    drawn as one stratum (collapsed strata, Cochran 1977, 5A.12), and a lone one with the smallest other stratum with
    its number. That overstates their variance. A stratum without another one of its number never varies.
    Equal strata give equal resamples.
    """
    _, strata, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    similar = np.zeros(len(strata), int) if similar is None else similar
    single, merged = sizes[strata] == 1, strata.copy()
    for number in np.unique(similar[single]):
        of_number = similar == number
        joined = of_number & single
        if joined.sum() == 1 and (of_number & ~single).any():
            smallest = strata[of_number & ~single][np.argmin(sizes[strata[of_number & ~single]])]
            joined |= of_number & (strata == smallest)
        merged[joined] = strata[joined].min()
    within = _draw_within(strata)
    return Resamples(*within, *(_draw_within(merged) if (merged != strata).any() else within))


def _draw_within(strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and factors of the resamples within `strata`: uint8, (1 + DRAWS) x N, and float, N."""
    generator = np.random.default_rng(SEED)
    # An image is drawn once on average, so 255 draws of the same image, the largest uint8, do not occur.
    counts, factors = np.ones((1 + DRAWS, len(strata)), np.uint8), np.ones(len(strata))
    for stratum in np.unique(strata):
        (members,) = np.nonzero(strata == stratum)
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


def group_sums(
    resamples: Resamples, groups: np.ndarray, values: np.ndarray, number: int, for_means: bool = False
) -> np.ndarray:
    """Sums of `values` (N) over the images of each group, in each resample: float64, rows of `resamples` x number.

    groups: the group of each image, 0 to number - 1, N. for_means: of the resamples for means. A sum of them may be
    larger than that of all images of its group; only a mean over the groups makes sense.
    """
    from scipy import sparse  # here, because the report needs only other functions, and no scipy

    counts = resamples.for_means if for_means else resamples.within
    factors = resamples.factors_for_means if for_means else resamples.factors
    table = sparse.csr_array((values * factors, (np.arange(len(values)), groups)), shape=(len(values), number))
    # In chunks, because the product converts the counts to float64.
    sums = np.concatenate([counts[i : i + 100].astype(float) @ table for i in range(0, len(counts), 100)])
    sums[0] = np.bincount(groups, values, minlength=number)
    return sums


def both_group_sums(
    resamples: Resamples, groups: np.ndarray, values: np.ndarray, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """`group_sums` of the resamples within strata, and of those for means; computed once if they are the same."""
    sums = group_sums(resamples, groups, values, number)
    same = resamples.for_means is resamples.within
    return sums, sums if same else group_sums(resamples, groups, values, number, for_means=True)


def at_most_1(values: np.ndarray) -> np.ndarray:
    """`values` with those above 1 as 1: the resamples for means may have more images of a class than there are."""
    return np.minimum(values, 1)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval that contains the middle share `level` of the last axis: the resamples, without row 0.

    Rounded, since the factors of the images are no whole numbers: of equal resamples, the ends are equal.
    """
    return tuple(np.percentile(values, [50 * (1 - level), 50 * (1 + level)], axis=-1).round(12))


def value_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """A metric and the ends of its 95 % interval. values: the metric in each resample; the first is the metric."""
    low, high = percentile_interval(values[None, 1:])
    return float(values[0]), float(low[0]), float(high[0])
