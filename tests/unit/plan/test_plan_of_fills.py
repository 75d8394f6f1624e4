"""The plan of several fills: the images of each are those that its settings give alone."""

import pandas as pd
import pytest

from synaug.config import load_config
from synaug.manifests import read_manifest, write_manifest
from synaug.plan.rows import plan_from_settings
from synaug.plan.shards import fills_of_shards, planned_shards, rows_of_shard
from synaug.runtime.errors import UserError

COUNTS = {"a": 50, "b": 20, "c": 47}
HUB = {"model": "m", "revision": "abc", "images_per_shard": 20}


@pytest.fixture
def plan_of(cells):
    """A function: the plan of some fills, or of one without a name."""

    def plan_of(fills: dict | None = None, generation=HUB, **options) -> pd.DataFrame:
        settings = {
            "seed": 0,
            "image_size": 28,
            "color": "grey",
            "balance": {},
            "prompts": {},
            "generation": generation,
        }
        if fills:
            settings["fills"] = {name: generation | keys for name, keys in fills.items()}
        return plan_from_settings(cells(COUNTS), settings, None, **options)

    return plan_of


def test_without_a_model_no_image_is_planned(plan_of):
    assert plan_of(generation={"model": None}).empty


def test_every_fill_completes_every_class_with_the_images_of_its_settings_alone(plan_of):
    plan = plan_of({"plain": {}, "strong": {"guidance": 4.0}})
    for name, generation in {"plain": HUB, "strong": HUB | {"guidance": 4.0}}.items():
        alone = plan_of(generation=generation)
        assert set(alone["fill"]) == {""}
        of_fill = plan[plan["fill"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_fill.drop(columns="fill"), alone.drop(columns="fill"))


@pytest.mark.parametrize(
    ("image_size", "crop_area", "stored"), [(224, 1.0, 224), (224, 0.5, 512), (640, 0.5, 640), (64, 0.5, 64)]
)
def test_with_crops_of_large_images_the_images_keep_the_size_at_which_they_are_made(
    cells, image_size, crop_area, stored
):
    """Crops of real photographs are cut out of the files, so those of images of 224 pixels would be less sharp."""
    config = load_config(
        {
            "experiment": "crops",
            "dataset": {"source": "folder", "path": "photos", "image_size": image_size},
            "generation": HUB,
            "training": {"crop_area": crop_area},
            "recipes": "auto",
        }
    )
    assert set(plan_from_settings(cells(COUNTS), config.plan_settings(), None)["stored_size"]) == {stored}


def test_a_shard_has_images_of_one_fill(plan_of, tmp_path):
    plan = plan_of({"plain": {}, "strong": {"guidance": 4.0}})
    path = tmp_path / "plan.parquet"
    write_manifest("plan", plan, path)
    fills = fills_of_shards(str(path), path.stat().st_mtime_ns)
    written = read_manifest("plan", path)
    assert (written["shard"].map(fills) == written["fill"]).all() and set(fills.values()) == {"plain", "strong"}


def test_the_rows_of_a_shard_are_those_that_the_plan_gives_it(plan_of, tmp_path, monkeypatch):
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 16)  # a shard then has rows in several row groups
    path = tmp_path / "plan.parquet"
    write_manifest("plan", plan_of({"plain": {}, "strong": {"guidance": 4.0}}), path)
    plan = read_manifest("plan", path)
    for shard, rows in plan.groupby("shard"):
        pd.testing.assert_frame_equal(rows_of_shard(path, shard), rows.reset_index(drop=True))
    ids = rows_of_shard(path, plan["shard"].iloc[-1], ["image_id"])
    assert ids["image_id"].tolist() == plan.loc[plan["shard"] == plan["shard"].iloc[-1], "image_id"].tolist()
    assert rows_of_shard(path, "f" * 16).empty


def test_the_pilot_has_the_first_images_of_every_class_and_fill(plan_of, tmp_path):
    fills = {"plain": {}, "strong": {"guidance": 4.0}}
    whole, pilot = plan_of(fills), plan_of(fills, pilot=16)
    assert set(pilot["image_id"]) == set(whole.loc[whole["index"] < 16, "image_id"])
    for name, plan in (("plan", whole), ("pilot", pilot)):
        write_manifest("plan", plan, tmp_path / f"{name}.parquet")
    assert planned_shards(tmp_path) == {*whole["shard"], *pilot["shard"]}


def test_the_gate_shortens_the_fill_of_a_class_or_leaves_it_out(plan_of):
    fills = {"plain": {}, "strong": {"guidance": 4.0}}
    gate = pd.DataFrame({"fill": ["plain", "strong"], "label_name": ["b", "b"], "share": [0.75, 0.0]})
    whole, gated = plan_of(fills), plan_of(fills, gate=gate)
    assert set(gated["image_id"]) < set(whole["image_id"])
    sizes = gated.groupby(["fill", "label_name"]).size()
    assert sizes["plain", "b"] == 23 and ("strong", "b") not in sizes  # of 30
    assert sizes["plain", "c"] == sizes["strong", "c"] == 3
    assert gated.loc[gated["label_name"] == "b", "index"].tolist() == list(range(23))


def test_two_names_of_one_model_are_no_two_fills(plan_of, checkpoint, tmp_path):
    folders = [str(checkpoint(tmp_path / name)) for name in ("first", "second")]
    with pytest.raises(UserError, match=r"^fills: one and two make the same images; leave one out$"):
        plan_of({"one": {"model": folders[0]}, "two": {"model": folders[1]}})
