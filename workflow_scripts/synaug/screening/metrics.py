"""How a set of synthetic images compares to the real ones, from their features: formulas of the literature.

real, fake: features, float, N x D and M x D. A set that is too small for a formula gives None, never a number.
"""

from collections.abc import Iterator

import numpy as np

K_MANIFOLD = 3  # neighbours that span a manifold in precision and recall, as in their paper
K_DENSITY = 5  # neighbours in density and coverage, as in their paper
_BLOCK = 1 << 22  # distances held at a time: 32 MB


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Frechet distance of the normal distributions that fit both sets; 0 is best, unit: that of squared features.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Heusel et al. 2017 (arXiv 1706.08500), equation 6; covariances with
    N - 1. It falls with the number of images, so compare it only between sets of equal sizes. None unless both sets
    have more images than features have dimensions: their covariance would have no full rank.
    """
    if min(len(real), len(fake)) <= real.shape[1]:
        return None
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    # The trace of (C1 C2)^(1/2) is the sum of roots of the eigenvalues of S C2 S, with S S = C1: symmetric, so exact.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    difference = real.mean(0) - fake.mean(0)
    return float(max(0.0, difference @ difference + np.trace(first) + np.trace(second) - 2 * shared))


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased (so it may be below 0); 0 is best.

    KID: Binkowski et al. 2018 (arXiv 1801.01401), section 4; estimator: Gretton et al. 2012, equation 3, over all
    pairs. None unless both sets have 2 images.
    """
    if min(len(real), len(fake)) < 2:
        return None
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    within = [
        (_kernel_sum(one, one) - (((one * one).sum(1) / one.shape[1] + 1) ** 3).sum()) / (len(one) * (len(one) - 1))
        for one in (real, fake)
    ]
    return float(sum(within) - 2 * _kernel_sum(real, fake) / (len(real) * len(fake)))


def _kernel_sum(first: np.ndarray, second: np.ndarray) -> float:
    step = max(1, _BLOCK // len(second))
    blocks = (first[i : i + step] @ second.T for i in range(0, len(first), step))
    return sum((((block / first.shape[1]) + 1) ** 3).sum() for block in blocks)


def precision(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of synthetic images within the real manifold, 0 to 1.

    Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2, k = 3: in the ball of some real image that reaches
    to its third-nearest real one. None unless there are 4 real images and 1 synthetic one.
    """
    if len(real) <= K_MANIFOLD or not len(fake):
        return None
    radii = _radii(real, K_MANIFOLD)
    return sum(int((block <= radii).any(1).sum()) for block in _distances(fake, real)) / len(fake)


def recall(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of real images within the synthetic manifold, 0 to 1: `precision` with the sets exchanged."""
    return precision(fake, real)


def density(real: np.ndarray, fake: np.ndarray) -> float | None:
    """How deep synthetic images lie within the real manifold, 0 up; near 1 when both sets are of one distribution.

    Naeem et al. 2020 (arXiv 2002.09797), equation 3, k = 5: real balls around a synthetic image, over k, on average.
    None unless there are 6 real images and 1 synthetic one.
    """
    if len(real) <= K_DENSITY or not len(fake):
        return None
    radii = _radii(real, K_DENSITY)
    return sum(int((block <= radii).sum()) for block in _distances(fake, real)) / (K_DENSITY * len(fake))


def coverage(real: np.ndarray, fake: np.ndarray) -> float | None:
    """Share of real images that have a synthetic one in their ball, 0 to 1.

    Naeem et al. 2020, equation 4, k = 5: the ball reaches to the fifth-nearest real image. None as in `density`.
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
        block[rows, start + rows] = np.inf  # itself
        radii.append(np.partition(block, k - 1, axis=1)[:, k - 1])
        start += len(block)
    return np.concatenate(radii)


def _distances(points: np.ndarray, others: np.ndarray) -> Iterator[np.ndarray]:
    """Squared Euclidean distances, float64, block by block of `points`: rows of a block x M."""
    points, others = points.astype(np.float64), others.astype(np.float64)
    lengths = (others * others).sum(1)
    step = max(1, _BLOCK // len(others))
    for i in range(0, len(points), step):
        some = points[i : i + step]
        yield ((some * some).sum(1)[:, None] + lengths - 2 * (some @ others.T)).clip(0)


METRICS = {
    "fd": frechet_distance,
    "kid": kernel_distance,
    "precision": precision,
    "recall": recall,
    "density": density,
    "coverage": coverage,
}
