"""Jobs of one machine share its devices without meeting on one. The jobs here are real processes without torch."""

import itertools
import os
import signal
import subprocess
import sys
import time

import pytest

from synaug.errors import UserError
from synaug.generation.devices import leased_device

JOB = """
import sys, time
from synaug.generation.devices import leased_device
with leased_device(timeout_s=20, poll_s=0.01) as device:
    start = time.monotonic()
    print(device, start, flush=True)
    time.sleep(float(sys.argv[1]))
    print(time.monotonic(), flush=True)
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
        command = [sys.executable, "-c", JOB, str(seconds)]
        jobs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def test_twelve_jobs_on_four_devices_never_meet(start):
    jobs = [start("gpu:0, gpu:1,gpu:2,gpu:3", 0.15) for _ in range(12)]
    leases = []
    for job in jobs:
        output, _ = job.communicate(timeout=30)
        assert job.returncode == 0
        device, begin, end = output.split()
        leases.append((device, float(begin), float(end)))
    assert {device for device, _, _ in leases} == {"gpu:0", "gpu:1", "gpu:2", "gpu:3"}
    leases.sort()
    for (device, _, end), (other, begin, _) in itertools.pairwise(leases):
        assert device != other or end <= begin


def test_a_killed_job_frees_its_device(start):
    holder = start("only", 60)
    assert holder.stdout.readline().startswith("only")
    with pytest.raises(UserError, match=r"only.*0\.1 s"), leased_device(timeout_s=0.1, poll_s=0.02):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    before = time.monotonic()
    with leased_device(timeout_s=5, poll_s=0.02) as device:
        assert device == "only"
    assert time.monotonic() - before < 1


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
