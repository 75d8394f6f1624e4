"""The state of a run from its events: those of a recorded run of the workflow, and made ones for the other cases."""

import json
import os
import time
from pathlib import Path

import pytest

from snakemake_logger_plugin_synaug.run import Run, duration, error_line
from synaug.runtime.errors import ERROR_PREFIX

RECORDED = [json.loads(line) for line in (Path(__file__).parent / "recorded.events.jsonl").read_text().splitlines()]


def started(jobid: int, rule: str = "train", at: float = 0.0, **wildcards) -> dict:
    """The event of a job that starts."""
    return {
        "time": at, "event": "job_info", "jobid": jobid, "rule_name": rule, "rule_msg": None, "wildcards": wildcards,
        "log": [f"{jobid}.log"], "output": [f"{jobid}.txt"],
    }  # fmt: skip


def finished(jobid: int, at: float) -> dict:
    return {"time": at, "event": "job_finished", "job_id": jobid}


def failed(jobid: int, at: float, error: str = "no space") -> dict:
    return {"time": at, "event": "job_error", "jobid": jobid, "error": error}


@pytest.fixture
def now(monkeypatch) -> float:
    """The time, which stands still."""
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)
    return now


def run_of(*events: dict, folder: Path = Path("nowhere"), **stats: int) -> Run:
    run = Run(folder)
    run.feed({"time": 0.0, "event": "run_info", "stats": stats | {"total": sum(stats.values())}})
    for event in events:
        run.feed(event)
    return run


def test_a_recorded_run():
    run, ended, running = Run(Path("nowhere")), [], []
    for event in RECORDED:
        if job := run.feed(event):
            ended.append(job)
        running.append(len(run.running()))
    assert run.done == run.total == len(ended)
    assert len(ended) > sum(run.planned.values()) >= 15  # the plan has added the shards
    assert max(running) == 2 and running[-1] == 0
    assert not run.failed() and run.ended
    assert run.report() == "results/look/report.html"
    names = [job.name for job in ended]
    assert names[0] == "Index the real images"
    assert all(0 < job.seconds < run.ended - run.started for job in ended)


def test_a_job_without_a_message_is_called_by_its_rule_and_wildcards():
    run = run_of(started(1, recipe="real", seed="0"), started(2, "evaluate"), train=1, evaluate=1)
    assert [job.name for job in run.running()] == ["train, recipe real, seed 0", "evaluate"]


@pytest.mark.parametrize(
    "line, text, done, total",
    [
        ("12/30 images, 3.1 images/s, 6 s left", "12/30 images, 6 s left, 3.1 images/s", 12, 30),
        ("4096/5000 images, 210 images/s", "4096/5000 images, 210 images/s", 4096, 5000),
        ("step 10/600, loss 2.1000, 90 s left", "step 10/600, 1 min 30 s left, loss 2.1000", 10, 600),
        ("denoiser: step 7 of 70, loss 0.2, 5.1 steps/s, 1260 s left",
         "denoiser: step 7 of 70, 21 min left, loss 0.2, 5.1 steps/s", 7, 70),
    ],
)  # fmt: skip
def test_the_progress_of_a_job_is_in_its_log(tmp_path, now, line, text, done, total):
    (tmp_path / "1.log").write_text(f"10:00:00 continuing after step 3\n10:00:01 {line}\n10:00:02 something else\n")
    os.utime(tmp_path / "1.log", (now,) * 2)
    run = run_of(started(1, at=now), folder=tmp_path, train=1)
    progress = run.progress(run.jobs[1])
    assert (progress.text, progress.done, progress.total) == (text, done, total)


def test_the_time_left_is_counted_on_from_the_line_of_the_log(tmp_path, now):
    (tmp_path / "1.log").write_text("10:00:01 step 10/600, loss 2.1, 90 s left\n")
    os.utime(tmp_path / "1.log", (now - 30,) * 2)
    run = run_of(started(1, at=now - 60), folder=tmp_path, train=1)
    assert run.progress(run.jobs[1]).left_s == pytest.approx(60)


def test_the_log_of_an_earlier_run_says_nothing(tmp_path):
    (tmp_path / "1.log").write_text("10:00:01 step 10/600, loss 2.1, 90 s left\n")
    run = run_of(started(1, at=time.time() + 60), folder=tmp_path, train=1)
    assert run.progress(run.jobs[1]) is None
    assert not run.has_begun(run.jobs[1])


