"""The log of a job: where its output goes, also when the disk is full."""

import subprocess
import sys

JOB = """
import sys
from synaug.runtime.errors import UserError
from synaug.runtime.logs import job_log
with job_log(sys.argv[1]):
    print("a line")
    if sys.argv[2] == "fail":
        raise UserError("a.parquet: is damaged", advice="delete it")
    open(sys.argv[2], "w").write("finished")
"""


def run(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", JOB, *map(str, arguments)], capture_output=True, text=True)


def test_the_log_has_everything_and_the_terminal_nothing(tmp_path):
    done = run(tmp_path / "new" / "job.log", "fail")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    lines = (tmp_path / "new" / "job.log").read_text().splitlines()
    assert lines[0] == "a line" and lines[1].startswith("Traceback")
    assert lines[-1] == "synaug: error: a.parquet: is damaged; delete it"


def test_a_log_on_a_full_disk_ends_no_job(tmp_path):
    done = run("/dev/full", tmp_path / "output")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "output").read_text() == "finished"


def test_an_error_that_does_not_fit_into_the_log_is_on_the_terminal():
    done = run("/dev/full", "fail")
    assert done.returncode == 1
    assert done.stderr == "synaug: error: a.parquet: is damaged; delete it\n"


def test_a_log_that_cannot_be_opened_is_one_line(tmp_path):
    (tmp_path / "logs").touch()
    done = run(tmp_path / "logs" / "job.log", "fail")
    assert done.returncode == 1
    assert done.stderr.startswith(f"synaug: error: {tmp_path}/logs/job.log: cannot be written (")
    assert len(done.stderr.splitlines()) == 1
