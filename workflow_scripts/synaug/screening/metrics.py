"""Metrics from the literature that compare a set of synthetic images with real ones, by their features.

real, fake: features, float, N x D and M x D. A set that is too small for a formula gives None.
"""

from collections.abc import Iterator

import numpy as np

K_MANIFOLD = 3  # neighbours that span a manifold in precision and recall, as in their paper
K_DENSITY = 5  # neighbours in density and coverage, as in their paper
_BLOCK = 1 << 22  # distances in memory at a time: 32 MB


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Frechet distance of the normal distributions that fit both sets; 0 is best, unit: that of squared features.

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`, Heusel et al. 2017 (arXiv 1706.08500), equation 6; covariances with
    N - 1. It decreases with the number of images, so compare only sets of equal sizes. None unless both sets have more
    images than the features have dimensions; otherwise the covariances do not have full rank.
    """
    if min(len(real), len(fake)) <= real.shape[1]:
        return None
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    cov_real, cov_fake = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (real, fake))
    # tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of S C2 S, where S S = C1. S C2 S is symmetric, so its
    # eigenvalues are real and accurate.
    values, vectors = np.linalg.eigh(cov_real)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace_of_root = np.sqrt(np.linalg.eigvalsh(root @ cov_fake @ root).clip(0)).sum()
    difference = real.mean(0) - fake.mean(0)
    return float(max(0.0, difference @ difference + np.trace(cov_real) + np.trace(cov_fake) - 2 * trace_of_root))


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3; 0 is best. Unbiased, so it may be negative.

    KID: Binkowski et al. 2018 (arXiv 1801.01401), section 4; estimator: Gretton et al. 2012, equation 3, over all
    pairs. None unless both sets have at least 2 images.
    """
    if min(len(real), len(fake)) < 2:
        return None
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    within_real, within_fake = _mean_kernel_within(real), _mean_kernel_within(fake)
    return float(within_real + within_fake - 2 * _kernel_sum(real, fake) / (len(real) * len(fake)))


def _mean_kernel_within(features: np.ndarray) -> float:
    """Mean of the kernel over all pairs of different images of a set."""
    count, dimensions = features.shape
    with_itself = (((features * features).sum(1) / dimensions + 1) ** 3).sum()
    return (_kernel_sum(features, features) - with_itself) / (count * (count - 1))


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    """Sum of the kernel over all pairs of an image of `first` and one of `second`."""
    step = max(1, _BLOCK // len(second))
    blocks = (first[i : i + step] @ second.T for i in range(0, len(first), step))
    return sum((((block / first.shape[1]) + 1) ** 3).sum() for block in blocks)


def precision(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of the synthetic images that lie in the real manifold, 0 to 1.

    Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2, k = 3. The manifold is the union of balls around the
    real images, each of which reaches to the third-nearest real image. None unless there are 4 real images and 1
    synthetic image.
    """
    if len(real) <= K_MANIFOLD or not len(fake):
        return None
    radii = _radii(real, K_MANIFOLD)
    return sum(int((block <= radii).any(1).sum()) for block in _distances(fake, real)) / len(fake)


def recall(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of the real images that lie in the synthetic manifold, 0 to 1: `precision` with the sets exchanged."""
    return precision(fake, real)


def density(real: np.ndarray, fake: np.ndarray) -> float | None:
    """How densely the real images surround the synthetic ones, from 0; near 1 if both have the same distribution.

    Naeem et al. 2020 (arXiv 2002.09797), equation 3, k = 5: number of real balls that contain a synthetic image, over
    k, mean over the synthetic images. None unless there are 6 real images and 1 synthetic image.
    """
    if len(real) <= K_DENSITY or not len(fake):
        return None
    radii = _radii(real, K_DENSITY)
    return sum(int((block <= radii).sum()) for block in _distances(fake, real)) / (K_DENSITY * len(fake))


def coverage(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of the real images whose ball contains a synthetic image, 0 to 1.

    Naeem et al. 2020, equation 4, k = 5: the ball reaches to the fifth-nearest real image. None as for `density`.
    """
    if len(real) <= K_DENSITY or not len(fake):
        return None
    nearest = np.concatenate([block.min(1) for block in _distances(real, fake)])
    return float((nearest <= _radii(real, K_DENSITY)).mean())


def _radii(points: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each point to its k-th nearest other point."""
    radii, start = [], 0
    for block in _distances(points, points):
        rows = np.arange(len(block))
        block[rows, start + rows] = np.inf  # the distance of a point to itself does not count
        radii.append(np.partition(block, k - 1, axis=1)[:, k - 1])
        start += len(block)
    return np.concatenate(radii)


def _distances(points: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Squared Euclidean distances, float64, in blocks of rows (points) x M (others)."""
    points, others = points.astype(np.float64), others.astype(np.float64)
    lengths = (others * others).sum(1)  # squared
    step = max(1, _BLOCK // len(others))
    for i in range(0, len(points), step):
        block = points[i : i + step]
        yield ((block * block).sum(1)[:, None] + lengths - 2 * (block @ others.T)).clip(0)


METRICS = {
    "fd": frechet_distance,
    "kid": kernel_distance,
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}