@pytest.mark.parametrize("ahead_s", [-3600, -5, 5, 3600])
def test_the_clock_of_the_file_server_may_be_wrong(tmp_path, now, ahead_s):
    """The dates of logs are compared with its clock, as far as the events name it."""
    for log, age in (("1.log", 20), ("2.log", 90)):
        (tmp_path / log).write_text("10:00:01 step 10/600, loss 2.1, 50 s left\n")
        os.utime(tmp_path / log, (now + ahead_s - age,) * 2)
    events = [started(jobid, at=now - 60) | {"file_server_ahead_s": ahead_s} for jobid in (1, 2)]
    run = run_of(*events, folder=tmp_path, train=2)
    writing, queued = run.jobs[1], run.jobs[2]
    assert run.has_begun(writing) and run.progress(writing).left_s == pytest.approx(30)
    assert not run.has_begun(queued) and run.progress(queued) is None  # its log is that of an earlier run


def test_other_lines_are_no_progress(tmp_path):
    (tmp_path / "1.log").write_text(
        "10:00:00 the first network gets 5 of 100 images wrong\n"
        "10:00:00 imbalance_factor 10 keeps 3 of 9 training images\n"
        "10:00:00 denoiser: resumed at step 5 of 10\n"
        "10:00:00 30 images wanted: 12 finished before, 0 copied, 18 to sample\n"
    )
    run = run_of(started(1, at=time.time()), folder=tmp_path, train=1)
    assert run.progress(run.jobs[1]) is None
    assert run.has_begun(run.jobs[1])


def test_the_time_left_is_that_of_what_runs_and_of_what_waits(tmp_path, now):
    (tmp_path / "2.log").write_text("10:00:01 step 10/20, loss 2.1, 10 s left\n")
    os.utime(tmp_path / "2.log", (now,) * 2)
    run = run_of(started(1, "index", now - 30), finished(1, now - 20), folder=tmp_path, index=1, train=4, evaluate=1)
    assert run.seconds_left(now) is None  # no job of the rules ahead has run
    run.feed(started(2, at=now - 10))
    # 10 s of the first training, and 20 s each of three others; not yet of the evaluation.
    seconds, complete = run.seconds_left(now)
    assert seconds == pytest.approx(10 + 3 * 20) and not complete
    (tmp_path / "3.log").write_text("10:00:01 step 10/20, loss 2.1, 10 s left\n")
    os.utime(tmp_path / "3.log", (now,) * 2)
    run.feed(started(3, at=now - 10))
    assert run.seconds_left(now)[0] == pytest.approx((2 * 10 + 2 * 20) / 2)  # two at a time


def test_the_time_left_covers_all_if_every_rule_is_known():
    run = run_of(started(1, at=0.0), finished(1, 10.0), train=3, all=1)
    assert run.seconds_left(10.0) == (20.0, True)


def test_jobs_that_a_checkpoint_adds_count_for_the_rule_that_has_grown():
    run = run_of(
        started(1, "plan"), finished(1, 1.0), {"time": 1.0, "event": "progress", "done": 1, "total": 12}, plan=1
    )
    run.feed(started(2, "generate_shard", at=1.0))
    run.feed(finished(2, 11.0))
    assert run.seconds_left(11.0) == (100.0, True)


def test_a_job_that_is_tried_again_has_not_failed():
    run = run_of(started(1), failed(1, 5.0), train=1)
    assert [job.error for job in run.failed()] == ["no space"]
    run.feed(started(1, at=6.0))
    assert not run.failed() and len(run.running()) == 1
    assert run.feed(finished(1, 8.0)).seconds == 2.0


def test_a_finished_job_of_a_group_of_which_another_one_fails_stays_finished():
    run = run_of(started(1), started(2), finished(1, 1.0), failed(2, 2.0), failed(1, 2.0), train=2)
    assert [job.logs for job in run.failed()] == [["2.log"]] and run.done == 1


def test_jobs_that_ctrl_c_ends_have_not_failed():
    message = "Terminating processes on user request, this might take some time."
    run = run_of(started(1), {"time": 1.0, "event": "message", "message": message}, failed(1, 2.0), train=1)
    assert not run.failed() and not run.running() and run.done == 0


def test_the_error_of_a_log_is_its_last_line(tmp_path):
    log = tmp_path / "a.log"
    assert error_line([log]) == ""
    log.write_text(f"{ERROR_PREFIX}first\nmore\n")
    assert error_line([log]) == ""
    log.write_text(f"more\n{ERROR_PREFIX}no space\n\n")
    assert error_line([tmp_path / "none.log", log]) == "no space"


def test_durations():
    seconds = (0.4, 5, 59.6, 89, 599, 601, 3599, 7500)
    assert [duration(value) for value in seconds] == [
        "0 s", "5 s", "1 min 0 s", "1 min 29 s", "9 min 59 s", "10 min", "59 min", "2 h 5 min",
    ]  # fmt: skip
