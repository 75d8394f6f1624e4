"""The output of `snakemake plan`: counts from the plan and the stored images, time and disk from measurements."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from plan.estimate_cost import main
from synaug.generation.existing import stored_ids
from synaug.manifests import write_manifest
from synaug.plan import estimate
from synaug.plan.estimate import cost_table, cost_text, measured_speed, stored_size

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


@pytest.fixture
def make(make):
    """A function: the plan of COUNTS (105 images, 6 shards) with two prompts and other settings of generation."""
    return partial(make, prompts={"templates": ["a {label}", "one {label}"]})


def of_cells(cells):
    return cells(COUNTS).query("kind == 'cell'")


def test_counts_per_class_and_images_that_exist_in_other_experiments(make, cells, store, tmp_path):
    plan = make()
    store(plan[plan["label_name"] == "c"].head(10))
    store(plan[plan["label_name"] == "d"].head(4), "preview", place=".")
    store(plan[plan["label_name"] == "b"].head(3), "batch", place=f"work/{'1' * 16}")
    stored = stored_ids(plan["image_id"], tmp_path)
    table = cost_table(plan, of_cells(cells), stored, None, stored_size(plan, tmp_path)).set_index("label_name")
    assert table["real"].to_dict() == COUNTS
    assert table["synthetic"].tolist() == [0, 20, 38, 47]
    assert table["exist"].tolist() == [0, 3, 10, 4]
    assert table["to_make"].tolist() == [0, 17, 28, 43]
    assert table["shards"].tolist() == [0, 1, 2, 3]
    assert table["prompts"].tolist() == [0, 2, 2, 2]
    assert table.loc["d", "example"] == "a d"


def test_without_a_measurement_no_time_is_given(make, cells, tmp_path):
    text = cost_text(make(), of_cells(cells), tmp_path)
    assert "Device hours: not known" in text
    assert "snakemake --cores 1 preview" in text
    assert "at most 1.8 kB per image" in " ".join(text.split())  # 28 x 28 bytes, and 1000 for the rest of the row
    assert " nan" not in text.lower()


def test_time_comes_from_shards_with_the_same_settings(make, cells, store, tmp_path):
    plan = make()
    store(plan.head(20), seconds=10.0)
    assert measured_speed(plan, tmp_path).per_image == pytest.approx(0.5)
    assert measured_speed(plan, tmp_path).per_shard == pytest.approx(7)
    text = " ".join(cost_text(plan, of_cells(cells), tmp_path).split())
    assert "85 images in 5 shards" in text
    assert f"Device hours: {(85 * 0.5 + 5 * 7) / 3600:.2g} " in text
    assert "20 images made on a GPU: 2 images/s, plus 7.0 s per shard" in text


@pytest.mark.parametrize(
    "other", [{"steps": 10}, {"guidance": 1.0}, {"size": 256}, {"dtype": "float16"}, {"scheduler": "DDIMScheduler"}]
)
def test_shards_with_other_settings_are_not_used_for_the_time(make, store, tmp_path, other):
    store(make(**other).head(20), seconds=10.0)
    assert measured_speed(make(), tmp_path) is None


def test_prompts_guidance_above_one_and_other_classes_do_not_matter(make, store, tmp_path):
    store(make(guidance=7.5).head(20), seconds=10.0)
    assert measured_speed(make(guidance=2.0), tmp_path) is not None


def test_a_preview_that_fills_no_batch_does_not_count_as_slow(make, store, tmp_path):
    plan = make()
    store(plan.head(16), "preview", seconds=50.0, batch_size=100, place=".")
    assert measured_speed(plan, tmp_path).per_image == pytest.approx(0.5)


def test_the_device_used_last_counts_and_damaged_cost_files_do_not(make, store, tmp_path):
    plan = make()
    store(plan.head(20), "1" * 16, seconds=100.0, device="slow")
    store(plan.head(40).tail(20), "2" * 16, seconds=1.0, device="fast")
    store(plan.tail(20), "3" * 16)
    (tmp_path / "other" / "costs" / ("3" * 16 + ".json")).write_text('{"images_sampled": 20')
    (tmp_path / "other" / "shards" / ("4" * 16 + ".parquet")).write_text("cut off")
    speed = measured_speed(plan, tmp_path)
    assert (speed.device, speed.images) == ("fast", 20)


def test_the_device_of_most_images_of_a_shard_counts(make, store, tmp_path):
    store(make().head(20), seconds=10.0, device=["a"] * 9 + ["b"] * 11)
    assert measured_speed(make(), tmp_path).device == "b"


def test_more_fills_do_not_read_the_stored_images_more_often(make, cells, store, tmp_path, monkeypatch):
    fills = [make(steps=steps).assign(fill=fill) for fill, steps in (("one", 20), ("two", 30), ("three", 40))]
    store(fills[0].head(20), "1" * 16, seconds=10.0)
    store(fills[1].head(20), "2" * 16, seconds=20.0)
    read, count_rows = [], estimate.count_rows
    monkeypatch.setattr(estimate, "count_rows", lambda *arguments: read.append(arguments) or count_rows(*arguments))
    text = cost_text(pd.concat(fills, ignore_index=True), of_cells(cells), tmp_path)
    assert [text.count(time) for time in (": 2 images/s", ": 1 images/s", "Device hours: not known")] == [1, 1, 1]
    assert len(read) == 2 * 2  # the settings that decide the time, and those that decide the size


def test_disk_comes_from_stored_images_of_the_same_form(make, store, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
    store(make(steps=10).head(40), image=noise)
    store(make(format="webp").head(40), "1" * 16, image=noise * 20)
    size = stored_size(make(), tmp_path)
    assert size.images == 40
    assert 500 < size.per_image < 900


def test_images_in_finished_batches_are_not_to_be_made_and_tell_their_size(make, cells, store, tmp_path):
    plan = make()
    store(plan.head(60), "batch", place=f"work/{'1' * 16}")
    text = " ".join(cost_text(plan, of_cells(cells), tmp_path).split())
    assert "all 95 105 60 45 " in text
    assert "not known for 45 images in 3 shards, because no shard or preview has this model" in text
    assert "the mean of 60 images of this size and format" in text


def test_images_of_the_pilot_that_exist_are_not_counted_as_made_by_it(make, cells, store, tmp_path, capfd):
    plan, folder = make(), tmp_path / "e"
    write_manifest("imbalance", cells(COUNTS), folder / "imbalance.parquet")
    write_manifest("plan", plan, folder / "plan.parquet")
    arguments = {"real": None, "settings": {}, "pilot": 5, "compile": False}
    main(str(folder / "plan.parquet"), str(folder / "imbalance.parquet"), **arguments)
    assert "The pilot makes 15 of these images." in capfd.readouterr().out
    store(plan[plan["label_name"] == "b"].head(7), "batch", place=f"work/{'1' * 16}")
    main(str(folder / "plan.parquet"), str(folder / "imbalance.parquet"), **arguments)
    assert "The pilot makes 10 of these images." in capfd.readouterr().out


@pytest.mark.parametrize("compile", [False, "auto"])
def test_the_estimate_of_a_plan_in_many_row_groups_is_that_of_the_whole(
    make, cells, store, tmp_path, capfd, monkeypatch, compile
):
    monkeypatch.setattr("synaug.manifests.tables.ROW_GROUP", 7)
    fills = [make(steps=steps).assign(fill=fill) for fill, steps in (("one", 20), ("two", 30))]
    plan, folder = pd.concat(fills, ignore_index=True), tmp_path / "e"
    store(fills[0].head(20), seconds=10.0)
    write_manifest("imbalance", cells(COUNTS), folder / "imbalance.parquet")
    write_manifest("plan", plan, folder / "plan.parquet")
    main(str(folder / "plan.parquet"), str(folder / "imbalance.parquet"), None, {}, None, compile)
    assert capfd.readouterr().out.strip("\n") == cost_text(plan, of_cells(cells), tmp_path, compile)


def test_balanced_data_have_nothing_to_make(make, cells, tmp_path):
    assert "no generation.model: nothing to make" in cost_text(make().head(0), of_cells(cells), tmp_path)


def test_a_plan_whose_images_all_exist_costs_nothing(make, cells, store, tmp_path):
    store(make())
    assert "Device hours: 0; all images exist already." in cost_text(make(), of_cells(cells), tmp_path)


def test_the_columns_of_the_table_are_aligned(make, cells, store, tmp_path):
    store(make().head(20), seconds=10.0)
    _, _, header, *rows = cost_text(make(), of_cells(cells), tmp_path).splitlines()[:8]
    for title in ("synthetic", "to make", "device time", "disk"):
        end = header.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end] == " " for row in rows), title


def test_the_text_warns_of_a_restricted_licence(make, cells, tmp_path):
    restricted = make(model="facebook/DiT-XL-2-256")
    assert "CC-BY-NC-4.0" in cost_text(restricted, of_cells(cells), tmp_path)
    assert "Licence of" not in cost_text(make(), of_cells(cells), tmp_path)
