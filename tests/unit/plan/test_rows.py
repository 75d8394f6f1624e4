"""The plan: seeds, ids and shards of images, and which of them stay the same when something changes."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from synaug.config import Balance, Generation, Prompts
from synaug.manifests import read_manifest, write_manifest
from synaug.plan.checkpoints import model_version
from synaug.plan.rows import image_seeds, plan_generation
from synaug.runtime.errors import UserError

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


def ids(plan: pd.DataFrame, name: str | None = None) -> list[str]:
    return plan.loc[plan["label_name"] == name if name else slice(None), "image_id"].tolist()


def test_same_data_and_config_give_the_same_bytes(make, tmp_path):
    for name in ("one", "two"):
        write_manifest("plan", make(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_rows_of_the_data_in_another_order_give_the_same_bytes(cells, tmp_path):
    fixed = {
        "balance": Balance(), "prompts": Prompts(), "generation": Generation(model="m"), "seed": 0, "image_size": 28,
        "color": "grey", "version": "v",
    }  # fmt: skip
    table = cells(COUNTS)
    write_manifest("plan", plan_generation(table, **fixed), tmp_path / "one")
    write_manifest("plan", plan_generation(table[::-1], **fixed), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_image_has_its_own_id_and_seed(make):
    plan = make({"a": 500, "b": 5, "c": 1})
    assert plan["image_id"].is_unique
    assert plan["seed"].is_unique
    assert (plan["seed"] >= 0).all()
    assert plan.groupby("label_name")["index"].apply(lambda index: index.tolist() == list(range(len(index)))).all()


def test_most_shards_are_full_and_none_is_overfull(make):
    sizes = make({"a": 1000, "b": 900, "c": 430, "d": 5}, images_per_shard=100)["shard"].value_counts()
    assert sizes.max() <= 100
    assert (sizes == 100).sum() >= 15


def test_templates_alternate_and_names_replace_the_class_name(make):
    prompts = {"templates": ["a {label}", "one {label}"], "names": {"d": "dog's ball"}}
    plan = make(prompts=prompts).set_index(["label_name", "index"])["prompt"]
    assert [plan["d", i] for i in range(3)] == ["a dog's ball", "one dog's ball", "a dog's ball"]
    assert plan["c", 0] == "a c"


def test_every_prompt_is_used_with_all_pairs_of_steps_and_guidance(make):
    plan = make(steps=[10, 20], guidance=[1.5, 3.0], prompts={"templates": ["a {label}", "one {label}"]})
    rows = plan[plan["label_name"] == "d"]
    combinations = list(zip(rows["steps"], rows["guidance"], rows["prompt"], strict=True))
    assert combinations[:4] == [(10, 1.5, "a d"), (10, 3.0, "a d"), (20, 1.5, "a d"), (20, 3.0, "a d")]
    assert combinations[4] == (10, 1.5, "one d")
    assert len(set(combinations[:8])) == 8
    assert rows["image_id"].is_unique


def test_a_value_and_a_list_with_only_this_value_are_the_same(make):
    assert ids(make(steps=20, guidance=2)) == ids(make(steps=[20], guidance=[2.0]))


@pytest.mark.parametrize(("oversample", "planned"), [(1.0, [20, 38, 47]), (1.1, [22, 42, 52]), (2.0, [40, 76, 94])])
def test_spare_images_come_after_the_wanted_ones(make, oversample, planned):
    plan = make(balance={"oversample": oversample})
    assert plan["label_name"].value_counts().reindex(["b", "c", "d"]).tolist() == planned
    assert set(ids(make())) <= set(ids(plan))


@pytest.fixture(scope="session")
def real_images() -> pd.DataFrame:
    names = [name for name, count in COUNTS.items() for _ in range(count)]
    return pd.DataFrame({"image_id": [f"real {i}" for i in range(len(names))], "label_name": names})


def from_real(make, sources, **settings) -> pd.DataFrame:
    return make(pipeline="image-to-image", strength=0.6, sources=sources, **settings)


def test_images_start_from_real_ones_of_their_class(make, real_images):
    plan = from_real(make, real_images)
    class_of = real_images.set_index("image_id")["label_name"]
    assert (plan["source_image"].map(class_of) == plan["label_name"]).all()
    assert plan.loc[plan["label_name"] == "d", "source_image"].value_counts().between(5, 30).all()
    pd.testing.assert_frame_equal(plan, from_real(make, real_images.sample(frac=1, random_state=1)))


def test_removing_a_real_image_changes_only_the_images_that_started_from_it(make, real_images):
    before = from_real(make, real_images)
    removed = before.loc[before["label_name"] == "c", "source_image"].iloc[0]
    after = from_real(make, real_images[real_images["image_id"] != removed])
    same = before["image_id"].to_numpy() == after["image_id"].to_numpy()
    assert (same == (before["source_image"] != removed).to_numpy()).all()


def test_strength_and_source_decide_pixels(make, real_images):
    assert not set(ids(from_real(make, real_images))) & set(ids(make()))
    other = make(pipeline="image-to-image", strength=0.7, sources=real_images)
    assert not set(ids(from_real(make, real_images))) & set(ids(other))


def test_a_class_without_real_images_cannot_start_from_them(make, real_images):
    with pytest.raises(UserError, match="class 'd': has no real training image to start from"):
        from_real(make, real_images[real_images["label_name"] != "d"])


@pytest.mark.parametrize("names", [{"e": "x"}, {"d": "  "}])
def test_prompt_names_must_be_classes_and_have_words(make, names):
    with pytest.raises(UserError, match=r"prompts\.names.*'[ed]'"):
        make(prompts={"names": names})


def test_balanced_data_give_an_empty_plan(make, tmp_path):
    write_manifest("plan", make({"a": 5, "b": 5}), tmp_path / "plan.parquet")
    assert len(read_manifest("plan", tmp_path / "plan.parquet")) == 0


@pytest.mark.parametrize("trial", range(10))
def test_a_class_that_grows_keeps_its_images_and_changes_no_other_class(make, trial):
    rng = np.random.default_rng(trial)
    names = [f"class {i}" for i in range(rng.integers(3, 12))]
    lacks = dict(zip(names, rng.integers(1, 80, len(names)), strict=True))
    grower = names[rng.integers(len(names))]
    grown = lacks | {grower: lacks[grower] + int(rng.integers(1, 30))}
    before, after = (filled_to_200(make, lack) for lack in (lacks, grown))
    for name in names:
        old, new = before[before["label_name"] == name], after[after["label_name"] == name]
        assert new["image_id"].tolist()[: len(old)] == old["image_id"].tolist()
        assert new["seed"].tolist()[: len(old)] == old["seed"].tolist()
        assert len(new) == len(old) or name == grower


@pytest.mark.parametrize(
    ("lacks", "grower", "touched"),
    [
        ({"a": 23, "b": 5, "c": 4, "d": 7}, "c", 1),  # a block of a, and one shard for all that is less than a block
        ({"a": 15, "b": 3, "c": 12, "d": 6}, "d", 1),  # two shared shards: a and b, c and d
        ({"a": 15, "b": 3, "c": 12, "d": 19}, "d", 2),  # d fills a block, and leaves the shard that it shared
    ],
)
def test_a_class_that_grows_touches_only_shards_that_hold_its_images(make, lacks, grower, touched):
    before = filled_to_200(make, lacks)
    after = filled_to_200(make, lacks | {grower: lacks[grower] + 1})
    new = set(after["shard"]) - set(before["shard"])
    assert len(new) == touched
    assert set(after[~after["image_id"].isin(ids(before))]["shard"]) <= new


def test_many_small_tails_beside_a_large_one_share_shards(make):
    lacks = {f"class {i}": 1 for i in range(14)} | {"large": 15}
    assert filled_to_200(make, lacks)["shard"].nunique() <= 4


def filled_to_200(make, lacks: dict[str, int]):
    counts = {name: 200 - int(lack) for name, lack in lacks.items()}
    return make(counts, balance={"strategy": "fixed", "target": 200})


@pytest.mark.parametrize("trial", range(3))
def test_packing_survives_one_more_image_in_every_class(make, trial):
    rng = np.random.default_rng(trial)
    counts = {f"class {i}": int(n) for i, n in enumerate(rng.integers(1, 60, 12))}
    before, after = (make(counts, balance={"strategy": "fixed", "target": t}) for t in (100, 101))
    assert set(ids(before)) < set(ids(after))
    full = before["shard"].value_counts()
    kept = set(full[full == 20].index) & set(after["shard"])
    assert len(kept) >= 12 * 2  # whole blocks stay


def test_prompt_of_one_class_changes_only_its_images(make):
    before, after = make(), make(prompts={"names": {"c": "cat"}})
    assert ids(before, "b") == ids(after, "b")
    assert ids(before, "d") == ids(after, "d")
    assert not set(ids(before, "c")) & set(ids(after, "c"))


def test_a_new_class_leaves_the_images_of_the_others(make):
    before, after = make(), make({"a": 50, "aa": 7, "b": 30, "c": 12, "d": 3})
    assert set(ids(before)) < set(ids(after))


@pytest.mark.parametrize(
    "change",
    [{"guidance": 3.0}, {"steps": 21}, {"size": 256}, {"dtype": "float16"}, {"scheduler": "DDIMScheduler"},
     {"version": "w"}, {"seed": 1}, {"prompts": {"negative": "text"}}, {"adapters": "[]"}, {"format": "webp"},
     {"pipeline": "class-conditional"}, {"variant": "fp16"},
     {"scheduler": {"name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}}],
)  # fmt: skip
def test_what_decides_pixels_changes_every_id_and_changes_it_back(make, change):
    before, after = make(), make(**change)
    assert not set(ids(before)) & set(ids(after))
    assert make()["image_id"].tolist() == before["image_id"].tolist()


def test_the_place_of_a_local_adapter_does_not_change_ids_but_its_contents_do(make):
    def ids_with(model: str, version: str) -> list[str]:
        adapter = {"kind": "lora", "model": model, "file": None, "scale": 1.0, "token": None, "version": version}
        return ids(make(adapters=json.dumps([adapter], sort_keys=True)))

    first = ids_with("old/place", "sha256:1")
    assert ids_with("new/place", "sha256:1") == first
    assert set(ids_with("old/place", "sha256:2")).isdisjoint(first)
    assert set(ids_with("people/lora", "v1")).isdisjoint(ids_with("people/other", "v1"))  # of the hub: no hash


@pytest.mark.parametrize(
    ("change", "first_id"),
    [
        ({}, "e364b03d65a30880a2795227"),
        ({"guidance": 2.0}, "e364b03d65a30880a2795227"),
        ({"original_size": 512}, "e364b03d65a30880a2795227"),
        ({"variant": None}, "e364b03d65a30880a2795227"),
        ({"size": 1024, "guidance": 3.0, "steps": 30}, "76c8ace449ff95a5704db210"),
        ({"pipeline": "class-conditional", "size": 256}, "b611c1519dad72c53200bfa6"),
    ],
)
def test_newer_keys_at_their_defaults_keep_the_ids_of_earlier_versions(make, change, first_id):
    assert ids(make(**change))[0] == first_id


def test_a_scheduler_without_options_is_its_name(make):
    name = make(scheduler="EulerDiscreteScheduler")
    assert ids(make(scheduler={"name": "EulerDiscreteScheduler"})) == ids(name)
    assert set(name["scheduler"]) == {"EulerDiscreteScheduler"}
    options = {"timestep_spacing": "trailing", "name": "EulerDiscreteScheduler"}
    assert set(make(scheduler=options)["scheduler"]) == {
        '{"name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}'
    }


def test_the_original_size_is_part_of_the_id_if_it_differs_from_the_size(make):
    before, after = make(), make(original_size=1024)
    assert not set(ids(before)) & set(ids(after))
    assert set(before["original_size"]) == {0} and set(after["original_size"]) == {1024}


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 3},
        {"licence": "MIT"},
        {"note": "n"},
        {"images_per_shard": 7},
        {"keep_batches_in": "s3://bucket/batches"},
        {"compile": True},
        {"attention": "flash"},
        {"compile": False},
    ],
)
def test_what_does_not_decide_pixels_changes_no_id(make, change):
    assert ids(make()) == ids(make(**change))


def test_moving_the_model_folder_changes_no_id_but_changing_its_contents_does(make, checkpoint, tmp_path):
    folder = checkpoint(tmp_path / "old")
    before = make(model=str(folder), version=model_version(str(folder), None))
    folder = folder.rename(tmp_path / "new")
    moved = make(model=str(folder), version=model_version(str(folder), None))
    assert ids(before) == ids(moved)
    assert before["shard"].tolist() == moved["shard"].tolist()
    (folder / "README.md").write_text("decides no pixel")
    assert model_version(str(folder), None) == moved["model_version"].iloc[0]
    (folder / "unet/model.safetensors").write_bytes(b"Weights")
    assert not set(ids(moved)) & set(ids(make(model=str(folder), version=model_version(str(folder), None))))


def test_seeds_are_whole_numbers_although_a_class_lacks_nothing(make, tmp_path):
    """Class a lacks nothing: its empty column of seeds once turned all seeds into floats, which rounded them."""
    plan = make()
    assert "a" not in set(plan["label_name"])
    write_manifest("plan", plan, tmp_path / "plan.parquet")
    written = read_manifest("plan", tmp_path / "plan.parquet")
    for name, rows in written.groupby("label_name"):
        assert rows["seed"].tolist() == image_seeds(0, name, rows["index"])


def test_a_plan_is_the_same_in_batches_of_any_size(cells, monkeypatch):
    settings = {
        "balance": Balance(), "prompts": Prompts(templates=["a {label}", "one {label}"]), "seed": 0, "image_size": 28,
        "generation": Generation(model="m", steps=[10, 20], images_per_shard=20), "color": "grey", "version": "v",
    }  # fmt: skip
    whole = plan_generation(cells(COUNTS), **settings)
    monkeypatch.setattr("synaug.plan.rows._BATCH", 7)
    pd.testing.assert_frame_equal(plan_generation(cells(COUNTS), **settings), whole)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells the peak memory")
def test_a_plan_needs_little_memory_for_its_rows(cells, tmp_path):
    """60,000 more images take less than 25 MB more. As Python strings they take 75 MB."""
    program = """
import re, sys
from synaug.manifests import tables
from synaug.plan import rows
from plan.plan_generation import main
settings = {"seed": 0, "image_size": 28, "color": "grey", "balance": {}, "prompts": {"truncate": True},
            "generation": {"model": "hub/model", "revision": "0" * 40}}
rows._BATCH = tables.ROW_GROUP = 10_000
peaks = []
for name in sys.argv[1:]:
    main(name, None, settings, f"{name}.plan")
    # Not ru_maxrss, which begins with that of the process that started this one.
    peaks.append(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
print(*peaks)
"""
    for name, count in (("small", 20_000), ("large", 80_000)):
        write_manifest("imbalance", cells({"a": count, "b": 1}), tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "small", tmp_path / "large"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.split())
    assert large - small < 25 * 1024
