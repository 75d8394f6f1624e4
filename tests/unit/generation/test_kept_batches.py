"""Finished batches are kept in another place, from which a job on another machine continues."""

from pathlib import Path

import pytest

from synaug.generation import batch_size, sampling
from synaug.generation.kept_batches import KeptBatches
from synaug.generation.shards import generate_shard
from synaug.manifests import read_manifest
from synaug.runtime.errors import UserError


@pytest.fixture
def place(tmp_path) -> Path:
    place = tmp_path / "volume/batches"
    place.mkdir(parents=True)
    return place


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
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *arguments: 4)
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "first", place, batch_size=0)
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *arguments: 1)
    generate(plan, tmp_path / "second", place, batch_size=0)
    assert set(read_manifest("shard", tmp_path / "second/shards/1.parquet")["batch_size"]) == {4}


def test_a_damaged_copy_is_sampled_again_and_replaced(plan, tmp_path, place, sampled):
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "first", place)
    intact = {file: file.read_bytes() for file in (place / "1").iterdir()}
    for number, (file, content) in enumerate(intact.items()):
        file.write_bytes(content[:-100] if number else b"")
    sampled[:] = [4]  # the second machine is taken away after one batch
    with pytest.raises(KeyboardInterrupt):
        generate(plan, tmp_path / "second", place)
    assert [file.read_bytes() == content for file, content in intact.items()].count(True) == 1
    generate(plan, tmp_path / "third", place)
    assert sum(sampled[3:]) == len(plan) - 4


@pytest.mark.parametrize("failures", [1, 100])
def test_a_place_that_fails_costs_no_image(plan, tmp_path, place, caplog, monkeypatch, failures):
    """And what could not be sent is sent with the next batch, the batch size first."""
    sent, whole, errors = [], KeptBatches._write, iter(range(failures))

    def write(self, name):
        if next(errors, None) is not None:
            raise RuntimeError("no answer")
        sent.append(name)
        whole(self, name)

    monkeypatch.setattr(KeptBatches, "_write", write)
    monkeypatch.setattr(batch_size, "find_batch_size", lambda *arguments: 2)
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    work = tmp_path / "work"
    kept = KeptBatches(str(place), "1", work)
    done = generate_shard(plan, 0, tmp_path / "shards/1.parquet", work, [], 1, kept=kept)
    assert done == {"copied": 0, "sampled": len(plan)}
    assert caplog.text.count(f"{place}: a finished batch is not kept there (no answer)") == min(failures, 3)
    assert [name.startswith("batch_size") for name in sent[:1]] == ([True] if failures == 1 else [])


def test_a_volume_that_is_not_mounted_is_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder; make it, or mount the volume"):
        KeptBatches(str(tmp_path / "nowhere"), "1", tmp_path / "work")


def test_a_wrong_address_is_one_line_before_anything_is_sampled(tmp_path):
    with pytest.raises(UserError, match=r"generation\.keep_batches_in: s3://no bucket/x: cannot be read"):
        KeptBatches("s3://no bucket/x", "1", tmp_path / "work")
