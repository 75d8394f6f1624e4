"""The manifest `quality`: counts of the images, and metrics of the images that were kept."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from screening import measure_quality as script
from synaug.balance import build_balanced_manifest
from synaug.config import Balance
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError
from synaug.screening import quality
from synaug.screening.features import check_size, read_features
from synaug.screening.metrics import METRICS


def measure_quality(synthetic: pd.DataFrame, balanced: pd.DataFrame, *others) -> pd.DataFrame:
    """`quality.measure_quality` of whole tables."""
    return quality.measure_quality(lambda columns: [synthetic], lambda columns: [balanced], *others)


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
        rows = rows.assign(classifier_prediction=None, weight=1.0)
        imbalance, balance = cells({"a": 10, "b": 4}), Balance(oversample=1.3)
        balanced = build_balanced_manifest(real, rows, imbalance, "train", balance)
        images = pd.concat([real.assign(source="real"), rows.assign(source="synthetic")])
        table = images[["image_id", "label", "label_name", "source"]].assign(extractor="classifier x")
        table["features"] = list(rng.normal(size=(22, 2)).astype(np.float32))
        write_manifest("features", pa.Table.from_pandas(table, preserve_index=False), tmp_path / "features.parquet")
        features = read_features(tmp_path / "features.parquet") if with_features else None
        result = measure_quality(rows, balanced, imbalance, balance, features)
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
    # Class b has 4 real and 5 kept images; a has no synthetic images, so it is in no comparison.
    for name in ("b", ""):
        assert rows.loc[name, "images_synthetic"].eq(4).all() and rows.loc[name, "images_real"].eq(4).all()
    assert rows.loc["a", "value"].isna().all() and rows.loc["a", "images_real"].eq(0).all()
    rng = np.random.default_rng(0)
    features = rng.normal(size=(22, 2)).astype(np.float32)
    for metric, compute in METRICS.items():
        draws = [compute(features[10:14], features[17:][np.arange(5) != i]) for i in range(5)]
        for name in ("b", ""):
            value, low, high = rows.loc[(name, metric), ["value", "low", "high"]]
            if draws[0] is None:
                assert np.isnan([value, low, high]).all()
            else:
                assert min(draws) - 1e-9 <= low <= value <= high <= max(draws) + 1e-9


def test_the_same_images_of_a_class_are_near_whatever_the_shares_of_the_classes(cells):
    """Ten classes, each with one distribution for both domains; 500 to 5 real images, 5 to 500 synthetic ones."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(500, 5, 10).astype(int)
    centres = rng.normal(0, 4, (10, 8))

    def images(source: str, sizes: np.ndarray) -> pd.DataFrame:
        label = np.repeat(np.arange(10), sizes)
        ids = [f"{source}{i}" for i in range(len(label))]
        return pd.DataFrame({"image_id": ids, "label": label, "source": source}).assign(
            label_name=[f"class {i}" for i in label], group="", accepted=True, rejected_by=None
        )

    both = pd.concat([images("real", sizes), images("synthetic", sizes[::-1])], ignore_index=True)
    matrix = centres[both["label"]] + rng.normal(size=(len(both), 8))
    positions = pd.Series(np.arange(len(both)), pd.MultiIndex.from_frame(both[["source", "image_id"]]))
    features = quality.Features(positions, matrix, "classifier x")
    imbalance = cells({f"class {i}": int(size) for i, size in enumerate(sizes)})
    planned = both[both["source"] == "synthetic"].assign(classifier_prediction=None, classifier_confidence=np.nan)
    table = measure_quality(planned, both, imbalance, Balance(), features)
    pooled = table[table["label_name"] == ""].set_index("metric")
    real, synthetic = (matrix[both["source"] == source] for source in ("real", "synthetic"))
    assert METRICS["fd"](real, synthetic) > 50  # with all images, the classes are compared
    assert pooled["value"]["fd"] < 3 and pooled["value"]["coverage"] > 0.9
    assert pooled["images_real"]["fd"] == pooled["images_synthetic"]["fd"] == np.minimum(sizes, sizes[::-1]).sum()
    assert pooled["low"]["fd"] < pooled["value"]["fd"] < pooled["high"]["fd"]
    shuffled = measure_quality(planned, both.sample(frac=1, random_state=1), imbalance, Balance(), features)
    pd.testing.assert_frame_equal(table, shuffled)


