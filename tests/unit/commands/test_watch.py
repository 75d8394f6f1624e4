"""`synaug watch`: a run as the file of its events shows it."""

import json
import os
import threading
import time

import pytest


@pytest.fixture
def run(tmp_path):
    """An experiment of which one job is done and one runs; `write` adds events to its file."""
    log = tmp_path / "logs" / "x" / "train" / "real-0.log"
    log.parent.mkdir(parents=True)
    log.write_text("10:00:00 step 50/100, loss 0.5, 75 s left\n")
    run = Recorder(tmp_path, "2026-01-02T000000")
    run.log = log
    return run


class Recorder:
    """Writes the file of a run; `after`: seconds since its start, by the clock of the run."""

    def __init__(self, folder, name: str, experiment: str = "x", variant: str = ""):
        self.experiment = folder / "results" / experiment
        self.file = folder / ".snakemake" / "log" / f"{name}.events.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.start = time.time()
        prefix, of_study = (f"{variant}_", {"summarise_study": 0}) if variant else ("", {})
        stats = {f"{prefix}index_dataset": 1, f"{prefix}train": 2, "total": 3}
        self.write("run_info", stats=stats | of_study)
        for jobid, rule in enumerate(("index_dataset", "train")):
            log = f"logs/{experiment}/{'train/real-0' if jobid else rule}.log"
            self.write(
                "job_info", jobid=jobid, rule_name=prefix + rule, rule_msg=f"Job {jobid}", wildcards={}, log=[log],
                output=[f"results/{experiment}/{rule}"],
            )  # fmt: skip
        self.write("job_finished", job_id=0)

    def write(self, event: str, after: float = 0, **fields) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps({"time": self.start + after, "event": event, **fields}) + "\n")


def test_once_prints_what_runs_and_how_far_all_is(synaug, run, monkeypatch):
    monkeypatch.setattr("time.time", lambda: run.start)
    os.utime(run.log, (run.start + 0.001,) * 2)  # after the start of its job
    status, out, _ = synaug("watch", run.experiment, "--once")
    assert status == 0
    job, whole = out.splitlines()
    assert job == "Job 1: step 50/100, 1 min 15 s left, loss 0.5"
    assert whole.startswith("1/3, 0 s, about ")


def test_it_goes_on_to_the_end_of_the_run(synaug, run):
    def rest():
        time.sleep(0.5)
        run.write("job_finished", after=2, job_id=1)
        time.sleep(0.5)
        run.write("ended", after=3)

    threading.Thread(target=rest).start()
    status, out, _ = synaug("watch", run.experiment)
    assert status == 1
    lines = out.splitlines()
    assert lines[2].endswith("[2/3] Job 1: 2 s")
    assert lines[3:] == ["Stopped after 3 s: 2 of 3 steps done"]


def test_it_says_what_failed_and_ends_with_status_1(synaug, run):
    run.write("job_error", jobid=1, error="no space")
    run.write("ended")
    status, out, _ = synaug("watch", run.experiment)
    assert status == 1
    assert out.splitlines() == [
        "Stopped after 0 s: 1 of 3 steps done, 1 failed",
        "synaug: error: no space  (log: logs/x/train/real-0.log)",
    ]


@pytest.mark.parametrize("options", [[], ["--once"]])
def test_a_run_that_gives_no_sign_of_life_was_stopped(synaug, run, monkeypatch, options):
    monkeypatch.setattr("time.time", lambda: run.start)
    monkeypatch.setattr("synaug.commands.watch.WAIT_S", 0.1)
    for path in (run.file, run.log):
        os.utime(path, (run.start - 1000,) * 2)
    status, out, _ = synaug("watch", run.experiment, *options)
    assert status == 1
    *_, waiting, last = out.splitlines()
    assert waiting.startswith("No sign of life for 16 min: waiting")
    assert last == "No sign of life for 16 min: the run or its machine was stopped"


def test_a_run_that_was_killed_days_ago_is_not_waited_for(synaug, run, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))
    for path in (run.file, run.log):
        os.utime(path, (time.time() - 3 * 24 * 3600,) * 2)
    status, out, _ = synaug("watch", run.experiment, "--once")
    assert status == 1 and out.splitlines()[-1].endswith("the run or its machine was stopped")


