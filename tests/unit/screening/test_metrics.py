"""The metrics equal their formulas, written as plain loops; too few images give no number."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from synaug.screening import metrics
from synaug.screening.metrics import METRICS


@pytest.fixture(params=[16, 1 << 22])
def sets(request, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Features of 40 real and 30 synthetic images; in blocks of a few rows, and all at once."""
    monkeypatch.setattr(metrics, "_BLOCK", request.param)
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)), rng.normal(0.4, 1.2, size=(30, 6))


def in_ball(points, centres, k) -> np.ndarray:
    """Whether each point lies in the ball of each centre to its k-th nearest other centre: bool, points x centres."""
    result = np.empty((len(points), len(centres)), bool)
    for c, centre in enumerate(centres):
        others = sorted(np.linalg.norm(centre - other) for o, other in enumerate(centres) if o != c)
        for p, point in enumerate(points):
            result[p, c] = np.linalg.norm(point - centre) <= others[k - 1]
    return result


def test_frechet_distance_equals_the_matrix_root_of_scipy(sets):
    real, fake = sets
    first, second = np.cov(real.T), np.cov(fake.T)
    between = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    expected = between + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert metrics.frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(real, real + 2) == pytest.approx(6 * 4, rel=1e-9)  # only shifted, by hand
    ends = np.array([[0.0], [2.0]] * 5)
    # Variances 10/9 and 40/9: (sqrt(40/9) - sqrt(10/9))^2 = 10/9, and the means differ by 1.
    assert metrics.frechet_distance(ends, 2 * ends) == pytest.approx(1 + 10 / 9)


def test_kernel_distance_is_the_unbiased_estimator(sets):
    real, fake = sets

    def kernel(x, y):
        return (x @ y / 6 + 1) ** 3

    def within(points):
        return np.mean([kernel(x, y) for i, x in enumerate(points) for j, y in enumerate(points) if i != j])

    expected = within(real) + within(fake) - 2 * np.mean([kernel(x, y) for x in real for y in fake])
    assert metrics.kernel_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    # By hand: x = 0, 0; y = 1, 1; kernel 1 within x, 8 within y, 1 between.
    assert metrics.kernel_distance(np.zeros((2, 1)), np.ones((2, 1))) == pytest.approx(1 + 8 - 2)


def test_precision_recall_density_and_coverage_equal_loops(sets):
    real, fake = sets
    assert metrics.precision(real, fake) == in_ball(fake, real, 3).any(1).mean()
    assert metrics.recall(real, fake) == in_ball(real, fake, 3).any(1).mean()
    assert metrics.density(real, fake) == pytest.approx(in_ball(fake, real, 5).sum() / (5 * len(fake)))
    assert metrics.coverage(real, fake) == in_ball(fake, real, 5).any(0).mean()


def test_equal_distributions_have_good_values_and_different_ones_bad_values():
    rng = np.random.default_rng(1)
    real, same, far = rng.normal(size=(200, 4)), rng.normal(size=(200, 4)), rng.normal(20, 1, size=(200, 4))
    good = {name: compute(real, same) for name, compute in METRICS.items()}
    bad = {name: compute(real, far) for name, compute in METRICS.items()}
    assert good["fd"] < 0.3 and abs(good["kid"]) < 0.2
    assert min(good["precision"], good["recall"], good["density"], good["coverage"]) > 0.7
    assert bad["fd"] > 1000 and bad["kid"] > 1000
    assert bad["precision"] == bad["recall"] == bad["density"] == bad["coverage"] == 0


@pytest.mark.parametrize(
    ("name", "real", "fake"),
    [
        ("fd", 4, 5), ("fd", 5, 4), ("kid", 1, 9), ("kid", 9, 1), ("kid", 9, 0), ("precision", 3, 9),
        ("precision", 9, 0), ("recall", 9, 3), ("recall", 0, 9), ("density", 5, 9), ("density", 9, 0),
        ("coverage", 5, 9), ("coverage", 9, 0),
    ],
)  # fmt: skip
def test_too_few_images_give_no_number(name, real, fake):
    rng = np.random.default_rng(0)
    assert METRICS[name](rng.normal(size=(real, 4)), rng.normal(size=(fake, 4))) is None
    assert METRICS[name](rng.normal(size=(real + 9, 4)), rng.normal(size=(fake + 9, 4))) is not None