def test_images_of_the_groups_are_matched_too():
    """One class in two groups far apart, 40 real images in the first and 40 synthetic images in the second."""
    rng = np.random.default_rng(0)
    both = pd.DataFrame({"source": ["real"] * 50 + ["synthetic"] * 50})
    both["group"] = ["red"] * 40 + ["blue"] * 10 + ["red"] * 10 + ["blue"] * 40
    both = both.assign(image_id=[f"{i}" for i in range(100)], label=0, label_name="a", accepted=True, rejected_by=None)
    matrix = rng.normal(size=(100, 2)) + np.where(both["group"] == "red", 0, 20)[:, None]
    positions = pd.Series(np.arange(100), pd.MultiIndex.from_frame(both[["source", "image_id"]]))
    planned = both[50:].assign(classifier_prediction=None, classifier_confidence=np.nan)
    imbalance = pd.DataFrame(
        {"kind": "cell", "label": 0, "label_name": "a", "group": ["red", "blue"], "count": [40, 10]}
    )
    features = quality.Features(positions, matrix, "classifier x")
    table = measure_quality(planned, both, imbalance, Balance(), features).set_index(["label_name", "metric"])
    assert table["images_real"]["a", "fd"] == 20
    assert table["value"]["a", "fd"] < 10 < METRICS["fd"](matrix[:50], matrix[50:])


def test_a_comparison_with_one_possible_draw_has_no_interval():
    """All 4 real and 4 synthetic images of a class are compared."""
    both = pd.DataFrame({"source": ["real"] * 4 + ["synthetic"] * 4, "image_id": list("abcdefgh"), "label_name": "a"})
    both = both.assign(label=0, group="", accepted=True, rejected_by=None)
    positions = pd.Series(range(8), pd.MultiIndex.from_frame(both[["source", "image_id"]]))
    matrix = np.random.default_rng(0).normal(size=(8, 2))
    planned = both[4:].assign(classifier_prediction=None, classifier_confidence=np.nan)
    imbalance = pd.DataFrame({"kind": ["cell"], "label": 0, "label_name": "a", "count": 4})
    table = measure_quality(planned, both, imbalance, Balance(), quality.Features(positions, matrix, "x"))
    row = table[(table["label_name"] == "a") & (table["metric"] == "kid")].iloc[0]
    assert row["value"] == pytest.approx(METRICS["kid"](matrix[:4], matrix[4:]))
    assert pd.isna(row["low"]) and pd.isna(row["high"])


def test_agreement_is_the_share_of_generated_images_that_are_read_as_their_class(cells):
    rows = pd.DataFrame(
        {"image_id": list("stuv"), "label": 1, "label_name": "b", "accepted": True, "rejected_by": None}
    )
    rows = rows.assign(classifier_prediction=["b", "a", "b", None], classifier_confidence=[0.9, 0.2, 0.4, np.nan])
    balanced = rows[["image_id", "label", "label_name"]].assign(source="synthetic", group="")
    table = measure_quality(rows, balanced, cells({"a": 5, "b": 1}), Balance())
    agreement = table[table["metric"] == "agreement"].set_index("label_name")["value"]
    assert agreement["b"] == agreement[""] == 0.5 and np.isnan(agreement["a"])
    without = measure_quality(rows.assign(classifier_prediction=None), balanced, cells({"a": 5, "b": 1}), Balance())
    assert "agreement" not in set(without["metric"])


def test_quality_of_an_older_version_is_read_without_intervals(measured, tmp_path):
    measured()
    table = pq.read_table(tmp_path / "quality.parquet").drop_columns(["low", "high"])
    pq.write_table(table, tmp_path / "old.parquet")
    old = read_manifest("quality", tmp_path / "old.parquet")
    assert old["low"].isna().all() and old["high"].isna().all() and old["value"].notna().any()


def test_many_images_are_compared_by_a_fixed_sample(measured, monkeypatch):
    monkeypatch.setattr(quality, "MAX_IMAGES", 3)
    first, second = measured(), measured()
    pd.testing.assert_frame_equal(first, second)
    rows = first[first["metric"].isin(METRICS)]
    assert rows["images_real"].max() == rows["images_synthetic"].max() == 3


