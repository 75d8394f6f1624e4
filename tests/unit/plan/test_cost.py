"""What `snakemake plan` prints: counted from the plan and what exists, estimated from what was measured."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from synaug.config import Balance, Generation, Prompts
from synaug.manifests import write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.estimate import cost_table, cost_text, measured_speed, stored_files, stored_ids, stored_size
from synaug.plan.rows import plan_generation

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


@pytest.fixture
def make(cells):
    """A function: the plan of COUNTS (105 images, 6 shards) with other settings of generation."""

    def make(**generation) -> pd.DataFrame:
        return plan_generation(
            cells(COUNTS),
            balance=Balance(),
            prompts=Prompts(templates=["a {label}", "one {label}"]),
            generation=Generation(**{"model": "m", "steps": 20, "images_per_shard": 20, **generation}),
            seed=0,
            image_size=28,
            color="grey",
            version="v",
        )

    return make


@pytest.fixture
def store(tmp_path):
    """A function: rows of a plan to a stored shard, and perhaps what it cost."""

    def store(rows, name="0" * 16, seconds=None, device="a GPU", batch_size=10, place="shards", image=b"x" * 100):
        made = rows.assign(
            image=[{"bytes": image, "path": "x.png"}] * len(rows),
            sha256=hashlib.sha256(image).hexdigest(), width=28, height=28, batch_size=batch_size, device=device,
            threads=1, libraries="none",
        )  # fmt: skip
        folder = tmp_path / "other"
        file = folder / place / f"{name}.parquet"
        write_manifest("shard", made[SCHEMAS["shard"].names], file)
        if seconds is not None:
            cost = {"images_sampled": len(rows), "seconds_sampling": seconds, "seconds": seconds + 7, "device": "cpu"}
            noted = (folder / "costs" if place == "shards" else folder) / f"{name}.json"
            noted.parent.mkdir(exist_ok=True)
            noted.write_text(json.dumps(cost))
        return file

    return store


def of_cells(cells):
    return cells(COUNTS).query("kind == 'cell'")


def test_counts_per_class_and_what_exists_elsewhere(make, cells, store, tmp_path):
    plan = make()
    store(plan[plan["label_name"] == "c"].head(10))
    store(plan[plan["label_name"] == "d"].head(4), "preview", place=".")
    stored = stored_ids(stored_files(tmp_path))
    table = cost_table(plan, of_cells(cells), stored, None, stored_size(plan, tmp_path)).set_index("label_name")
    assert table["real"].to_dict() == COUNTS
    assert table["synthetic"].tolist() == [0, 20, 38, 47]
    assert table["exist"].tolist() == [0, 0, 10, 4]
    assert table["to_make"].tolist() == [0, 20, 28, 43]
    assert table["shards"].tolist() == [0, 1, 2, 3]
    assert table["prompts"].tolist() == [0, 2, 2, 2]
    assert table.loc["d", "example"] == "a d"


def test_nothing_measured_is_said_and_no_number_is_made_up(make, cells, tmp_path):
    text = cost_text(make(), of_cells(cells), tmp_path)
    assert "Device hours: not known" in text
    assert "snakemake --cores 1 preview" in text
    assert "at most 1.8 kB per image" in " ".join(text.split())  # 28 x 28 bytes, and 1000 beside them
    assert " nan" not in text.lower()


def test_time_comes_from_shards_that_were_made_in_the_same_way(make, cells, store, tmp_path):
    plan = make()
    store(plan.head(20), seconds=10.0)
    assert measured_speed(plan, tmp_path).per_image == pytest.approx(0.5)
    assert measured_speed(plan, tmp_path).per_shard == pytest.approx(7)
    text = " ".join(cost_text(plan, of_cells(cells), tmp_path).split())
    assert "85 images in 5 shards" in text
    assert f"Device hours: {(85 * 0.5 + 5 * 7) / 3600:.2g} " in text
    assert "20 images on a GPU: 2 images/s, and 7.0 s per shard" in text


@pytest.mark.parametrize(
    "other", [{"steps": 10}, {"guidance": 1.0}, {"size": 256}, {"dtype": "float16"}, {"scheduler": "DDIMScheduler"}]
)
def test_shards_made_in_another_way_say_nothing_of_the_time(make, store, tmp_path, other):
    store(make(**other).head(20), seconds=10.0)
    assert measured_speed(make(), tmp_path) is None


def test_prompts_guidance_above_one_and_other_classes_do_not_matter(make, store, tmp_path):
    store(make(guidance=7.5).head(20), seconds=10.0)
    assert measured_speed(make(guidance=2.0), tmp_path) is not None


def test_a_preview_that_filled_no_batch_is_not_read_as_slow(make, store, tmp_path):
    plan = make()
    store(plan.head(16), "preview", seconds=50.0, batch_size=100, place=".")
    assert measured_speed(plan, tmp_path).per_image == pytest.approx(0.5)


def test_the_newest_device_counts_and_damaged_notes_do_not(make, store, tmp_path):
    plan = make()
    store(plan.head(20), "1" * 16, seconds=100.0, device="slow")
    store(plan.head(40).tail(20), "2" * 16, seconds=1.0, device="fast")
    store(plan.tail(20), "3" * 16)
    (tmp_path / "other" / "costs" / ("3" * 16 + ".json")).write_text('{"images_sampled": 20')
    (tmp_path / "other" / "shards" / ("4" * 16 + ".parquet")).write_text("cut off")
    speed = measured_speed(plan, tmp_path)
    assert (speed.device, speed.images) == ("fast", 20)


def test_disk_comes_from_stored_images_of_the_same_form(make, store, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
    store(make(steps=10).head(40), image=noise)
    store(make(format="webp").head(40), "1" * 16, image=noise * 20)
    size = stored_size(make(), tmp_path)
    assert size.images == 40
    assert 500 < size.per_image < 900


def test_balanced_data_have_nothing_to_make(make, cells, tmp_path):
    assert "nothing to make" in cost_text(make().head(0), of_cells(cells), tmp_path)


def test_everything_there_costs_nothing(make, cells, store, tmp_path):
    store(make())
    assert "Device hours: 0; all images exist already." in cost_text(make(), of_cells(cells), tmp_path)


def test_every_line_of_the_table_has_its_columns_under_each_other(make, cells, store, tmp_path):
    store(make().head(20), seconds=10.0)
    _, _, header, *rows = cost_text(make(), of_cells(cells), tmp_path).splitlines()[:8]
    for title in ("synthetic", "to make", "device time", "disk"):
        end = header.index(title) + len(title)
        assert all(row[end - 1] != " " and row[end] == " " for row in rows), title
