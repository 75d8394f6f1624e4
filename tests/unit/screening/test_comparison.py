"""Images are compared by their scored files: those that do not belong together are named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from synaug.manifests import write_manifest
from synaug.runtime.errors import UserError
from synaug.screening.comparison import compare_images, read_scored_images

PLAN = pd.DataFrame({"image_id": ["s0", "s1", "s2"], "label": 0, "label_name": "bag", "index": range(3)}).assign(
    shard=["a", "a", "b"]
)


def scored(ids, extractor="n1", **columns) -> pa.Table:
    """Rows of images with features of length 2; the last one cannot be read if there are three."""
    readable = np.arange(len(ids)) < 2
    rows = pa.table({"image_id": ids, **columns})
    rows = rows.append_column("perceptual_hash", pa.array(np.arange(len(ids), dtype=np.uint64) + 2**63, mask=~readable))
    features = [[1.0, float(i)] if readable[i] else None for i in range(len(ids))]
    rows = rows.append_column("features", pa.array(features, pa.list_(pa.float32())))
    return rows.append_column("extractor", pa.array([extractor if one else None for one in readable]))


@pytest.fixture
def write(tmp_path):
    """A function: writes the scores of a shard, and returns the path."""

    def write(name: str, ids: list[str], extractor: str = "n1") -> str:
        path = str(tmp_path / f"{name}.parquet")
        write_manifest("shard_scores", scored(ids, extractor, sha256=["h"] * len(ids), row=range(len(ids))), path)
        return path

    return write


def compare(synthetic, real=None, **settings):
    return compare_images(PLAN, "shards", synthetic, real, "train", **{"duplicates": True, "leakage": False} | settings)


def test_images_are_read_in_any_order_and_those_that_cannot_be_read_have_no_features(write, tmp_path):
    images = read_scored_images("shard_scores", [write("b", ["s2"]), write("a", ["s0", "s1"])])
    assert images.hashes.tolist() == [2**63, 2**63, 2**63 + 1] and images.extractor == "n1"
    turned = images.take(np.array([1, 2, 0]))
    assert turned.rows["image_id"].tolist() == ["s0", "s1", "s2"]
    np.testing.assert_array_equal(turned.features_of(np.arange(3)), [[1, 0], [1, 1], [1, 0]])
    damaged = read_scored_images("shard_scores", [write("c", ["x", "y", "z"]), write("b", ["s2"])])
    assert damaged.readable.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(damaged.features_of(np.array([1, 3])), [[1, 1], [1, 0]])


def test_a_row_says_where_its_image_is_and_which_earlier_one_is_nearest(write):
    real = read_scored_images("shard_scores", [])
    real.rows = real.rows.assign(split="train", label=0, label_name="bag", group="")
    real.features, real.extractor = np.empty((0, 2), np.float32), "n1"
    table, features = compare(read_scored_images("shard_scores", [write("a", ["s0", "s1"]), write("b", ["s2"])]), real)
    assert table["path"].tolist() == ["shards/a.parquet", "shards/a.parquet", "shards/b.parquet"]
    assert table["nearest_earlier"].tolist()[1:] == ["s0", "s0"]
    assert table["hash_nearest_earlier"].tolist()[1:] == ["s0", "s0"]
    assert features.column("image_id").to_pylist() == ["s0", "s1", "s2"]


def test_a_planned_image_without_scores_is_a_user_error(write):
    """Otherwise it would have no fault, and would be accepted."""
    with pytest.raises(UserError, match=r"scores/a\.parquet: has no image s1; delete it"):
        compare(read_scored_images("shard_scores", [write("a", ["s0"]), write("b", ["s2"])]))


def test_features_of_different_networks_are_not_compared(write, tmp_path):
    with pytest.raises(UserError, match=r"b\.parquet: has features of another network"):
        read_scored_images("shard_scores", [write("a", ["s0", "s1"]), write("b", ["s2"], "n2")])
    table = scored(["r0"], "n2", split=["train"], label=[0], label_name=["bag"])
    write_manifest("real_scores", table, tmp_path / "real_scores.parquet")
    real = read_scored_images("real_scores", [str(tmp_path / "real_scores.parquet")])
    with pytest.raises(UserError, match=r"real_scores\.parquet: has features of another network"):
        compare(read_scored_images("shard_scores", [write("a", ["s0", "s1"]), write("b", ["s2"])]), real)
