"""The processes of one training end together: after an error, a signal, and the end of the job.

They import little, since each test starts two of them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from synaug.runtime.errors import UserError
from synaug.training.parallel import Process, run_on

TWO = ["cpu", "cpu"]


class NotPicklable(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fail(process: Process, failing_rank: int, error: type[Exception] | None) -> None:
    """The process `failing_rank` fails, while the other waits for it."""
    if process.rank == failing_rank:
        if error is UserError:
            raise UserError("the loss is nan at step 3", advice="lower learning_rate")
        if error is None:
            sys.exit(3)
        raise error("this", "that")
    process.gather("a part")
    process.value_of_first("a value")


@pytest.mark.parametrize(
    ("failing_rank", "error", "raised", "text"),
    [
        (1, UserError, UserError, "the loss is nan at step 3; lower learning_rate"),
        (0, NotPicklable, RuntimeError, "NotPicklable: this and that"),
        (1, None, UserError, "the process that trains on cpu ended early, with status 3"),
    ],
)
def test_the_error_of_a_process_ends_the_others_and_is_raised(failing_rank, error, raised, text):
    with pytest.raises(raised) as caught:
        run_on(TWO, fail, failing_rank, error)
    assert str(caught.value).startswith(text)
    assert error is not UserError or caught.value.advice == "lower learning_rate"
    assert not children()


JOB = """
import signal, sys
sys.path.insert(0, sys.argv[1])
from synaug.runtime.logs import job_log
from synaug.training.parallel import run_on
from test_processes import TWO, wait_for_ever
# A test run in the background of a shell ignores the signal, and so do its child processes.
signal.signal(signal.SIGINT, signal.default_int_handler)
with job_log(sys.argv[2]):
    run_on(TWO, wait_for_ever, sys.argv[3])
"""


def wait_for_ever(process: Process, folder: str) -> None:
    """Process 0 waits in Python, process 1 for process 0. Each has written its number before."""
    Path(folder, f"{os.getpid()}.pid").touch()
    if process.rank == 0:
        time.sleep(1000)
    process.value_of_first(1)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_job_ends_all_processes(signal_number, tmp_path):
    command = [sys.executable, "-c", JOB, str(Path(__file__).parent), str(tmp_path / "log"), str(tmp_path)]
    job = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        while len(numbers := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.05)
        if signal_number == signal.SIGINT:  # Ctrl-C reaches every process of the terminal
            os.killpg(job.pid, signal_number)
        else:
            job.send_signal(signal_number)
        assert job.wait(60) != 0
        for number in numbers:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
                psutil.Process(number).wait(10)
        assert job.stderr.read() == ""  # nothing on the terminal
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)


def children() -> list[psutil.Process]:
    """Processes that `run_on` has started and that still run. Fixtures of other tests have processes too."""
    return [
        process for process in psutil.Process().children(recursive=True) if "multiprocessing.spawn" in words(process)
    ]


def words(process: psutil.Process) -> str:
    """The command line of a process. It is empty if the process has ended, also if nobody has waited for it yet."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # a process that has ended and was not waited for (ZombieProcess) is a case of it
        return ""
