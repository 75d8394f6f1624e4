"""The plugin between Snakemake's records and what is shown."""

import json
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.logging import DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from snakemake_logger_plugin_synaug import LogHandler, as_event, short_reasons
from snakemake_logger_plugin_synaug.view import state_lines
from synaug.runtime.errors import ERROR_PREFIX

JOB = {
    "jobid": 1, "rule_name": "train", "rule_msg": "Train real, seed 0", "wildcards": {"seed": "0"},
    "reason": "Missing output files: a, b", "threads": 1, "resources": {"_cores": 1, "gpu": 1}, "local": True,
    "input": ["in"], "output": ["out"], "log": ["a.log"], "benchmark": None,
}  # fmt: skip


def record(message: str | None = None, event: LogEvent | None = None, level: int = logging.INFO, **fields):
    made = logging.LogRecord("snakemake", level, "", 0, message, None, None)
    made.__dict__.update(fields | ({"event": event} if event else {}))
    return made


def a_run():
    """The records of two jobs, of which the second fails."""
    yield record("Building DAG of jobs...")
    yield record("Workflow has started!", LogEvent.WORKFLOW_STARTED, host="here")
    yield record("stats", LogEvent.RUN_INFO, stats={"train": 2, "total": 2})
    yield record("rule", LogEvent.JOB_INFO, **JOB)
    yield record("done", LogEvent.JOB_FINISHED, job_id=1)
    yield record(None, LogEvent.PROGRESS, done=1, total=2)
    yield record("rule", LogEvent.JOB_INFO, **JOB | {"jobid": 2, "rule_msg": "Train real, seed 1"})
    yield record(
        "RuleException:\nCalledProcessError in file x\nCommand 'y' returned non-zero exit status 1.",
        LogEvent.ERROR, logging.ERROR,
    )  # fmt: skip
    yield record("Error", LogEvent.JOB_ERROR, logging.ERROR, **JOB | {"jobid": 2, "rule_msg": None, "aux": {}})
    yield record("a warning of Snakemake", level=logging.WARNING)
    yield record("WorkflowError:\nAt least one job did not complete successfully.", LogEvent.ERROR, logging.ERROR)


