"""The whole workflow through SLURM: every job submitted, each GPU for one job at a time, results as of a local run."""

from itertools import combinations

import pandas as pd
import pytest

from synaug.images.codec import CHANNELS

ON_GPU = {"generate_shard", "networks_real_0", "networks_balanced_0"}
# Rules whose jobs share submissions, and the submissions of this run.
SHARING = {"train", "finetune", "score_shard"}
SHARED = ["networks_balanced_0", "networks_real_0", "scores_plan_0"]
# They hold seconds and bytes of memory, never twice the same.
MEASURED = ("benchmarks", "costs", "report.html")
# Whichever job needs an image first decodes it, so the images lie in another order. They are compared by their keys.
DECODED = "pixels"


@pytest.fixture(scope="module")
def through_slurm(fresh, submit):
    run = submit(fresh())
    run.wait()
    return run


def overlap(one: dict, other: dict) -> bool:
    return one["Start"] < other["End"] and other["Start"] < one["End"]


def test_every_job_was_submitted_and_ended_well(through_slurm, finished):
    alone = sorted(rule for rule in finished.first.jobs if rule not in SHARING)
    assert sorted(job["rule"] for job in through_slurm.jobs() if job["rule"]) == alone
    assert sorted(job["group"] for job in through_slurm.jobs() if job["group"]) == SHARED
    assert {job["State"] for job in through_slurm.jobs()} == {"COMPLETED"}


def test_shards_were_made_side_by_side(through_slurm):
    shards = [job for job in through_slurm.jobs() if job["rule"] == "generate_shard"]
    assert any(overlap(one, other) for one, other in combinations(shards, 2))


def test_jobs_that_need_a_gpu_asked_for_one_and_the_others_for_none(through_slurm):
    for job in through_slurm.jobs():
        on_gpu = (job["rule"] or job["group"]) in ON_GPU
        assert ("gres/gpu=1" in job["AllocTRES"]) == on_gpu, job
        assert job["Partition"] == ("gpu" if on_gpu else "cpu"), job


def test_a_job_saw_its_own_gpu_only(through_slurm, slurm):
    seen = slurm.devices()
    on_gpu = []
    for job in through_slurm.jobs():
        assert len(seen[job["JobIDRaw"]]) == 1, seen
        job["device"] = next(iter(seen[job["JobIDRaw"]]))
        if (job["rule"] or job["group"]) in ON_GPU:
            assert job["device"] in ("0", "1"), job
            on_gpu.append(job)
        else:
            assert job["device"] == "none", job
    for one, other in combinations(on_gpu, 2):
        assert one["device"] != other["device"] or not overlap(one, other), (one, other)
    assert {job["device"] for job in on_gpu} == {"0", "1"}


def test_memory_and_time_are_those_of_the_profile(through_slurm):
    asked = {job["rule"] or job["group"]: (job["ReqMem"], int(job["TimelimitRaw"])) for job in through_slurm.jobs()}
    assert asked["generate_shard"] == ("32000M", 240)
    assert asked["plan_generation"] == ("4000M", 30)
    assert asked["report"] == ("16000M", 240)


def decoded_images(results) -> dict[str, bytes]:
    """Pixels of all images that were decoded: size, colour and hash of the file -> pixels."""
    found = {}
    for file in (results / DECODED).glob("*/*.pixels"):
        size, color, _ = file.parent.name.split("-")
        data, length = file.read_bytes(), int(size) ** 2 * CHANNELS[color]
        count = len(data) // (length + 32)
        for i in range(count):
            key = data[count * length + 32 * i : count * length + 32 * (i + 1)]
            found[f"{file.parent.name} {key.hex()}"] = data[length * i : length * (i + 1)]
    return found


def results_of(work) -> dict[str, bytes]:
    files = {str(file.relative_to(work.results)): file for file in work.results.rglob("*") if file.is_file()}
    found = {name: file.read_bytes() for name, file in files.items() if not name.startswith((*MEASURED, DECODED))}
    found |= decoded_images(work.results)
    summary = pd.read_parquet(work.results / "summary.parquet")
    return found | {"summary.parquet": summary.drop(columns=["train_seconds", "generation_seconds"]).to_csv().encode()}


def test_the_results_are_byte_for_byte_those_of_a_local_run(through_slurm, finished):
    expected, made = results_of(finished), results_of(through_slurm.work)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []


def test_nothing_is_left_to_do(through_slurm, submit):
    again = submit(through_slurm.work, "--dry-run")
    again.wait()
    assert "Nothing to be done" in again.text
