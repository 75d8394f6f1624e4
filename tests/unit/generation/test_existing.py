"""Looking up existing images: all files are searched, and the index saves time only."""

import hashlib
import logging
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from generation.generate_shard import main
from synaug.config import Balance, Generation, Prompts
from synaug.generation import existing, shards
from synaug.generation.existing import FilesWith, stored_ids
from synaug.generation.shards import generate_shard
from synaug.manifests import read_table, write_manifest
from synaug.manifests.schemas import SCHEMAS
from synaug.plan.rows import plan_generation
from synaug.runtime.errors import UserError


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def store(plan, results):
    """A function: write rows of the plan as finished images to a file in results/."""

    def store(rows: pd.DataFrame, name: str) -> Path:
        images = rows.assign(
            image=[{"bytes": image_id.encode(), "path": "x.png"} for image_id in rows["image_id"]],
            sha256=[hashlib.sha256(image_id.encode()).hexdigest() for image_id in rows["image_id"]],
            width=12, height=12, batch_size=4, device="cpu", threads=1, libraries="none",
        )  # fmt: skip
        write_manifest("shard", images[SCHEMAS["shard"].names], results / name)
        return results / name

    return store


def found(rows: pd.DataFrame, results: Path) -> list[str]:
    return [str(file.relative_to(results)) for file in FilesWith(rows["image_id"], results)]


def parts(results: Path) -> list[Path]:
    return sorted((results / ".index").iterdir())


@pytest.fixture
def reads(monkeypatch):
    """Names of the files whose ids were read."""
    read, whole = [], existing._read_keys
    monkeypatch.setattr(existing, "_read_keys", lambda file: read.append(file.name) or whole(file))
    return read


def test_shards_extra_files_and_finished_batches_of_all_experiments_are_found(plan, store, results):
    names = ["a/preview.parquet", "a/shards/1.parquet", "b/probe_images.parquet", "b/work/2/x.parquet"]
    for position, name in enumerate(names):
        store(plan.iloc[[position]], name)
    store(plan.iloc[[0]], "a/other.parquet")
    store(plan.iloc[[0]], "a/other/x.parquet")
    assert found(plan.iloc[:4], results) == names
    assert found(plan.iloc[2:4], results) == names[2:]
    assert found(plan.iloc[5:], results) == []
    assert stored_ids(plan["image_id"], results) == set(plan["image_id"].iloc[:4])


def test_a_file_is_read_once(plan, store, results, reads):
    for position in range(5):
        store(plan.iloc[[position]], f"a/shards/{position}.parquet")
        assert len(found(plan, results)) == position + 1
    assert reads == [f"{position}.parquet" for position in range(5)]
    assert len(parts(results)) <= 3


def test_a_file_that_is_gone_is_not_named_and_a_changed_one_is_read_again(plan, store, results, reads):
    store(plan.iloc[:2], "a/shards/1.parquet")
    preview = store(plan.iloc[2:4], "a/preview.parquet")
    found(plan, results)
    store(plan.iloc[4:7], "a/preview.parquet")
    assert found(plan.iloc[2:4], results) == []
    assert found(plan.iloc[4:7], results) == ["a/preview.parquet"]
    preview.unlink()
    assert found(plan, results) == ["a/shards/1.parquet"]
    assert reads.count("1.parquet") == 1


def test_a_deleted_index_is_built_again(plan, store, results):
    store(plan, "a/shards/1.parquet")
    found(plan, results)
    for part in parts(results):
        part.unlink()
    assert found(plan, results) == ["a/shards/1.parquet"]


@pytest.mark.parametrize("place", [0, 6, 40, -1, "cut", "empty"])
def test_a_damaged_part_is_built_again(plan, store, results, place):
    store(plan, "a/shards/1.parquet")
    found(plan, results)
    (part,) = parts(results)
    data = bytearray(part.read_bytes())
    if isinstance(place, int):
        data[place] ^= 0x55
    part.write_bytes({"cut": data[:-12], "empty": b""}.get(place, data))
    assert found(plan, results) == ["a/shards/1.parquet"]
    assert parts(results) == [part]
    assert found(plan, results) == ["a/shards/1.parquet"]


def test_an_unreadable_file_is_skipped_with_a_warning(plan, store, results, caplog):
    bad = store(plan, "a/shards/1.parquet")
    store(plan, "a/shards/2.parquet")
    bad.write_bytes(b"no Parquet")
    assert found(plan, results) == ["a/shards/2.parquet"]
    assert "1.parquet: skipped" in caplog.text


def test_without_write_access_images_are_found(plan, store, results, caplog):
    store(plan, "a/shards/1.parquet")
    (results / ".index").touch()  # a file where the folder should be
    assert found(plan, results) == ["a/shards/1.parquet"]
    assert "index of images is not updated" in caplog.text


def test_an_empty_results_folder_holds_nothing_and_stays_empty(plan, results):
    assert found(plan, results) == []
    assert not results.exists()


def test_batches_that_are_moved_after_the_look_up_are_copied_from_the_shard(plan, store, results):
    batch, shard = store(plan, "a/work/1/x.parquet"), "a/shards/1.parquet"

    class Moved:
        """Files as `FilesWith` yields them; the batch is moved before anything is read from it."""

        def __iter__(self):
            yield from FilesWith(plan["image_id"], results)
            if batch.exists():
                store(plan, shard)
                batch.unlink()

    done = generate_shard(plan, 4, results / "b/shards/1.parquet", results / "b/work/1", Moved(), 1)
    assert done == {"copied": len(plan), "sampled": 0}


