"""Generation of a shard: real images to start from, batch size, measured usage."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch

from synaug.generation import batch_size, pipelines, sampling, sources
from synaug.generation.shards import generate_shard
from synaug.generation.sources import RealImages
from synaug.generation.usage import UsageMeter
from synaug.images.codec import decode_image
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError


@pytest.fixture
def real(tmp_path, fashion, pngs):
    """The manifest `real` of three image files."""
    rows = []
    for i in range(3):
        path = tmp_path / f"{i}.png"
        path.write_bytes(pngs[i])
        rows.append(
            {"image_id": f"real{i}", "split": "train", "label": 0, "label_name": "a", "path": str(path), "row": None,
             "column": None, "width": 28, "height": 28, "sha256": "", "usable": True, "reason": None}
        )  # fmt: skip
    write_manifest("real", pd.DataFrame(rows).astype({"row": "Int64"}), tmp_path / "real.parquet")
    return tmp_path / "real.parquet"


def test_real_images_have_the_size_of_the_model_and_three_channels(real):
    images = RealImages(real, ["real0", "real2", "real0"], 16)
    assert sorted(images) == ["real0", "real2"]
    assert images["real2"].shape == (16, 16, 3) and images["real2"].dtype == np.uint8
    assert (images["real0"] != images["real2"]).any()


def test_a_missing_real_image_is_one_line(real):
    with pytest.raises(UserError, match="has no image real9"):
        RealImages(real, ["real9"], 16)["real9"]


def test_real_images_are_read_only_when_one_is_needed(plan, real, tmp_path, monkeypatch):
    rows = plan.assign(pipeline="image-to-image", strength=0.5, source_image=[f"real{i % 3}" for i in range(len(plan))])
    existing = tmp_path / "existing.parquet"
    generate_shard(rows, 4, existing, tmp_path / "w", [], 1, sources=RealImages(real, rows["source_image"], 16))
    read = []
    monkeypatch.setattr(sources, "read_encoded", lambda rows: read.append(len(rows)) or iter(()))
    again = RealImages(real, rows["source_image"], 16)
    done = generate_shard(rows, 4, tmp_path / "again.parquet", tmp_path / "w", [existing], 1, sources=again)
    assert done == {"copied": len(rows), "sampled": 0}
    assert read == []


def test_the_trial_of_a_batch_size_decodes_one_real_image(plan, real, monkeypatch):
    rows = plan.assign(pipeline="image-to-image", strength=0.5, source_image=[f"real{i % 3}" for i in range(len(plan))])
    decoded = []
    monkeypatch.setattr(sources, "decode_image", lambda *arguments: decoded.append(1) or decode_image(*arguments))
    pipeline = pipelines.load_pipeline(rows.iloc[0], "cpu")
    batch_size.find_batch_size(pipeline, rows, RealImages(real, rows["source_image"], 16))
    assert len(decoded) == 1


def test_the_real_images_of_the_next_batch_are_decoded_while_a_batch_is_sampled(plan, real, monkeypatch):
    names = ["real0", "real1", "real2"]
    rows = plan.iloc[:3].assign(pipeline="image-to-image", strength=0.5, source_image=names)
    pipeline = pipelines.load_pipeline(rows.iloc[0], "cpu")
    images = RealImages(real, names, 16)
    in_memory = {name: images[name] for name in names}
    wanted = {row: sampling.sample_batch(pipeline, rows.loc[[row]], 1, in_memory) for row in rows.index}
    decoded, started = [], []

    def decode(*arguments):
        decoded.append(1)
        return decode_image(*arguments)

    sample_batch = sampling.sample_batch

    def sample_slowly(*arguments):
        started.append(1)
        deadline = time.monotonic() + 60
        while len(decoded) < min(len(started) + 1, len(rows)) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert len(decoded) == min(len(started) + 1, len(rows))  # of this batch and the next, and no more
        return sample_batch(*arguments)

    monkeypatch.setattr(sources, "decode_image", decode)
    monkeypatch.setattr(sampling, "sample_batch", sample_slowly)
    sampled = {batch.index[0]: pixels for batch, pixels in sampling.sample(pipeline, rows, 1, images)}
    assert sampled.keys() == wanted.keys()
    assert all(np.array_equal(sampled[row], wanted[row]) for row in wanted)


def test_a_batch_whose_real_images_do_not_fit_into_memory_is_halved(plan, real, monkeypatch):
    names = ["real0", "real1", "real2", "real0"]
    rows = plan.iloc[:4].assign(pipeline="image-to-image", strength=0.5, source_image=names)
    pipeline = pipelines.load_pipeline(rows.iloc[0], "cpu")
    images = RealImages(real, names, 16)
    wanted = list(sampling.sample(pipeline, rows, 2, images))
    decode = sampling._decode

    def decode_few(rows, sources):
        if len(rows) > 2:
            raise MemoryError
        return decode(rows, sources)

    monkeypatch.setattr(sampling, "_decode", decode_few)
    halved = list(sampling.sample(pipeline, rows, 4, images))
    assert [batch["batch_size"].tolist() for batch, _ in halved] == [[2, 2], [2, 2]]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(halved, wanted, strict=True))


def test_batches_that_are_halved_start_from_the_same_real_images(plan, real, monkeypatch):
    rows = plan.assign(pipeline="image-to-image", strength=0.5, source_image=[f"real{i % 3}" for i in range(len(plan))])
    pipeline = pipelines.load_pipeline(rows.iloc[0], "cpu")
    images = RealImages(real, rows["source_image"], 16)
    wanted = list(sampling.sample(pipeline, rows, 2, images))
    sample_batch = sampling.sample_batch

    def sample_few(pipeline, batch, batch_size, sources):
        if batch_size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample_batch(pipeline, batch, batch_size, sources)

    monkeypatch.setattr(sampling, "sample_batch", sample_few)
    halved = list(sampling.sample(pipeline, rows, 4, images))
    assert [batch["image_id"].tolist() for batch, _ in halved] == [batch["image_id"].tolist() for batch, _ in wanted]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(halved, wanted, strict=True))


def test_image_to_image_shards_name_their_source_images(plan, real, tmp_path):
    rows = plan.assign(pipeline="image-to-image", strength=0.5, source_image=[f"real{i % 3}" for i in range(len(plan))])
    for name in ("one", "two"):
        images = RealImages(real, rows["source_image"], 16)
        generate_shard(rows, 4, tmp_path / name, tmp_path / f"work-{name}", [], 1, sources=images)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    shard = read_manifest("shard", tmp_path / "one", ["image_id", "source_image", "strength"]).set_index("image_id")
    assert shard["source_image"].to_dict() == rows.set_index("image_id")["source_image"].to_dict()
    assert set(shard["strength"]) == {0.5}


def test_a_shard_of_several_models_has_one_of_them_in_memory_at_a_time(plan, tmp_path, models_in_memory):
    in_memory = models_in_memory(pipelines)
    rows = plan.assign(scheduler=["", "DDIMScheduler"] + [""] * (len(plan) - 2))
    generate_shard(rows, 4, tmp_path / "shard.parquet", tmp_path / "work", [], 1)
    assert in_memory == [[], [False]]


def test_an_interrupted_job_keeps_the_batch_size_of_its_trial(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *_: 3)
    work = tmp_path / "work"

    def stop(*_) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(UsageMeter, "batch_sampled", stop)
        generate_shard(plan, 0, tmp_path / "shard.parquet", work, [], 1)
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *_: 5)
    generate_shard(plan, 0, tmp_path / "shard.parquet", work, [], 1)
    assert set(read_manifest("shard", tmp_path / "shard.parquet", ["batch_size"])["batch_size"]) == {3}


def test_usage_is_written_only_if_images_were_sampled(plan, tmp_path):
    generate_shard(plan, 4, tmp_path / "a.parquet", tmp_path / "w", [], 1, cost_file=tmp_path / "a.json")
    cost = json.loads((tmp_path / "a.json").read_text())
    assert cost["images_sampled"] == len(plan)
    assert 0 < cost["seconds_sampling"] <= cost["seconds"]
    assert cost["images_per_s"] == pytest.approx(len(plan) / cost["seconds_sampling"], rel=0.01)
    copied = tmp_path / "b.json"
    generate_shard(plan, 4, tmp_path / "b.parquet", tmp_path / "w", [tmp_path / "a.parquet"], 1, cost_file=copied)
    assert not copied.exists()