@pytest.fixture
def handle(tmp_path, monkeypatch, capfd):
    """A function: settings and records to what was shown on standard error and output."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.log").write_text(f"Traceback\n{ERROR_PREFIX}no space\n")

    def handle(records, **settings):
        flags = ("dryrun", "verbose", "debug_dag", "printshellcmds", "show_failed_logs", "stdout", "nocolor")
        handler = LogHandler(SimpleNamespace(**dict.fromkeys(flags, False) | {"quiet": None} | settings), None)
        handler.setFormatter(DefaultFormatter())
        for one in records:
            handler.handle(one)
        handler.close()
        handler.close()
        out, err = capfd.readouterr()
        return out + err

    return handle


def events(tmp_path) -> list[dict]:
    (file,) = (tmp_path / ".snakemake" / "log").glob("*.events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_snakemake_finds_it():
    assert LoggerPluginRegistry().get_plugin("synaug").log_handler is LogHandler


def test_a_run_is_a_line_per_step_and_an_end(handle):
    lines = handle(a_run()).splitlines()
    assert lines[0] == "2 steps to run"
    assert lines[1].endswith("[1/2] Train real, seed 0: 0 s")
    assert lines[2].endswith("[1/2] Train real, seed 1: failed after 0 s: no space (log: a.log)")
    assert lines[3:] == ["a warning of Snakemake", "Stopped after 0 s: 1 of 2 steps done, 1 failed"]


def test_its_events_are_in_a_file_with_all_details(handle, tmp_path):
    handle(a_run())
    kinds = [event["event"] for event in events(tmp_path)]
    assert kinds == [
        *("workflow_started", "run_info", "job_info", "job_finished", "progress"),
        *("job_info", "job_error", "message", "ended"),
    ]
    job, error = events(tmp_path)[2], events(tmp_path)[6]
    for key in ("input", "output", "log", "reason", "wildcards", "threads"):
        assert job[key] == JOB[key]
    assert job["resources"] == {"gpu": 1}
    assert error["error"] == "no space"


def test_a_view_that_fails_does_not_look_like_a_dead_run(handle, tmp_path, monkeypatch):
    """The time of the file goes on, by which `synaug watch` knows that the run goes on."""

    def fail(display, run):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("snakemake_logger_plugin_synaug.HEARTBEAT_S", 0.01)
    monkeypatch.setattr("snakemake_logger_plugin_synaug.view.Lines.refresh", fail)

    def records():
        yield from a_run()
        [file] = (tmp_path / ".snakemake" / "log").glob("*.events.jsonl")
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 5
        while file.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0

    assert handle(records()).splitlines()[-1] == "Stopped after 0 s: 1 of 2 steps done, 1 failed"


def test_a_running_job_is_not_shown_as_queued_if_the_clock_of_the_file_server_is_behind(handle, tmp_path, monkeypatch):
    shown, set_times = [], os.utime
    monkeypatch.setattr(os, "utime", lambda file: set_times(file, (time.time() - 300,) * 2))  # 5 min
    monkeypatch.setattr("snakemake_logger_plugin_synaug.REFRESH_S", 0.01)
    monkeypatch.setattr(
        "snakemake_logger_plugin_synaug.view.Lines.refresh", lambda display, run: shown.extend(state_lines(run))
    )

    def records():
        yield record("stats", LogEvent.RUN_INFO, stats={"train": 1, "total": 1})
        yield record("rule", LogEvent.JOB_INFO, **JOB)
        (tmp_path / "a.log").write_text("10:00:01 step 10/600, loss 2.1, 50 s left\n")
        os.utime(tmp_path / "a.log")
        shown.clear()
        deadline = time.monotonic() + 5
        while not any("step 10/600" in line for line in shown) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield record("done", LogEvent.JOB_FINISHED, job_id=1)

    handle(records())
    assert any("Train real, seed 0: step 10/600" in line for line in shown)
    assert events(tmp_path)[1]["file_server_ahead_s"] == pytest.approx(-300, abs=5)


def test_a_full_disk_costs_one_line_and_no_run(handle, tmp_path, monkeypatch):
    full = Path("/dev/full").open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **settings: full("w", buffering=1))
    lines = handle(a_run()).splitlines()
    assert lines[0].startswith("synaug: warning: .snakemake/log: cannot be written (No space left on device)")
    assert lines[1] == "2 steps to run"
    assert lines[-1] == "Stopped after 0 s: 1 of 2 steps done, 1 failed"
    assert len(lines) == 6


@pytest.mark.parametrize(
    "quiet, shown",
    [
        ({Quietness.RULES}, ["2 steps to run", "failed after", "warning", "Stopped"]),
        ({Quietness.PROGRESS}, ["Train real, seed 0", "failed after", "warning"]),
        ({Quietness.RULES, Quietness.PROGRESS}, ["failed after", "warning"]),
        ({Quietness.ALL}, []),
    ],
)
def test_quiet_hides_lines_and_no_events(handle, tmp_path, quiet, shown):
    lines = handle(a_run(), quiet=quiet).splitlines()
    assert len(lines) == len(shown)
    for line, part in zip(lines, shown, strict=True):
        assert part in line
    assert len(events(tmp_path)) == 9


def test_verbose_is_snakemakes_own_text(handle, tmp_path):
    text = handle(a_run(), verbose=True)
    for part in ("Building DAG of jobs...", "Job 1: Train real, seed 0", "1 of 2 steps (50%) done"):
        assert part in text
    assert "failed after" not in text
    assert len(events(tmp_path)) == 9


def test_a_dry_run_is_a_table_on_standard_output_and_no_file(handle, tmp_path, capfd):
    stats = record("stats", LogEvent.RUN_INFO, stats={"train": 2, "total": 2})
    jobs = [record("rule", LogEvent.JOB_INFO, **JOB | {"jobid": jobid}) for jobid in (1, 2)]
    text = handle([stats, *jobs, stats, record("This was a dry-run (flag -n).")], dryrun=True, stdout=True)
    assert text.splitlines()[1] == "     2  train  output missing"
    assert len(text.splitlines()) == 3
    assert not (tmp_path / ".snakemake").exists()
    quiet = {Quietness.RULES, Quietness.PROGRESS}  # then Snakemake ends after the counts
    assert "     2  train\n" in handle([stats], dryrun=True, stdout=True, quiet=quiet)


def test_nothing_to_do_is_said_and_leaves_no_file(handle, tmp_path):
    assert handle([record("Nothing to be done (all requested files are present and up to date).")]).count("\n") == 1
    assert not (tmp_path / ".snakemake").exists()


def test_failed_logs_are_shown_if_wanted(handle):
    handler_text = handle(a_run(), show_failed_logs=True)
    assert "log: a.log" in handler_text


def test_a_job_that_died_without_a_word():
    aux = {"jobid": 2, "rule_name": "train", "aux": {}, "log": ["none.log"]}
    assert "killed" in as_event(record("", LogEvent.JOB_ERROR, rule_msg=None, **aux))["error"]
    state = "SLURM-job '3' failed, SLURM status is: 'OUT_OF_MEMORY'."
    assert as_event(record("", LogEvent.JOB_ERROR, rule_msg=state, **aux))["error"] == state
    shared = as_event(record("", LogEvent.JOB_ERROR, rule_msg=None, indent=True, **aux))
    assert "another job of its submission failed" in shared["error"]


def test_an_error_of_snakemake_itself_is_shown(handle):
    text = "MissingOutputException in rule train:\nJob 1 completed successfully, but some output files are missing."
    assert text in handle([record(text, LogEvent.ERROR, logging.ERROR)])


PARAMS = "Params have changed since last execution: Union of exclusive params before and now across all output:"
OLD, NEW = ([64 * digit, 64 * "0"] for digit in "ab")


@pytest.mark.parametrize(
    "reason, short",
    [
        ("Missing output files: a, b; Input files updated by another job: c", ["output missing", "new input"]),
        (f"{PARAMS} before: 'a; b' now: 'c' ", ["settings changed"]),
        (f"{PARAMS} before: {OLD} now: {NEW} ", ["images changed"]),
        (f"{PARAMS} before: '{16 * 'a'}',{OLD} now: {NEW},'{16 * 'b'}' ", ["images changed", "code changed"]),
        (
            f"{PARAMS} before: <nothing exclusive> now: '{16 * 'b'}' ; Software environment definition has changed",
            ["environment changed", "code changed"],
        ),
        (f"{PARAMS} before: 1,{OLD} now: 2,{NEW} ", ["images changed", "settings changed"]),
        (f"{PARAMS} before: {{'steps': 1}} now: <nothing exclusive> ", ["settings changed"]),
        ("Updated input files: x", ["input changed"]),
        ("Rules with neither input nor output files are always executed.", ["always run"]),
        ("Something new", ["Something new"]),
    ],
)
def test_reasons_in_short(reason, short):
    assert short_reasons(reason) == short