def test_images_of_an_earlier_shard_survive_a_job_that_fails_and_loses_it(plan, store, results, monkeypatch):
    """On a cluster, Snakemake deletes the output of a job that fails, and starts it again."""
    out, work = store(plan[1:], "a/shards/1.parquet"), results / "a/work/1"

    def fail(*_):
        raise UserError("out of memory")

    monkeypatch.setattr(shards, "_sample_missing", fail)
    with pytest.raises(UserError):
        generate_shard(plan, 4, out, work, FilesWith(plan["image_id"], results), 1)
    out.unlink()
    done = generate_shard(plan[1:], 4, out, work, [], 1)
    assert done == {"copied": 0, "sampled": len(plan) - 1}  # of its own earlier attempt
    assert not work.exists()


def test_many_parts_become_few_and_the_leftovers_of_killed_jobs_go(plan, store, results):
    for position in range(40):
        store(plan.iloc[[position % len(plan)]], f"a/shards/{position:02}.parquet")
        found(plan, results)
    assert len(parts(results)) <= 6
    left_over = results / ".index/.x.ids.other-1.tmp"
    left_over.touch()
    os.utime(left_over, (0, 0))
    store(plan, "b/shards/1.parquet")
    assert len(found(plan, results)) == 41
    assert left_over not in parts(results)


def test_parts_have_a_largest_size(plan, store, results, monkeypatch):
    monkeypatch.setattr(existing, "_LARGEST", 3)
    for position in range(11):
        store(plan.iloc[[position]], f"a/shards/{position:02}.parquet")
    names = [f"a/shards/{position:02}.parquet" for position in range(11)]
    assert found(plan, results) == names
    assert len(parts(results)) == 4
    assert found(plan, results) == names


def test_every_id_of_large_files_is_found(results, monkeypatch):
    rng = np.random.default_rng(0)
    ids = {f"{number}.parquet": [rng.bytes(12).hex() for _ in range(3000)] for number in range(3)}
    for name in ids:
        (results / "a/shards").mkdir(parents=True, exist_ok=True)
        (results / "a/shards" / name).touch()
    monkeypatch.setattr(existing, "_read_keys", lambda file: existing._keys(ids[file.name]))
    for _ in range(2):
        for name, of_file in ids.items():
            assert [file.name for file in FilesWith(of_file, results)] == [name]
            assert [file.name for file in FilesWith(of_file[7:8], results)] == [name]
        assert stored_ids([*ids["0.parquet"], "0" * 24], results) == set(ids["0.parquet"])


def look_up_while_files_come_and_go(results: Path, ids: list[str], seed: int) -> None:
    logging.disable()
    rng = np.random.default_rng(seed)
    for _ in range(60):
        present = [file for file in results.glob("*/shards/fixed-*.parquet")]
        names = set(FilesWith(ids, results))
        assert names >= set(present), "a finished file was not found"
        copy = results / f"b/shards/{seed}-{rng.integers(3)}.parquet"
        copy.unlink() if copy.exists() else copy.write_bytes(present[0].read_bytes())
        if rng.random() < 0.1:
            for part in (results / ".index").glob("*.ids"):
                part.unlink(missing_ok=True)


def test_many_jobs_at_once_find_every_finished_file(plan, store, results):
    (results / "b/shards").mkdir(parents=True)
    for position in range(len(plan)):
        store(plan.iloc[[position]], f"a/shards/fixed-{position}.parquet")
    context = multiprocessing.get_context("fork")
    jobs = [
        context.Process(target=look_up_while_files_come_and_go, args=(results, plan["image_id"].tolist(), seed))
        for seed in range(4)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * 4


def test_finished_batches_of_a_plan_that_was_cut_otherwise_are_not_sampled_again(plan, store, results):
    store(plan.iloc[:4], f"a/work/{'1' * 16}/x.parquet")
    store(plan.iloc[4:6], f"b/work/{'2' * 16}/x.parquet")
    store(plan.iloc[6:], f"a/shards/{'3' * 16}.parquet")
    write_manifest("plan", plan.assign(model="/nowhere"), results / "a/plan.parquet")  # it cannot be loaded
    out = results / f"a/shards/{plan['shard'].iloc[0]}.parquet"
    main(str(results / "a/plan.parquet"), None, out, 4, False, 1)
    images = read_table("shard", out)
    assert sorted(images.column("image_id").to_pylist()) == sorted(plan["image_id"])
    for row in images.select(["image_id", "image"]).to_pylist():
        assert row["image"]["bytes"] == row["image_id"].encode()
    assert (results / f"a/work/{'1' * 16}/x.parquet").exists()  # of a job that may be running


def test_after_one_image_more_in_every_class_only_the_new_images_are_missing(cells, store, results):
    fixed = {
        "prompts": Prompts(), "generation": Generation(model="m", images_per_shard=20), "seed": 0, "image_size": 12,
        "color": "grey", "version": "v",
    }  # fmt: skip
    counts = cells({f"class {number}": 5 + number % 9 for number in range(60)})
    before, after = (
        plan_generation(counts, balance=Balance(strategy="fixed", target=target), **fixed) for target in (30, 31)
    )
    for name, rows in before.groupby("shard"):
        store(rows, f"a/shards/{name}.parquet")
    missing = after[~after["image_id"].isin(stored_ids(after["image_id"], results))]
    assert len(missing) == 60
    changed = after[~after["shard"].isin(before["shard"])]
    for name, rows in changed.groupby("shard"):
        rows = rows[~rows["image_id"].isin(missing["image_id"])]
        out = results / f"a/shards/{name}.parquet"
        done = generate_shard(rows, 4, out, results / "a/work/x", FilesWith(rows["image_id"], results), 1)
        assert done == {"copied": len(rows), "sampled": 0}
