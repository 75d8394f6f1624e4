"""`synaug regenerate`: images generated again from their rows alone, and compared."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from finished_shards import change_row, damage_image, image_ids, shards, with_required_columns

from synaug.generation import pipelines
from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages
from synaug.manifests import read_table, write_manifest
from synaug.plan.shards import shard_name


def test_images_are_generated_again_from_their_rows_alone(synaug, home):
    """Without a plan or a config; alone and with others, in another order than before, from both shards."""
    for path in home.glob("*.parquet"):
        path.unlink()
    ids = [*image_ids(shards(home)[1])[::-1], image_ids(shards(home)[0])[2]]
    status, out, _ = synaug("regenerate", *ids)
    assert status == 0
    assert sorted(out.splitlines()) == sorted(f"{image_id} same" for image_id in ids)
    assert synaug("regenerate", ids[0], "--device", "cpu")[:2] == (0, f"{ids[0]} same\n")


def test_one_model_is_in_memory_at_a_time(synaug, home, models_in_memory):
    in_memory = models_in_memory(pipelines)
    change_row(shards(home)[0], 1, scheduler="DDIMScheduler")
    synaug("regenerate", *image_ids(shards(home)[0])[:2])
    assert in_memory == [[], [False]]


def test_the_beginning_of_a_unique_id_is_enough(synaug, home):
    image_id = image_ids(shards(home)[0])[0]
    assert synaug("regenerate", image_id[:8])[:2] == (0, f"{image_id} same\n")
    status, _, err = synaug("regenerate", "")
    assert status == 2 and "11 images in results have ids that begin like this" in err


def test_an_image_that_differs_is_measured(synaug, home):
    """The row of one image has the pixels of another, as if the model had changed."""
    file = shards(home)[0]
    other = read_table("shard", file).to_pylist()[3]
    change_row(file, 1, image=other["image"], sha256=other["sha256"])
    ids = image_ids(file)
    status, out, _ = synaug("regenerate", ids[1], ids[2])
    assert status == 1
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines[ids[2]] == "same"
    largest, mean = re.match(r"differs: by at most (\d+) of 255 levels, ([\d.]+) in the mean", lines[ids[1]]).groups()
    assert int(largest) > float(mean) > 0
    assert "are as recorded" in out


def test_changed_conditions_are_named(synaug, home):
    file = shards(home)[0]
    libraries = read_table("shard", file).column("libraries")[0].as_py()
    libraries = re.sub(r"torch [^,]+", "torch 1.0", libraries)
    change_row(file, 1, seed=1, device="NVIDIA H100", libraries=libraries)
    status, out, _ = synaug("regenerate", image_ids(file)[1])
    assert status == 1
    assert "device: recorded NVIDIA H100, now cpu" in out
    assert re.search(r"libraries: recorded torch 1\.0, now torch \d+\.\d+[^,]*\)$", out)


def test_a_different_file_with_the_same_pixels_is_reported_as_such(synaug, home):
    file = shards(home)[0]
    change_row(file, 1, licence="another")
    status, out, _ = synaug("regenerate", image_ids(file)[1])
    assert status == 1 and "differs: in the file but in no pixel" in out


def test_a_damaged_image_is_compared_by_its_recorded_hash(synaug, home):
    image_id = damage_image(shards(home)[0], 1)
    status, out, _ = synaug("regenerate", image_id)
    assert status == 0 and out.startswith(f"{image_id} same: but ") and "synaug verify" in out


def test_without_its_model_an_image_cannot_be_generated(synaug, home, tiny_checkpoint, tmp_path):
    file = shards(home)[0]
    for row, model in ((1, "/gone"), (2, str(shutil.copytree(tiny_checkpoint, tmp_path / "changed")))):
        change_row(file, row, model=model)
    weights = next((tmp_path / "changed").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    gone, other, intact = image_ids(file)[1:4]
    status, out, err = synaug("regenerate", gone, other, intact)
    assert status == 2
    lines = dict(line.split(" ", 1) for line in out.splitlines())
    assert lines[intact] == "same"
    assert lines[gone].startswith("cannot: ") and "/gone" in lines[gone]
    assert lines[other].startswith("cannot: ") and "changed" in lines[other]
    assert "Traceback" not in err
    # The content of the model counts, not its path.
    assert synaug("regenerate", gone, other, intact, "--model", tiny_checkpoint)[0] == 0


@pytest.fixture
def from_real(home, plan, tiny_checkpoint, pngs):
    """The ids of images generated from real images, in a shard of results/e, which also has the manifest `real`."""
    folder = Path("data")
    folder.mkdir()
    for number, data in enumerate(pngs[:2]):
        (folder / f"{number}.png").write_bytes(data)
    real = {"image_id": ["a", "b"], "path": ["data/0.png", "data/1.png"], "label_name": "cat", "usable": True}
    write_manifest("real", with_required_columns("real", pd.DataFrame(real)), home / "real.parquet")
    rows = plan.iloc[:3].assign(
        pipeline="image-to-image", strength=0.6, source_image=["a", "b", "a"], image_id=["1" * 24, "2" * 24, "3" * 24]
    )
    name = shard_name(rows["image_id"].tolist())
    sources = RealImages(home / "real.parquet", rows["source_image"], 16)
    generate_shard(rows, 2, home / f"shards/{name}.parquet", home / "work/x", [], 1, sources=sources)
    return rows["image_id"].tolist()


def test_images_from_real_images_need_these(synaug, home, from_real):
    status, out, _ = synaug("regenerate", *from_real)
    assert (status, out.count(" same")) == (0, 3)
    Path("data/1.png").unlink()
    status, out, _ = synaug("regenerate", *from_real)
    assert status == 2 and "cannot: data/1.png" in out
