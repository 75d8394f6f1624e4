"""What `synaug watch` says of a run, from the files that it leaves."""

import os
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synaug.commands.watch import describe, duration
from synaug.runtime.errors import ERROR_PREFIX, UserError
from synaug.watch import Watch

SHARDS = {"a" * 16: 30, "b" * 16: 20}


@pytest.fixture
def run(tmp_path):
    """An experiment in the middle: one shard made, two batches of the other, a network at work, one finished."""
    home, logs = tmp_path / "results" / "x", tmp_path / "logs" / "x"
    for folder in (home / "shards", home / "work" / ("b" * 16), logs / "train", logs / "finetune"):
        folder.mkdir(parents=True)
    names = [name for name, count in SHARDS.items() for _ in range(count)]
    pq.write_table(pa.table({"shard": pa.array(names).dictionary_encode()}), home / "plan.parquet")
    rows(home / "shards" / f"{'a' * 16}.parquet", 30)
    rows(home / "work" / ("b" * 16) / "one.parquet", 4)
    rows(home / "work" / ("b" * 16) / "two.parquet", 4)
    (logs / "train" / "real-0.log").write_text("10:00:00 step 600/600, loss 0.5, learning rate 0.0, 0 s left\n")
    (logs / "train" / "synaug-0.log").write_text(
        "10:00:00 step 3/600, loss 2.1, 90 s left\n10:00:09 step 50/600, loss 1.5, learning rate 0.1, 75 s left\n"
    )
    return tmp_path


def rows(file, count):
    pq.write_table(pa.table({"image_id": [str(i) for i in range(count)]}), file)


def test_it_says_how_many_images_are_made_and_which_networks_are_trained(run):
    said = [describe(line) for line in Watch(run / "results" / "x").look()]
    assert said[0].startswith("synthetic images 38/50, 1 of 2 shards")
    assert said[1:] == ["train synaug-0 50/600, 75 s left", "1 networks trained"]


def test_its_speed_is_that_of_what_was_made_while_it_watched(run):
    watch = Watch(run / "results" / "x")
    watch.look()
    time.sleep(0.2)
    rows(run / "results" / "x" / "work" / ("b" * 16) / "three.parquet", 6)
    images = watch.look()[0]
    assert images.done == 44
    assert 0 < images.left_s < 1
    assert "images/s" in images.detail


def test_a_network_whose_log_is_silent_is_not_being_trained(run):
    log = run / "logs" / "x" / "train" / "synaug-0.log"
    os.utime(log, (time.time() - 1000,) * 2)
    assert [line.what for line in Watch(run / "results" / "x").look()] == ["synthetic images", "networks"]


def test_a_generator_that_is_trained(run):
    (run / "logs" / "x" / "train_generator.log").write_text(
        "10:00 denoiser: step 700 of 7000, loss 0.2, 5.1 steps/s, 1260 s left\n"
    )
    said = [describe(line) for line in Watch(run / "results" / "x").look()]
    assert "train_generator denoiser 700/7,000, 21 min left" in said


def test_it_ends_with_the_report_and_says_what_failed(run):
    watch = Watch(run / "results" / "x")
    assert not watch.finished()
    (run / "logs" / "x" / "score_synthetic.log").write_text(f"{ERROR_PREFIX}no space\n")
    (run / "results" / "x" / "report.html").touch()
    assert watch.finished()
    assert "no space" in watch.errors()[0]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        Watch(tmp_path / "results" / "x")
    (tmp_path / "results" / "x").mkdir(parents=True)
    assert Watch(tmp_path / "results" / "x").look() == []


def test_durations():
    assert [duration(one) for one in (5, 89, 600, 7200)] == ["5 s", "89 s", "10 min", "2.0 h"]