@pytest.mark.parametrize("with_features", [False, True])
def test_tables_in_parts_have_the_quality_of_the_whole(cells, tmp_path, monkeypatch, with_features):
    """Two fills of three classes; row groups of 7 rows."""
    rng, paths = np.random.default_rng(0), {name: tmp_path / f"{name}.parquet" for name in ("synthetic", "balanced")}
    images = pd.DataFrame({"label": rng.integers(0, 3, 200), "source": rng.choice(["real", "synthetic"], 200)})
    images = images.assign(
        image_id=[f"{i:024x}" for i in range(200)], label_name="class " + images["label"].astype(str)
    )
    images = images.assign(fill=np.where(images["source"] == "real", "", rng.choice(["one", "two"], 200)), sha256="h")
    images = images.assign(weight=1.0, row=0, path="p", column="image", index=range(200))
    generated = images[images["source"] == "synthetic"].drop(columns="source")
    rejected = rng.random(len(generated)) < 0.3
    generated = generated.assign(
        accepted=~rejected, rejected_by=np.where(rejected, "contrast", None), width=8, height=8
    )
    named = np.where(rng.random(len(generated)) < 0.7, generated["label_name"].to_numpy(object), "class 0")
    generated = generated.assign(classifier_prediction=named, classifier_confidence=0.5, height=8)
    kept = images[~images["image_id"].isin(generated.loc[rejected, "image_id"])]
    matrix = rng.normal(size=(len(images), 2)).astype(np.float32)
    features = images[["image_id", "label", "label_name", "source"]].assign(features=list(matrix), extractor="x")
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 7)
    write_manifest("synthetic", generated, paths["synthetic"])
    write_manifest("balanced", kept, paths["balanced"])
    write_manifest("features", pa.Table.from_pandas(features, preserve_index=False), tmp_path / "features.parquet")
    imbalance, balance = cells({f"class {i}": 80 - 20 * i for i in range(3)}), Balance()
    write_manifest("imbalance", imbalance, tmp_path / "imbalance.parquet")
    featured = str(tmp_path / "features.parquet") if with_features else None
    measured = tmp_path / "quality.parquet"
    script.main(*paths.values(), tmp_path / "imbalance.parquet", featured, balance.model_dump(), measured)
    frames = (read_manifest(name, path) for name, path in paths.items())
    whole = measure_quality(*frames, imbalance, balance, read_features(featured) if featured else None)
    write_manifest("quality", whole, tmp_path / "whole.parquet")
    assert measured.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    values = read_manifest("quality", measured).set_index(["fill", "label_name", "metric"])
    of_fill = kept[kept["fill"] == "one"]
    assert values.loc[("one", "", "kept"), "value"] == len(of_fill)
    assert values.loc[("one", "class 2", "kept"), "images_real"] == ((kept["label"] == 2) & (kept["fill"] == "")).sum()
    agreeing = (named == generated["label_name"])[generated["fill"] == "two"]
    assert values.loc[("two", "", "agreement"), "value"] == agreeing.mean()


def test_without_synthetic_images_there_are_counts_and_no_metrics(cells, tmp_path):
    write_manifest("features", SCHEMAS["features"].empty_table(), tmp_path / "features.parquet")
    real = pd.DataFrame({"image_id": ["r0", "r1"], "label": [0, 1], "label_name": ["a", "b"], "source": "real"})
    synthetic = read_empty("synthetic", tmp_path)
    table = measure_quality(
        synthetic, real, cells({"a": 1, "b": 1}), Balance(), read_features(tmp_path / "features.parquet")
    )
    assert table.loc[table["metric"].isin(METRICS), "value"].isna().all()
    assert table.loc[table["metric"] == "kept", "value"].eq(0).all()


def read_empty(kind: str, folder) -> pd.DataFrame:
    write_manifest(kind, SCHEMAS[kind].empty_table(), folder / f"{kind}.parquet")
    return read_manifest(kind, folder / f"{kind}.parquet")


def test_more_features_than_a_table_can_hold_are_one_line():
    check_size(1_677_721, 1280)
    with pytest.raises(UserError, match=r"1,677,722 images with 1,280 features each .*; divide the experiment"):
        check_size(1_677_722, 1280)
