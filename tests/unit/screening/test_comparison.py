"""Images are compared by their scored files: those that do not belong together are named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from screening import compare_images as script
from synaug.manifests import read_manifest, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError
from synaug.screening.comparison import compare_images, read_planned_images, read_real_images
from synaug.screening.planned import Planned

PLAN = pd.DataFrame({"image_id": ["s0", "s1", "s2"], "label": 0, "label_name": "bag", "index": range(3)}).assign(
    group="", fill="", shard=["a", "a", "b"]
)


def scored(ids, extractor="n1", **columns) -> pa.Table:
    """Rows of images with features of length 2; the last one cannot be read if there are three."""
    readable = np.arange(len(ids)) < 2
    rows = pa.table({"image_id": ids, **columns})
    rows = rows.append_column("perceptual_hash", pa.array(np.arange(len(ids), dtype=np.uint64) + 2**63, mask=~readable))
    features = [[1.0, float(i)] if readable[i] else None for i in range(len(ids))]
    rows = rows.append_column("features", pa.array(features, pa.list_(pa.float32())))
    return rows.append_column("extractor", pa.array([extractor if one else None for one in readable]))


class Outputs(dict):
    """The outputs of a rule."""

    __getattr__ = dict.get


@pytest.fixture
def write(tmp_path):
    """A function: writes the scores of a shard, and returns the path."""

    def write(name: str, ids: list[str], extractor: str = "n1") -> str:
        path = str(tmp_path / f"{name}.parquet")
        write_manifest("shard_scores", scored(ids, extractor, sha256=["h"] * len(ids), row=range(len(ids))), path)
        return path

    return write


def planned(rows: pd.DataFrame = PLAN) -> Planned:
    return Planned(pa.Table.from_pandas(rows, preserve_index=False))


def compare(scored: list[str], real=None, **settings) -> tuple[pd.DataFrame, pa.Table | None]:
    """The rows of both manifests, in the order of the plan."""
    settings = {"duplicates": True, "leakage": False} | settings
    scores, features = compare_images(planned(), scored, "shards", real, "train", **settings)
    rows = pa.concat_tables(scores, promote_options="permissive").to_pandas()
    return rows.sort_values("index", ignore_index=True), features


def test_images_are_read_in_any_order_and_those_that_cannot_be_read_have_no_features(write):
    images = read_planned_images(planned(), [write("b", ["s2"]), write("a", ["s0", "s1"])])
    assert images.hashes.tolist() == [2**63, 2**63 + 1, 2**63] and images.extractor == "n1"
    np.testing.assert_array_equal(images.features_of(np.arange(3)), [[1, 0], [1, 1], [1, 0]])
    rows = PLAN.assign(image_id=["x", "y", "z"], shard="c")
    damaged = read_planned_images(
        planned(pd.concat([rows, PLAN[2:]])), [write("c", ["x", "y", "z"]), write("b", ["s2"])]
    )
    assert damaged.readable.tolist() == [True, True, False, True]
    np.testing.assert_array_equal(damaged.features_of(np.array([1, 3])), [[1, 1], [1, 0]])


def test_a_row_says_where_its_image_is_and_which_earlier_one_is_nearest(write, tmp_path):
    write_manifest("real_scores", scored([], "n1", split=[], label=[], label_name=[]), tmp_path / "real.parquet")
    rows, real = read_real_images(str(tmp_path / "real.parquet"))
    real.features, real.extractor = np.empty((0, 2), np.float32), "n1"
    table, features = compare([write("a", ["s0", "s1"]), write("b", ["s2"])], (rows, real))
    assert table["path"].tolist() == ["shards/a.parquet", "shards/a.parquet", "shards/b.parquet"]
    assert table["nearest_earlier"].fillna("").tolist() == ["", "s0", "s0"]
    assert table["hash_nearest_earlier"].fillna("").tolist() == ["", "s0", "s0"]
    assert features.column("image_id").to_pylist() == ["s0", "s1", "s2"]


def test_a_planned_image_without_scores_is_a_user_error(write):
    """Otherwise it would have no fault, and would be accepted."""
    with pytest.raises(UserError, match=r"scores/a\.parquet: has no image s1; delete it"):
        compare([write("a", ["s0"]), write("b", ["s2"])])
    with pytest.raises(UserError, match=r"scores/b\.parquet: has no image s2; delete it"):
        compare([write("a", ["s0", "s1"])])


def test_features_of_different_networks_are_not_compared(write, tmp_path):
    with pytest.raises(UserError, match=r"b\.parquet: has features of another network"):
        compare([write("a", ["s0", "s1"]), write("b", ["s2"], "n2")])
    table = scored(["r0"], "n2", split=["train"], label=[0], label_name=["bag"])
    write_manifest("real_scores", table, tmp_path / "real_scores.parquet")
    real = read_real_images(str(tmp_path / "real_scores.parquet"))
    with pytest.raises(UserError, match=r"real_scores\.parquet: has features of another network"):
        compare([write("a", ["s0", "s1"]), write("b", ["s2"])], real)


def brute_force(hashed: int | None, others: list[int | None]) -> tuple[int | None, int | None]:
    """Position and distance of the one of `others` that is nearest to `hashed`, the first of equals."""
    known = [] if hashed is None else [((hashed ^ other).bit_count(), i) for i, other in enumerate(others) if other]
    return min(known)[::-1] if known else (None, None)


def test_the_table_of_many_shards_is_in_the_order_of_the_plan_and_has_the_nearest_of_all_images(tmp_path, monkeypatch):
    """Two fills of two classes in two groups; shards hold images of several of them; row groups of 8 rows."""
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 8)
    rng, home = np.random.default_rng(0), tmp_path / "results/e"
    cells = [(label, group, fill) for label in (0, 1) for group in ("a", "b") for fill in ("one", "two")]
    plan = pd.DataFrame([cell for cell in cells for _ in range(15)], columns=["label", "group", "fill"])
    plan = plan.assign(index=list(range(15)) * len(cells), label_name=[f"class {i}" for i in plan["label"]])
    plan = plan.assign(
        image_id=[f"{i:024x}" for i in rng.permutation(len(plan))], shard=rng.choice(list("xyz"), len(plan))
    )
    hashes = [None if rng.random() < 0.1 else int(rng.integers(0, 2**63)) for _ in range(len(plan))]
    plan = plan.assign(hash=pd.Series(hashes, dtype=object), score=rng.random(len(plan)).astype(np.float32))
    (home / "scores").mkdir(parents=True)
    for name, rows in plan.sample(frac=1, random_state=0).groupby("shard"):
        unread = rows["hash"].isna().to_numpy()
        table = pa.table({"image_id": rows["image_id"].tolist(), "sha256": ["h"] * len(rows)})
        table = table.append_column("text_image_score", pa.array(rows["score"].to_numpy()))
        table = table.append_column("perceptual_hash", pa.array(rows["hash"].tolist(), pa.uint64()))
        table = table.append_column("row", pa.array(np.arange(len(rows)), mask=unread))
        table = table.append_column("fault", pa.array(np.where(unread, "is damaged", None), pa.string()))
        write_manifest("shard_scores", table, home / f"scores/{name}.parquet")
    real = pd.DataFrame({"image_id": [f"r{i}" for i in range(9)], "split": ["train", "test", "val"] * 3, "label": 0})
    real_hashes = [int(one) for one in rng.integers(0, 2**63, 9)]
    table = pa.Table.from_pandas(real.assign(label_name="class 0", group="a"), preserve_index=False)
    table = table.append_column("perceptual_hash", pa.array(real_hashes, pa.uint64()))
    write_manifest("real_scores", table, home / "real_scores.parquet")
    real = read_manifest("real_scores", home / "real_scores.parquet", ["image_id", "split", "perceptual_hash"])
    numbers = dict.fromkeys(("seed", "steps", "size", "stored_size", "guidance", "sampler_version"), 1)
    texts = {name: "x" for name in SCHEMAS["plan"].names if name not in {*plan, *numbers, "source_image", "strength"}}
    texts |= {"original_size": 1, "truncate": False}
    write_manifest("plan", plan.drop(columns=["hash", "score"]).assign(**numbers, **texts), home / "plan.parquet")
    settings = {"train_split": "train", "duplicates": True, "leakage": True}
    files = [str(home / f"scores/{name}.parquet") for name in "zxy"]
    out = Outputs(scores=str(home / "scores.parquet"))
    script.main(str(home / "plan.parquet"), files, str(home / "real_scores.parquet"), settings, 1, out)

    expected = []
    for row in plan.itertuples():
        earlier = plan[(plan.index < row.Index) & (plan["label"] == row.label) & (plan["fill"] == row.fill)]
        found = {"earlier": (earlier["image_id"].tolist(), earlier["hash"].tolist())}
        for name, rows in (("train", real[real["split"] == "train"]), ("test", real[real["split"] != "train"])):
            found[name] = rows["image_id"].tolist(), [int(one) for one in rows["perceptual_hash"]]
        columns = {}
        for name, (ids, others) in found.items():
            nearest, distance = brute_force(row.hash, others)
            columns[f"hash_nearest_{name}"] = None if nearest is None else ids[nearest]
            columns[f"nearest_{name}_distance"] = distance
        expected.append(columns)
    scores = read_manifest("scores", out.scores)
    assert scores["image_id"].tolist() == plan["image_id"].tolist()
    wanted = pd.DataFrame(expected)
    pd.testing.assert_frame_equal(scores[wanted.columns].astype(wanted.dtypes), wanted)
    assert scores["text_image_score"].tolist() == plan["score"].tolist()
    paths = "results/e/shards/" + plan["shard"] + ".parquet"
    assert scores["path"].tolist() == paths.where(plan["hash"].notna(), None).tolist()
    assert scores["fault"].notna().tolist() == plan["hash"].isna().tolist()
    write_manifest("scores", scores, tmp_path / "whole.parquet")
    assert (home / "scores.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_plan_without_images_has_no_scores(tmp_path):
    write_manifest("plan", pd.DataFrame(), tmp_path / "plan.parquet")
    settings = {"train_split": "train", "duplicates": True, "leakage": False}
    out = Outputs(scores=str(tmp_path / "scores.parquet"))
    script.main(str(tmp_path / "plan.parquet"), [], None, settings, 1, out)
    assert read_manifest("scores", out.scores).empty
