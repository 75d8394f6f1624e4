"""Small jobs share a submission: few submissions, one job after the other, the same results, also after a requeue."""

import itertools
import shutil
from pathlib import Path

import pytest
from test_slurm_pipeline import results_of
from workdir import Workdir

SEEDS = [0, 1, 2]
MINUTES = 11  # of each of these small jobs, by the rules


@pytest.fixture(scope="module")
def more_seeds(finished, tmp_path_factory):
    """A function: a finished run to which seeds were added, and whose scores and what depends on them are lost."""

    def more_seeds() -> Workdir:
        path = tmp_path_factory.mktemp("seeds") / "checkout"
        shutil.copytree(finished.path, path)
        work = Workdir(Path(path).resolve())
        work.change(seeds=SEEDS)
        shutil.rmtree(work.results / "scores")
        for name in ("scores", "synthetic", "balanced"):
            (work.results / f"{name}.parquet").unlink()
        return work

    return more_seeds


@pytest.fixture(scope="module")
def shared(more_seeds, submit, slurm):
    """A run whose networks without synthetic images were put back into the queue when the first of them was trained."""
    run = submit(more_seeds())

    def in_the_middle():
        trained = [seed for seed in SEEDS[1:] if (run.work.results / f"train/real/{seed}/predictions.parquet").exists()]
        queue = slurm.ask("squeue", "-h", "--states=RUNNING", "-o", "%i %k").splitlines()
        jobs = [line.split()[0] for line in queue if "networks_real_0" in line]
        return jobs[0] if len(trained) == 1 and jobs else None

    slurm("scontrol", "requeue", run.until(in_the_middle))
    run.wait()
    return run


@pytest.fixture
def submissions(shared):
    """Name of a group -> its only submission."""
    named = [(job["group"], job) for job in shared.jobs() if job["group"]]
    assert len(dict(named)) == len(named)
    return dict(named)


def test_networks_and_scores_take_three_submissions(submissions):
    assert sorted(submissions) == ["networks_balanced_0", "networks_real_0", "scores_plan_0"]
    assert {job["State"] for job in submissions.values()} == {"COMPLETED"}


def test_a_submission_asks_for_one_gpu_the_memory_of_one_job_and_the_time_of_all(shared, submissions):
    asked = {name: (job["ReqMem"], int(job["TimelimitRaw"])) for name, job in submissions.items()}
    shards = len(list((shared.work.results / "scores").glob("*.parquet")))
    assert asked == {
        "networks_real_0": ("16000M", 2 * MINUTES),
        "networks_balanced_0": ("16000M", 4 * MINUTES),
        "scores_plan_0": ("16000M", shards * MINUTES),
    }
    on_gpu = {name for name, job in submissions.items() if "gres/gpu=1" in job["AllocTRES"]}
    assert on_gpu == {"networks_real_0", "networks_balanced_0"}


def test_its_jobs_run_one_after_the_other(submissions, slurm):
    for name, count in (("networks_balanced_0", 4), ("scores_plan_0", 2)):
        job = submissions[name]["JobIDRaw"]
        lines = slurm("sacct", "-Pn", "--allusers", "-j", job, "--format", "JobID,Start,End").splitlines()
        steps = [line.split("|") for line in lines if line.split("|")[0].removeprefix(f"{job}.").isdecimal()]
        steps = sorted((start, end) for step, start, end in steps if "." in step)
        assert len(steps) >= count
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(steps)), steps


def test_the_results_are_those_of_a_local_run_without_groups(shared, more_seeds):
    local = more_seeds()
    done = local.run()
    assert done.status == 0, done.text
    expected, made = results_of(local), results_of(shared.work)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name] != expected[name]] == []
