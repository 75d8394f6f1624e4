"""The manifest `quality`: counts of the images, and metrics of the images that were kept."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest
from synaug.screening import quality
from synaug.screening.metrics import METRICS


@pytest.fixture
def measured(cells, tmp_path):
    """A function: the manifest `quality` of two classes; b lacks 6 images, has 8 synthetic ones, 3 are rejected."""

    def measure(with_features: bool = True) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        real = pd.DataFrame({"image_id": [f"r{i}" for i in range(14)], "label": [0] * 10 + [1] * 4})
        real = real.assign(label_name=["a"] * 10 + ["b"] * 4, split="train", usable=True, sha256="h", row=pd.NA)
        rows = pd.DataFrame({"image_id": [f"s{i}" for i in range(8)], "label": 1, "label_name": "b", "index": range(8)})
        rows = rows.assign(accepted=[False] * 3 + [True] * 5, rejected_by=["contrast"] * 2 + ["safety"] + [None] * 5)
        rows = rows.assign(text_image_score=np.nan, classifier_confidence=np.nan, reason="x", sha256="h")
        imbalance, balance = cells({"a": 10, "b": 4}), Balance(oversample=1.3)
        balanced = build_balanced_manifest(real, rows, imbalance, "train", balance)
        images = pd.concat([real.assign(source="real"), rows.assign(source="synthetic")])
        table = images[["image_id", "label", "label_name", "source"]].assign(extractor="classifier x")
        table["features"] = list(rng.normal(size=(22, 2)).astype(np.float32))
        write_manifest("features", pa.Table.from_pandas(table, preserve_index=False), tmp_path / "features.parquet")
        features = quality.read_features(tmp_path / "features.parquet") if with_features else None
        result = quality.measure_quality(rows, balanced, imbalance, balance, features)
        write_manifest("quality", result, tmp_path / "quality.parquet")
        return read_manifest("quality", tmp_path / "quality.parquet")

    return measure


def test_counts_of_planned_accepted_kept_and_rejected_images(measured):
    table = measured(with_features=False)
    values = table.set_index(["label_name", "metric"])["value"]
    for name in ("b", ""):
        assert {metric: value for metric, value in values[name].items() if value} == {
            "wanted": 6, "planned": 8, "accepted": 5, "kept": 5, "shortfall": 1,
            "rejected_contrast": 2, "rejected_safety": 1,
        }  # fmt: skip
    assert values["a"].eq(0).all()
    assert set(METRICS) & set(values.index.get_level_values(1)) == set()


def test_metrics_are_of_the_kept_images_and_name_their_features(measured):
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
    monkeypatch.setattr(quality, "MAX_IMAGES", 4)
    first, second = measured(), measured()
    pd.testing.assert_frame_equal(first, second)
    rows = first[first["metric"].isin(METRICS)]
    assert rows["images_real"].max() == rows["images_synthetic"].max() == 4
