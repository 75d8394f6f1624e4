"""Other ways to generate than the default one, through the real rules."""

import io

import pyarrow.parquet as pq
from PIL import Image
from workdir import CLASSES

from synaug.manifests import read_manifest

SCORES = "results/test/scores.parquet"  # behind all shards
FILL = sum(max(CLASSES.values()) - count for count in CLASSES.values())


def test_image_to_image_follows_its_real_images(work):
    work.change(generation={"pipeline": "image-to-image", "strength": 0.5, "steps": 4})
    done = work.run(SCORES)
    assert done.status == 0, done.text
    real = read_manifest("real", work.results / "real.parquet").set_index("image_id")
    plan = read_manifest("plan", work.results / "plan.parquet")
    assert (plan["source_image"].map(real["label_name"]) == plan["label_name"]).all()
    assert set(plan["source_image"].map(real["split"])) == {"train"}

    # One of the three ankle boots goes: what started from it, and one more to fill the class, are made.
    victim = plan.loc[plan["label_name"] == "Stövel <b>", "source_image"].iloc[0]
    table = pq.read_table(work.path / "data" / "train.parquet")
    pq.write_table(
        table.filter([row != real.loc[victim, "row"] for row in range(table.num_rows)]),
        work.path / "data" / "train.parquet",
    )
    work.forget_logs()
    done = work.run(SCORES)
    assert done.status == 0, done.text
    # The new image may start from one of the two that are left; the others of the class keep theirs.
    assert work.sampled() == (plan["source_image"] == victim).sum() + 1


def test_storing_as_webp_with_a_batch_size_by_trial(work):
    work.change(generation={"format": "webp", "batch_size": None})
    done = work.run(SCORES)
    assert done.status == 0, done.text
    assert work.sampled() == FILL
    sizes = set()
    for shard in (work.results / "shards").glob("*.parquet"):
        table = pq.read_table(shard)
        if set(table["format"].to_pylist()) == {"webp"}:
            sizes |= set(table["batch_size"].to_pylist())
            assert {Image.open(io.BytesIO(image["bytes"])).format for image in table["image"].to_pylist()} == {"WEBP"}
    assert sizes and sizes <= {1, 2, 4, 8, 16}