class Clock:
    """The clock of this machine; `sleep` moves it, and `meanwhile` is what happens then."""

    def __init__(self, monkeypatch) -> None:
        self.elapsed, self.start, self.meanwhile = 0.0, time.time(), lambda elapsed: None
        monkeypatch.setattr("time.time", lambda: self.start + self.elapsed)
        monkeypatch.setattr("time.monotonic", lambda: self.elapsed)
        monkeypatch.setattr("time.sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.elapsed += seconds
        self.meanwhile(self.elapsed)


@pytest.mark.parametrize("offset_s", [-1000, 1000])
def test_a_run_on_a_machine_with_another_clock_is_watched_until_it_ends_or_stops(synaug, run, monkeypatch, offset_s):
    """offset_s: how far the clock of the other machine is ahead of that of this one."""
    clock = Clock(monkeypatch)
    os.utime(run.file, (clock.start + offset_s,) * 2)

    def live(elapsed):
        if elapsed > 400:
            run.write("ended", after=400)
        elif elapsed % 10 == 0:
            os.utime(run.file, (clock.start + elapsed + offset_s,) * 2)

    clock.meanwhile = live
    _, out, _ = synaug("watch", run.experiment)
    assert out.splitlines()[-1] == "Stopped after 6 min 40 s: 1 of 3 steps done"


@pytest.mark.parametrize("offset_s", [-1000, 0, 1000])
def test_a_run_that_is_killed_is_noticed_whatever_its_clock_says(synaug, run, monkeypatch, offset_s):
    clock = Clock(monkeypatch)
    os.utime(run.file, (clock.start + offset_s,) * 2)

    def live_for_a_minute(elapsed):
        if elapsed <= 60 and elapsed % 10 == 0:
            os.utime(run.file, (clock.start + elapsed + offset_s,) * 2)

    clock.meanwhile = live_for_a_minute
    status, out, _ = synaug("watch", run.experiment)
    assert status == 1 and clock.elapsed < 200
    assert out.splitlines()[-1] == "No sign of life for 2 min 1 s: the run or its machine was stopped"


def test_it_shows_the_newest_run_of_the_experiment(synaug, run, tmp_path):
    newer = Recorder(tmp_path, "2026-01-03T000000")
    newer.write("job_finished", job_id=1)
    Recorder(tmp_path, "2026-01-04T000000", "other")
    _, out, _ = synaug("watch", run.experiment, "--once")
    assert out.startswith("2/3, ")


def test_a_study_is_its_newest_run_whose_jobs_are_those_of_its_variants(synaug, run, tmp_path):
    newer = Recorder(tmp_path, "2026-01-03T000000", "x-low", variant="low")
    newer.write("job_finished", job_id=1)
    Recorder(tmp_path, "2026-01-04T000000", "x-y-low", variant="low")  # of a study x-y
    Recorder(tmp_path, "2026-01-05T000000", "x-index")  # no study
    for experiment in ("x", "x-low"):
        _, out, _ = synaug("watch", run.experiment.parent / experiment, "--once")
        assert out.startswith("2/3, "), experiment
    assert synaug("watch", run.experiment.parent / "x-y", "--once")[1].startswith("Job 1: ")


def test_a_line_that_is_being_written_is_read_later(synaug, run):
    with run.file.open("a") as file:
        file.write('{"time": 1, "event": "job_fin')
    status, out, _ = synaug("watch", run.experiment, "--once")
    assert status == 0 and out.startswith("Job 1: ")


def test_a_line_that_was_cut_when_the_disk_was_full_is_left_out(synaug, run):
    with run.file.open("a") as file:
        file.write('{"time": 1, "event": "job_fin')
    run.write("job_error", jobid=7)  # in the same line
    run.write("job_finished", job_id=1)
    status, out, err = synaug("watch", run.experiment, "--once")
    assert (status, err) == (0, "") and out.startswith("2/3, ")


def test_an_experiment_that_was_never_run(synaug, run):
    status, _, err = synaug("watch", run.experiment.parent / "y", "--once")
    assert status == 2
    assert "y: " in err and "no run of it" in err


@pytest.mark.parametrize("folder", ["/", "/x"])
def test_a_folder_at_the_root_is_no_experiment(synaug, folder):
    status, out, err = synaug("watch", folder)
    assert (status, out, err.count("\n")) == (2, "", 1) and f"{folder}: " in err and "no run of it" in err


def test_on_a_machine_whose_clock_is_behind_no_time_is_negative(synaug, run, monkeypatch):
    monkeypatch.setattr("time.time", lambda: run.start - 5)
    os.utime(run.log, (run.start - 60,) * 2)  # of an earlier run
    _, out, _ = synaug("watch", run.experiment, "--once")
    assert out.startswith("Job 1: queued or starting, 0 s\n1/3, 0 s")
