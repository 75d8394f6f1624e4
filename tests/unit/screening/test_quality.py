"""The quality figures equal their formulas, written as plain loops; too few images give no number."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.linalg import sqrtm

from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest
from synaug.screening import metrics, quality
from synaug.screening.metrics import METRICS


@pytest.fixture(params=[16, 1 << 22])
def sets(request, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Features of 40 real and 30 synthetic images; in blocks of a few rows, and all at once."""
    monkeypatch.setattr(metrics, "_BLOCK", request.param)
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 6)), rng.normal(0.4, 1.2, size=(30, 6))


def in_ball(points, centres, k) -> np.ndarray:
    """bool, points x centres: whether a point lies in the ball of a centre up to its k-th nearest other centre."""
    result = np.empty((len(points), len(centres)), bool)
    for c, centre in enumerate(centres):
        others = sorted(np.linalg.norm(centre - other) for o, other in enumerate(centres) if o != c)
        for p, point in enumerate(points):
            result[p, c] = np.linalg.norm(point - centre) <= others[k - 1]
    return result


def test_frechet_distance_is_that_of_scipys_root(sets):
    real, fake = sets
    first, second = np.cov(real.T), np.cov(fake.T)
    between = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    expected = between + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert metrics.frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(real, real) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet_distance(real, real + 2) == pytest.approx(6 * 4, rel=1e-9)  # a shift alone, by hand
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


def test_the_same_distribution_is_good_and_another_one_is_not():
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


@pytest.fixture
def measured(cells, tmp_path):
    """A function: the manifest `quality` of two classes; b lacks 6 images, 8 are made, 3 of them rejected."""

    def measure(with_features: bool = True) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        real = pd.DataFrame({"image_id": [f"r{i}" for i in range(14)], "label": [0] * 10 + [1] * 4})
        real = real.assign(label_name=["a"] * 10 + ["b"] * 4, split="train", usable=True, sha256="h", row=pd.NA)
        rows = pd.DataFrame({"image_id": [f"s{i}" for i in range(8)], "label": 1, "label_name": "b", "index": range(8)})
        rows = rows.assign(accepted=[False] * 3 + [True] * 5, rejected_by=["contrast"] * 2 + ["safety"] + [None] * 5)
        rows = rows.assign(text_image_score=np.nan, classifier_confidence=np.nan, reason="x", sha256="h")
        imbalance, balance = cells({"a": 10, "b": 4}), Balance(oversample=1.3)
        balanced = build_balanced_manifest(real, rows, imbalance, "train", balance)
        both = pd.concat([real.assign(source="real"), rows.assign(source="synthetic")])
        table = both[["image_id", "label", "label_name", "source"]].assign(extractor="classifier x")
        table["features"] = list(rng.normal(size=(22, 2)).astype(np.float32))
        write_manifest("features", pa.Table.from_pandas(table, preserve_index=False), tmp_path / "features.parquet")
        features = quality.read_features(tmp_path / "features.parquet") if with_features else None
        result = quality.measure_quality(rows, balanced, imbalance, balance, features)
        write_manifest("quality", result, tmp_path / "quality.parquet")
        return read_manifest("quality", tmp_path / "quality.parquet")

    return measure


def test_counts_say_what_became_of_the_images(measured):
    table = measured(with_features=False)
    values = table.set_index(["label_name", "metric"])["value"]
    for name in ("b", ""):
        found = values[name].to_dict()
        assert {key: value for key, value in found.items() if value} == {
            "wanted": 6, "planned": 8, "accepted": 5, "kept": 5, "shortfall": 1,
            "rejected_contrast": 2, "rejected_safety": 1,
        }  # fmt: skip
    assert values["a"].eq(0).all()
    assert set(METRICS) & set(values.index.get_level_values(1)) == set()


def test_figures_are_of_the_kept_images_and_name_their_features(measured):
    table = measured()
    rows = table[table["metric"].isin(METRICS)].set_index(["label_name", "metric"])
    assert set(rows.index) == {(name, metric) for name in ("", "a", "b") for metric in METRICS}
    assert (rows["features"] == "classifier x").all()
    assert rows.loc["b", "images_synthetic"].eq(5).all() and rows.loc["b", "images_real"].eq(4).all()
    assert rows.loc["a", "value"].isna().all()  # it has no synthetic images
    rng = np.random.default_rng(0)
    features = rng.normal(size=(22, 2)).astype(np.float32)
    for metric, compute in METRICS.items():
        expected = [compute(features[:14], features[17:]), compute(features[10:14], features[17:])]
        assert rows.loc["", "value"][metric] == pytest.approx(expected[0])
        if expected[1] is None:
            assert np.isnan(rows.loc["b", "value"][metric])
        else:
            assert rows.loc["b", "value"][metric] == pytest.approx(expected[1])


def test_many_images_are_compared_by_a_fixed_sample(measured, monkeypatch):
    monkeypatch.setattr(quality, "MOST_IMAGES", 4)
    first, second = measured(), measured()
    pd.testing.assert_frame_equal(first, second)
    rows = first[first["metric"].isin(METRICS)]
    assert rows["images_real"].max() == rows["images_synthetic"].max() == 4
