"""Jobs of one machine share its devices without meeting on one. The jobs here are real processes without torch."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from synaug.runtime.devices import leased_device, leased_devices
from synaug.runtime.errors import UserError

# Lines of a file that is only appended to: device, what happened, process, seconds on a clock that all share.
JOB = """
import os, sys, time
from synaug.runtime.devices import leased_device, leased_devices
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
say = lambda *words: os.write(log, (" ".join(map(str, [*words, os.getpid(), time.monotonic()])) + "\\n").encode())
with leased_device(timeout_s=20, poll_s=0.01) as device:
    say(device, "takes")
    time.sleep(float(sys.argv[1]))
    say(device, "frees")
assert "torch" not in sys.modules
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function: start a job that holds a device for some seconds."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # leases of this test are nobody else's
    monkeypatch.setattr("tempfile.tempdir", None)
    jobs = []

    def start(devices: str, seconds: float) -> subprocess.Popen:
        monkeypatch.setenv("SYNAUG_DEVICES", devices)
        command = [sys.executable, "-c", JOB, str(seconds), str(tmp_path / "log")]
        jobs.append(subprocess.Popen(command, env=dict(os.environ)))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.wait()


@pytest.fixture
def log(tmp_path):
    """A function: what the jobs have said so far, as (device, "takes" or "frees", process, seconds)."""

    def log() -> list[tuple[str, str, int, float]]:
        path = tmp_path / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        fields = [line.split() for line in lines]
        return [(device, what, int(process), float(seconds)) for device, what, process, seconds in fields]

    return log


def wait_for(condition, seconds: float = 20):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return found


@pytest.mark.parametrize("kills", [0, 3])
def test_twelve_jobs_on_four_devices_never_meet(start, log, kills):
    """Also when holders are killed: every other job is served, and nobody gets a device before its holder is gone."""
    # Those that are to be killed hold on until then.
    jobs = [start("gpu:0, gpu:1,gpu:2,gpu:3", 60 if number < kills else 0.12) for number in range(12)]
    killed = {}
    for job in jobs[:kills]:
        wait_for(lambda job=job: any(process == job.pid for _, _, process, _ in log()))
        killed[job.pid] = time.monotonic()  # from now on somebody else may have its device
        job.send_signal(signal.SIGKILL)
    for job in jobs:
        assert job.wait(timeout=30) == (-signal.SIGKILL if job.pid in killed else 0)
    takes = {process: (device, seconds) for device, what, process, seconds in log() if what == "takes"}
    frees = killed | {process: seconds for _, what, process, seconds in log() if what == "frees"}
    assert set(takes) == {job.pid for job in jobs}
    leases = sorted((device, begin, frees[process]) for process, (device, begin) in takes.items())
    assert {device for device, _, _ in leases} == {"gpu:0", "gpu:1", "gpu:2", "gpu:3"}
    for (device, _, end), (other, begin, _) in itertools.pairwise(leases):
        assert device != other or end <= begin


def test_a_killed_job_frees_its_device_at_once(start, log):
    holder = start("only", 60)
    wait_for(log)
    with pytest.raises(UserError, match=r"only.*0\.1 s"), leased_device(timeout_s=0.1, poll_s=0.02):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    before = time.monotonic()
    # The first try has to succeed.
    with leased_device(timeout_s=5, poll_s=5) as device:
        assert device == "only"
    assert time.monotonic() - before < 1


def test_devices_that_a_scheduler_has_chosen_are_kept_to(monkeypatch, tmp_path):
    monkeypatch.delenv("SYNAUG_DEVICES", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    # torch counts the visible ones from 0. Nothing is leased: two jobs of one allocation are the scheduler's affair.
    with leased_device(timeout_s=1) as one, leased_device(timeout_s=1) as other:
        assert one == other == "cuda:0"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with leased_device(timeout_s=1) as one, leased_device(timeout_s=1) as other:
        assert {one, other} == {"cuda:0", "cuda:1"}


def test_an_error_inside_frees_the_device(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "only")
    with pytest.raises(KeyError), leased_device(timeout_s=1):
        raise KeyError
    with leased_device(timeout_s=1) as device:
        assert device == "only"


def test_one_process_gets_two_different_devices(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b")
    with leased_device(timeout_s=1) as one, leased_device(timeout_s=1) as other:
        assert {one, other} == {"a", "b"}


def test_several_devices_are_leased_together_and_never_more_than_there_are(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b,c")
    with leased_devices(2) as two, leased_device(timeout_s=1) as one:
        assert sorted([*two, one]) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"4 are wanted and there are 3 \(a, b, c\)"), leased_devices(4):
        pass
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    with leased_devices(2) as two:  # the CPU is shared
        assert two == ["cpu", "cpu"]
