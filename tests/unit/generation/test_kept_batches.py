"""Finished batches are kept in another place, from which a job on another machine continues."""

import errno
from pathlib import Path

import pytest

from synaug.generation import sampling
from synaug.generation.kept_batches import KeptBatches
from synaug.generation.shards import generate_shard
from synaug.manifests import read_manifest
from synaug.runtime.errors import UserError


@pytest.fixture
def place(tmp_path) -> Path:
    return tmp_path / "volume/batches"


@pytest.fixture
def sampled(monkeypatch) -> list[int]:
    """Sizes of the batches that were sampled. After a third batch the machine is taken away."""
    sizes, whole = [], sampling.sample_batch

    def sample_batch(pipeline, batch, *others):
        if len(sizes) == 2:
            sizes.append(0)
            raise KeyboardInterrupt
        sizes.append(len(batch))
        return whole(pipeline, batch, *others)

    monkeypatch.setattr(sampling, "sample_batch", sample_batch)
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    return sizes


def generate(plan, machine: Path, place: Path | None, batch_size: int = 4) -> dict[str, int]:
    work = machine / "work"
    kept = KeptBatches(str(place), "1", work) if place else None
    return generate_shard(plan, batch_size, machine / "shards/1.parquet", work, [], 1, kept=kept)


def test_another_machine_continues_where_the_first_one_was_interrupted(plan, tmp_path, place, sampled):
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "first", place)
    before = len(list((place / "1").iterdir()))
    assert before >= 1
    generate(plan, tmp_path / "second", place)
    assert sum(sampled[3:]) == len(plan) - 4 * before
    assert not (place / "1").exists()
    generate(plan, tmp_path / "undisturbed", None)
    expected = (tmp_path / "undisturbed/shards/1.parquet").read_bytes()
    assert (tmp_path / "second/shards/1.parquet").read_bytes() == expected


def test_the_batch_size_of_the_trial_goes_with_the_batches(plan, tmp_path, place, sampled, monkeypatch):
    from synaug.generation import batch_size

    monkeypatch.setattr(batch_size, "find_batch_size", lambda *arguments: 4)
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "first", place, batch_size=0)
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *arguments: 1)
    generate(plan, tmp_path / "second", place, batch_size=0)
    assert set(read_manifest("shard", tmp_path / "second/shards/1.parquet")["batch_size"]) == {4}


def test_a_damaged_copy_is_sampled_again(plan, tmp_path, place, sampled):
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "first", place)
    for file in (place / "1").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    generate(plan, tmp_path / "second", place)
    assert sum(sampled[3:]) == len(plan)


def test_a_place_that_becomes_full_costs_no_image(plan, tmp_path, place, caplog, monkeypatch):
    class Full:
        def __getattr__(self, name):
            return getattr(whole, name)

        def open_output_stream(self, path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    work = tmp_path / "work"
    kept = KeptBatches(str(place), "1", work)
    whole, kept.files = kept.files, Full()
    done = generate_shard(plan, 4, tmp_path / "shards/1.parquet", work, [], 1, kept=kept)
    assert done == {"copied": 0, "sampled": len(plan)}
    assert f"{place}: a finished batch is not kept there ([Errno 28] No space left on device)" in caplog.text


def test_a_wrong_address_is_one_line_before_anything_is_sampled(tmp_path):
    with pytest.raises(UserError, match=r"generation\.keep_batches_in: s3://no bucket/x: cannot be read"):
        KeptBatches("s3://no bucket/x", "1", tmp_path / "work")
