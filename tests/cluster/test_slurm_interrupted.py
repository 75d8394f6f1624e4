"""Jobs that SLURM ends in the middle come back with more memory and time, and go on where they stopped."""

import re

import pytest

from synaug.manifests import read_table

SETTINGS = {
    "balance": {"strategy": "fixed", "target": 32},
    # Shards of several batches, each of them long enough to come in between.
    "generation": {"images_per_shard": 28, "batch_size": 4, "steps": 30},
}
TARGET = "results/test/scores.parquet"


def images(files) -> dict[str, str]:
    """Images that are stored in `files`: id -> hash."""
    tables = [read_table("shard", file, ["image_id", "sha256"]) for file in files]
    return {one["image_id"]: one["sha256"] for table in tables for one in table.to_pylist()}


def running(run) -> dict[str, str]:
    """Shard -> number of the job that makes it now."""
    # Not from the accounting, which learns what a job is for when it has ended.
    queue = run.slurm("squeue", "-h", "--states=RUNNING", "-o", "%i %k")
    found = re.findall(r"^(\d+) rule_generate_shard_wildcards_(\w+)$", queue, re.MULTILINE)
    return {shard: job for job, shard in found}


@pytest.fixture(scope="module")
def undisturbed(fresh):
    """The same images, made without SLURM."""
    work = fresh()
    work.change(**SETTINGS)
    done = work.run(TARGET)
    assert done.status == 0, done.text
    return images((work.results / "shards").glob("*.parquet"))


@pytest.fixture(scope="module")
def interrupted(fresh, submit, slurm):
    """A run of three shards' jobs that were ended, with `ended`: shard -> how; `kept`: shard -> images on disk then."""
    work = fresh()
    work.change(**SETTINGS)
    run = submit(work, TARGET)
    run.ended, run.kept = {}, {}

    def batches(shard):
        return list((work.results / "work" / shard).glob("*.parquet"))

    def in_the_middle():
        ripe = [item for item in running(run).items() if item[0] not in run.ended and len(batches(item[0])) >= 2]
        return ripe[0] if ripe else None

    for how in ("CANCELLED", "REQUEUED", "TIMEOUT"):
        shard, job = run.until(in_the_middle)
        run.ended[shard] = how
        if how == "CANCELLED":
            slurm("scancel", job)
        elif how == "REQUEUED":  # what happens to a job that is preempted, or whose node fails
            slurm("scontrol", "requeue", job)
        else:
            # It hangs until its time is over, which is sooner than the profile says, or this test would take hours.
            slurm("scancel", "--signal=STOP", job)
            slurm("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        # Until its processes have ended, and not only until SLURM calls it so.
        run.until(lambda job=job: slurm.ask("squeue", "-h", "-j", job, "-o", "%T") in ("", "PENDING"))
        run.kept[shard] = images(batches(shard))
    run.wait()
    return run


def attempts(run, how: str) -> list[dict[str, str]]:
    """The jobs that made the shard that was ended in this way, first to last."""
    # Its features and its scores are made by jobs of other rules.
    return [job for job in run.jobs() if job["rule"] == "generate_shard" and run.ended.get(job["shard"]) == how]


@pytest.mark.parametrize("how", ["CANCELLED", "TIMEOUT"])
def test_a_job_that_was_ended_is_submitted_again_with_more_memory_and_time(interrupted, how):
    first, second = attempts(interrupted, how)
    assert (first["State"].split()[0], second["State"]) == (how, "COMPLETED")
    assert (first["ReqMem"], second["ReqMem"]) == ("32000M", "64000M")
    assert int(second["TimelimitRaw"]) == 2 * 240


def test_a_job_that_slurm_requeues_is_not_submitted_again(interrupted):
    (job,) = attempts(interrupted, "REQUEUED")
    assert job["State"] == "COMPLETED"


@pytest.mark.parametrize("how", ["CANCELLED", "REQUEUED", "TIMEOUT"])
def test_it_goes_on_where_it_stopped(interrupted, how):
    shard = attempts(interrupted, how)[0]["shard"]
    work, kept = interrupted.work, interrupted.kept[shard]
    made = images([work.results / "shards" / f"{shard}.parquet"])
    log = (work.path / "logs" / "test" / "generate_shard" / f"{shard}.log").read_text()
    before, sampled = map(int, re.search(r"(\d+) finished before, 0 copied, (\d+) to sample", log).groups())
    assert 0 < sampled < len(made), "it was not stopped in the middle"
    assert (before, sampled) == (len(kept), len(made) - len(kept))
    assert kept.items() <= made.items()


def test_the_images_are_those_of_an_undisturbed_local_run(interrupted, undisturbed):
    results = interrupted.work.results
    assert images((results / "shards").glob("*.parquet")) == undisturbed
    assert not list((results / "work").glob("*"))
