"""Shards: an image depends only on its row of the plan, and existing images are not made again."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from finished_shards import damage_rows

from synaug.generation import sampling, shards
from synaug.generation.shards import generate_shard
from synaug.manifests import read_table, tables, write_shard
from synaug.runtime.errors import UserError

BATCH = 4


@pytest.fixture(autouse=True)
def _devices(monkeypatch, tmp_path):
    """On the CPU, with separate leases."""
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def make(rows, out: Path, existing=(), work: Path | None = None) -> dict:
    return generate_shard(rows, BATCH, out, work or out.parent / f"work-{out.stem}", existing, threads=1)


def images(path: Path) -> dict[str, bytes]:
    table = read_table("shard", path, ["image_id", "image"])
    data = table.column("image").combine_chunks().field("bytes").to_pylist()
    return dict(zip(table.column("image_id").to_pylist(), data, strict=True))


@pytest.fixture(scope="session")
def reference(plan, tmp_path_factory) -> Path:
    """The shard of all rows, made in one run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNAUG_DEVICES", "cpu")
        out = tmp_path_factory.mktemp("shards") / "reference.parquet"
        assert make(plan, out) == {"copied": 0, "sampled": len(plan)}
    return out


def without_model(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with a model that cannot be loaded: loading it raises an error."""
    return rows.assign(model="/nowhere")


def test_a_shard_holds_the_provenance_of_its_images(reference, plan, tiny_checkpoint):
    shard = read_table("shard", reference).drop_columns("image").to_pandas()
    assert sorted(shard["image_id"]) == sorted(plan["image_id"])
    assert set(shard["model"]) == {str(tiny_checkpoint)}
    assert (shard[["width", "height"]] == 12).all(axis=None)
    assert shard["libraries"].str.contains("torch").all()
    assert len(set(images(reference).values())) == len(plan)


def test_an_image_does_not_depend_on_the_other_images_of_a_batch(reference, plan, tmp_path):
    alone = plan.iloc[[7]]
    reordered = plan.iloc[[9, 7, 2, 0, 5]]
    expected = images(reference)
    for number, rows in enumerate((alone, reordered)):
        make(rows, tmp_path / f"{number}.parquet")
        assert images(tmp_path / f"{number}.parquet") == {image_id: expected[image_id] for image_id in rows["image_id"]}


def test_every_batch_has_the_same_shape(plan):
    prompts = []

    class Pipeline:
        scheduler = SimpleNamespace(step=lambda model_output, timestep, sample: None)

        def __call__(self, prompt, negative_prompt, **settings):
            prompts.append(prompt)
            return SimpleNamespace(images=torch.rand(len(prompt), 1, 16, 16))

    batches = list(sampling.sample(Pipeline(), plan, BATCH))
    assert [len(texts) for texts in prompts] == [BATCH] * 3
    assert [len(rows) for rows, _ in batches] == [len(pixels) for _, pixels in batches] == [4, 4, 3]


def test_a_shard_that_is_made_again_has_the_same_bytes(reference, plan, tmp_path):
    make(plan.sample(frac=1, random_state=0), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == reference.read_bytes()


def test_existing_images_are_copied_without_the_model(reference, plan, tmp_path):
    few = without_model(plan.iloc[2:7])
    assert make(few, tmp_path / "few.parquet", [reference]) == {"copied": 5, "sampled": 0}
    expected = images(reference)
    assert images(tmp_path / "few.parquet") == {image_id: expected[image_id] for image_id in few["image_id"]}


def test_only_missing_images_are_sampled(reference, plan, tmp_path):
    make(plan.iloc[:6], tmp_path / "some.parquet", [reference])
    assert make(plan, tmp_path / "all.parquet", [tmp_path / "some.parquet"]) == {"copied": 6, "sampled": 5}
    assert (tmp_path / "all.parquet").read_bytes() == reference.read_bytes()


def test_missing_images_need_the_model(plan, tmp_path):
    with pytest.raises(UserError, match="/nowhere"):
        make(without_model(plan), tmp_path / "shard.parquet")
    assert not (tmp_path / "shard.parquet").exists()


def test_a_damaged_image_is_made_again(reference, plan, tmp_path):
    data = bytearray(reference.read_bytes())
    damaged = sorted(images(reference).values())[4]  # not the first or last: the statistics of a page repeat them
    at = data.index(damaged)
    data[at + len(damaged) // 2] ^= 0xFF
    (tmp_path / "damaged.parquet").write_bytes(data)
    assert make(plan, tmp_path / "shard.parquet", [tmp_path / "damaged.parquet"]) == {
        "copied": len(plan) - 1,
        "sampled": 1,
    }
    assert (tmp_path / "shard.parquet").read_bytes() == reference.read_bytes()


@pytest.mark.parametrize("column", ["image", "image_id", "sha256"])
def test_a_damaged_row_group_costs_its_own_images(reference, plan, tmp_path, monkeypatch, column):
    damaged = tmp_path / "damaged.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(tables, "GROUP_ROWS", 4)
        make(without_model(plan), damaged, [reference])
    assert [pq.read_metadata(damaged).row_group(group).num_rows for group in range(3)] == [4, 4, 3]
    damage_rows(damaged, column)
    done = make(plan, tmp_path / "shard.parquet", [damaged])
    assert done == {"copied": len(plan) - 4, "sampled": 4}
    assert (tmp_path / "shard.parquet").read_bytes() == reference.read_bytes()
    # They are copied where another file has them.
    done = make(without_model(plan), tmp_path / "other.parquet", [damaged, reference])
    assert done == {"copied": len(plan), "sampled": 0}


def test_row_groups_do_not_depend_on_where_the_images_come_from(reference, plan, tmp_path, monkeypatch):
    """Row groups of up to two images: sampled, and copied from two files."""
    size = max(map(len, images(reference).values()))
    monkeypatch.setattr(write_shard, "__defaults__", (2 * size,))
    whole, parts = tmp_path / "whole.parquet", [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    make(plan, whole)
    sizes = [pq.read_metadata(whole).row_group(group).num_rows for group in range(5)]
    assert sizes == [2] * 5 and images(whole) == images(reference)
    make(plan.iloc[::2], parts[0])
    make(plan.iloc[1::2], parts[1])
    assert make(plan, tmp_path / "copied.parquet", parts) == {"copied": len(plan), "sampled": 0}
    assert (tmp_path / "copied.parquet").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("content", [b"", b"no Parquet", None])
def test_an_unreadable_existing_shard_is_skipped(reference, plan, tmp_path, content):
    bad = tmp_path / "bad.parquet"
    if content is not None:
        bad.write_bytes(content)
    assert make(without_model(plan), tmp_path / "shard.parquet", [bad, reference]) == {
        "copied": len(plan),
        "sampled": 0,
    }


def interrupted(plan, out: Path, monkeypatch) -> Path:
    """The work folder of a job that failed in its third batch."""
    sample_batch, calls = sampling.sample_batch, []

    def fail_at_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample_batch(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sampling, "sample_batch", fail_at_third)
        make(plan, out)
    assert not out.exists()
    return out.parent / f"work-{out.stem}"


def test_an_interrupted_shard_is_continued_and_has_the_same_bytes(reference, plan, tmp_path, monkeypatch):
    out = tmp_path / "shard.parquet"
    work = interrupted(plan, out, monkeypatch)
    finished = {image_id for file in work.glob("*.parquet") for image_id in images(file)}
    assert len(finished) == 2 * BATCH
    # Finished images no longer need the model.
    rows = without_model(plan[plan["image_id"].isin(finished)])
    make(rows, tmp_path / "first.parquet", work=shutil.copytree(work, tmp_path / "copy"))
    make(plan, out)
    assert out.read_bytes() == reference.read_bytes()
    assert not work.exists()


def test_a_truncated_work_file_is_skipped(reference, plan, tmp_path, monkeypatch):
    out = tmp_path / "shard.parquet"
    work = interrupted(plan, out, monkeypatch)
    first, *_ = sorted(work.glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-200])
    make(plan, out)
    assert out.read_bytes() == reference.read_bytes()


def test_a_model_that_changed_since_the_plan_is_refused(plan, tiny_checkpoint, tmp_path):
    changed = shutil.copytree(tiny_checkpoint, tmp_path / "changed")
    weights = next(changed.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match="changed"):
        make(plan.assign(model=str(changed)), tmp_path / "shard.parquet")


def test_an_unknown_scheduler_is_named(plan, tmp_path):
    with pytest.raises(UserError, match="'Magic'"):
        make(plan.assign(scheduler="Magic"), tmp_path / "shard.parquet")


def test_shards_are_readable_as_plain_parquet(reference):
    table = pq.read_table(reference, columns=["image"])
    assert table.column("image").combine_chunks().field("bytes")[0].as_py().startswith(b"\x89PNG")


def test_images_that_another_job_moves_while_this_one_samples_are_copied_from_their_shard(
    reference, plan, tmp_path, monkeypatch
):
    """The other job moves its finished batches into its shard when it is done."""
    batches, shard = tmp_path / "work/x/b.parquet", tmp_path / "shards/x.parquet"
    batches.parent.mkdir(parents=True)
    make(plan.iloc[::2], batches, [reference])

    class Existing:
        def __iter__(self):
            return iter([file for file in (batches, shard) if file.exists()])

    sample = shards._sample_missing

    def sample_while_the_other_job_ends(*arguments):
        sampled = sample(*arguments)
        shard.parent.mkdir()
        batches.rename(shard)
        return sampled

    monkeypatch.setattr(shards, "_sample_missing", sample_while_the_other_job_ends)
    done = make(plan, tmp_path / "shard.parquet", Existing())
    assert done == {"copied": len(plan.iloc[::2]), "sampled": len(plan.iloc[1::2])}
    assert (tmp_path / "shard.parquet").read_bytes() == reference.read_bytes()
