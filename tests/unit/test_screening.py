"""Screening rejects with a reason, and the balanced manifest holds what is left."""

import hashlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from synaug.balance import build_balanced_manifest, images_digest, rows_of_recipe
from synaug.config import Balance, Generation, Prompts, Screening
from synaug.errors import UserError
from synaug.images import encode_image
from synaug.manifests import read_manifest, write_manifest
from synaug.plan import plan_generation
from synaug.schemas import SCHEMAS
from synaug.screening import screen_synthetic


@pytest.fixture
def plan(cells) -> pd.DataFrame:
    return plan_generation(
        cells({"a": 6, "b": 2, "c": 4}),
        balance=Balance(),
        prompts=Prompts(),
        generation=Generation(model="m", images_per_shard=5),
        seed=0,
        image_size=28,
        color="grey",
        version="v",
    )


@pytest.fixture
def shards(plan, pngs, tmp_path):
    """A function: shards of `plan` (name -> path), with other bytes, or none, for some image_ids."""

    def write(changes: dict[str, bytes | None]) -> dict[str, str]:
        paths, sources = {}, iter(pngs)
        for name, rows in plan.groupby("shard"):
            data = {image_id: changes.get(image_id, next(sources)) for image_id in rows["image_id"]}
            rows = rows[[data[image_id] is not None for image_id in rows["image_id"]]]
            rows = rows.assign(
                image=[{"bytes": data[image_id], "path": None} for image_id in rows["image_id"]],
                sha256=[hashlib.sha256(data[image_id]).hexdigest() for image_id in rows["image_id"]],
                batch_size=1, threads=1, device="cpu", libraries="", width=28, height=28,
            )  # fmt: skip
            paths[name] = str(tmp_path / f"{name}.parquet")
            write_manifest("shard", rows[SCHEMAS["shard"].names], paths[name])
        return paths

    return write


def screened(plan, paths, tmp_path, **settings) -> pd.DataFrame:
    """The manifest `synthetic`, as the next rule reads it."""
    write_manifest("synthetic", screen_synthetic(plan, paths, Screening(**settings)), tmp_path / "synthetic.parquet")
    return read_manifest("synthetic", tmp_path / "synthetic.parquet").set_index("image_id")


def test_good_images_are_accepted_and_can_be_found(plan, shards, tmp_path):
    table = screened(plan, shards({}), tmp_path)
    assert table["accepted"].all()
    assert table["reason"].isna().all()
    assert sorted(table.index) == sorted(plan["image_id"])
    for row in table.itertuples():
        stored = pq.read_table(row.path, columns=["image_id", "sha256"]).slice(row.row, 1).to_pylist()[0]
        assert stored == {"image_id": row.Index, "sha256": row.sha256}


def test_every_rejected_image_is_a_row_with_a_reason(plan, shards, tmp_path, pngs):
    blank, small, cut, gone, empty = plan["image_id"].iloc[:5]
    paths = shards(
        {
            blank: encode_image(np.full((28, 28, 1), 7, np.uint8)),
            small: encode_image(np.random.default_rng(0).integers(0, 256, (16, 28, 1), np.uint8)),
            cut: pngs[0][: len(pngs[0]) // 2],
            gone: None,
            empty: b"",
        }
    )
    table = screened(plan, paths, tmp_path)
    assert len(table) == len(plan)
    assert table["accepted"].sum() == len(plan) - 5
    reasons = table["reason"]
    assert "blank" in reasons[blank]
    assert "28 x 16" in reasons[small]
    assert "not in its shard" in reasons[gone]
    assert "empty" in reasons[empty]
    assert reasons[cut]


def test_contrast_limit_is_the_users(plan, shards, tmp_path):
    assert not screened(plan, shards({}), tmp_path, min_contrast=200.0)["accepted"].any()
    flat = {image_id: encode_image(np.full((28, 28, 1), 7, np.uint8)) for image_id in plan["image_id"]}
    assert screened(plan, shards(flat), tmp_path, min_contrast=0.0)["accepted"].all()


def real_rows(count: int = 6) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": [f"r{i}" for i in range(count)],
            "split": ["train"] * (count - 2) + ["test"] * 2,
            "label": [0, 1, 2] * (count // 3),
            "label_name": ["a", "b", "c"] * (count // 3),
            "path": [f"{i}.png" for i in range(count)],
            "row": pd.array([None] * count, "Int64"),
            "sha256": [f"s{i}" for i in range(count)],
            "usable": [i != 0 for i in range(count)],
        }
    )


def test_balanced_manifest_is_usable_training_images_and_accepted_ones(plan, shards, tmp_path):
    rejected = plan["image_id"].iloc[0]
    synthetic = screened(plan, shards({rejected: b""}), tmp_path).reset_index()
    write_manifest("balanced", build_balanced_manifest(real_rows(), synthetic, "train"), tmp_path / "balanced.parquet")
    balanced = read_manifest("balanced", tmp_path / "balanced.parquet")
    assert set(balanced["image_id"]) == {"r1", "r2", "r3"} | set(plan["image_id"]) - {rejected}
    assert set(rows_of_recipe(balanced, "real")["image_id"]) == {"r1", "r2", "r3"}
    assert len(rows_of_recipe(balanced, "balanced")) == len(balanced)
    assert (balanced["weight"] == 1).all()


def test_a_class_without_any_accepted_image_is_named(plan, shards, tmp_path):
    lost = plan.loc[plan["label_name"] == "b", "image_id"]
    synthetic = screened(plan, shards(dict.fromkeys(lost, b"")), tmp_path).reset_index()
    with pytest.raises(UserError, match=r"'b': all 4 .*is empty"):
        build_balanced_manifest(real_rows(), synthetic, "train")


def test_balanced_data_go_through_without_any_synthetic_image(plan, tmp_path):
    synthetic = screened(plan[:0], {}, tmp_path).reset_index()
    write_manifest("balanced", build_balanced_manifest(real_rows(), synthetic, "train"), tmp_path / "balanced.parquet")
    assert read_manifest("balanced", tmp_path / "balanced.parquet")["image_id"].tolist() == ["r3", "r1", "r2"]


def test_digest_sees_what_is_trained_on_but_not_where_it_lies():
    none = pd.DataFrame(columns=SCHEMAS["synthetic"].names).astype({"accepted": bool})
    rows = build_balanced_manifest(real_rows(), none, "train")
    digest = images_digest(rows)
    assert images_digest(rows[::-1]) == digest
    assert images_digest(rows.assign(path="elsewhere.parquet", row=5)) == digest
    for column, value in {"sha256": "t", "label": 9, "label_name": "z", "source": "synthetic", "weight": 0.5}.items():
        changed = rows.copy()
        changed[column] = [value, *rows[column].tolist()[1:]]
        assert images_digest(changed) != digest, column
    assert images_digest(rows[:-1]) != digest
