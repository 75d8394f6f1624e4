"""Jobs that share a submission to a cluster: which ones, and for how long."""

import os
from itertools import pairwise

import pytest

from synaug.config import Stage1
from synaug.manifests import write_manifest
from synaug.submissions import (
    numbers_of_submissions,
    order_of_shards,
    scoring_minutes,
    short_training_minutes,
)


@pytest.mark.parametrize(
    ("settings", "size", "minutes"),
    [
        ({}, 32, 13),  # 128,000 images
        ({"jtt": {"steps": 1000, "weight": 2.0}}, 32, 15),
        ({"backbone": "resnet32", "steps": 2000}, 28, 14),
        ({"steps": 20_000}, 32, None),
        ({"backbone": "torchvision/resnet50"}, 32, None),
        ({}, 224, None),
        ({"devices": 2}, 32, None),
        (
            {"backbone": "timm/vit_base_patch16_224", "pretrained": True, "freeze": "backbone", "shift": 0}
            | {"flip": False, "steps": 20_000},
            224,
            10,
        ),
    ],
)
def test_only_trainings_of_minutes_are_short(settings, size, minutes):
    assert short_training_minutes(Stage1.model_validate(settings), size) == minutes


def test_a_larger_shard_has_more_time_for_its_scores():
    assert [scoring_minutes(images) for images in (1, 2000, 10_000)] == [11, 14, 30]


UNITS = [["a", "a1"], ["b", "b1", "b2"], ["c"], ["d", "d1"]]


@pytest.mark.parametrize("jobs", range(1, 9))
def test_a_submission_holds_no_more_jobs_than_it_may_and_waits_for_no_later_one(jobs):
    numbers = numbers_of_submissions(UNITS, jobs)
    assert sorted(numbers) == sorted(job for unit in UNITS for job in unit)
    members = [list(numbers.values()).count(number) for number in range(max(numbers.values()) + 1)]
    assert min(members) >= 1 and max(members) <= jobs
    assert all(numbers[before] <= numbers[after] for unit in UNITS for before, after in pairwise(unit))
    if jobs >= 3:
        assert all(len({numbers[job] for job in unit}) == 1 for unit in UNITS)


def test_shards_without_a_file_come_first_and_keep_their_places(plan, tmp_path):
    write_manifest("plan", plan.head(4).assign(shard=["a", "b", "c", "d"]), tmp_path / "plan.parquet")
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores/a.parquet").touch()
    arguments = (str(tmp_path / "plan.parquet"), os.stat(tmp_path / "plan.parquet").st_mtime_ns, "scores")
    order = {"b": 0, "c": 1, "d": 2, "a": 3}
    assert order_of_shards(*arguments) == order
    (tmp_path / "scores/b.parquet").touch()  # by the run itself
    assert order_of_shards(*arguments) == order
