"""Jobs of one machine share its devices: each job has its device alone, or shares it with as many as agreed.

The jobs are real processes, without torch.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synaug.runtime import devices
from synaug.runtime.devices import WHOLE_DEVICE, jobs_per_device, leased_device, leased_devices
from synaug.runtime.errors import UserError

# Appends lines to a file: device, event, process, seconds on a clock that all processes share.
JOB = """
import os, sys, time
from synaug.runtime.devices import leased_device, leased_devices
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
write = lambda *words: os.write(log, (" ".join(map(str, [*words, os.getpid(), time.monotonic()])) + "\\n").encode())
with leased_device(int(sys.argv[4]), timeout_s=300, poll_s=0.01) as device:
    write(device, "takes")
    while open(sys.argv[2]).read().count("takes") < int(sys.argv[3]):  # until so many jobs had a device
        time.sleep(0.01)
    time.sleep(float(sys.argv[1]))
    write(device, "frees")
assert "torch" not in sys.modules
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function: start a job that holds a device until `takes` jobs have had one, and for some seconds more."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # no other program uses the leases of this test
    monkeypatch.setattr("tempfile.tempdir", None)
    jobs = []

    def start(devices: str, seconds: float, takes: int = 1, share: int = WHOLE_DEVICE) -> subprocess.Popen:
        monkeypatch.setenv("SYNAUG_DEVICES", devices)
        command = [sys.executable, "-c", JOB, str(seconds), str(tmp_path / "log"), str(takes), str(share)]
        jobs.append(subprocess.Popen(command, env=dict(os.environ)))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.wait()


@pytest.fixture
def log(tmp_path):
    """A function: the events of the jobs so far, as (device, "takes" or "frees", process, seconds)."""

    def log() -> list[tuple[str, str, int, float]]:
        path = tmp_path / "log"
        lines = path.read_text().splitlines() if path.exists() else []
        fields = [line.split() for line in lines]
        return [(device, event, int(process), float(seconds)) for device, event, process, seconds in fields]

    return log


def wait_for(condition, seconds: float = 300):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.005)
    return value


@pytest.mark.parametrize("kills", [0, 3])
def test_twelve_jobs_never_share_one_of_four_devices(start, log, kills):
    """Also when jobs are killed: every other job gets a device, and none before the job that holds it has ended."""
    # Jobs that will be killed hold their device until then.
    jobs = [start("gpu:0, gpu:1,gpu:2,gpu:3", 600 if number < kills else 0.12, takes=4) for number in range(12)]
    killed = {}
    for job in jobs[:kills]:
        wait_for(lambda job=job: any(process == job.pid for _, _, process, _ in log()))
        killed[job.pid] = time.monotonic()  # from now on another job may have its device
        job.send_signal(signal.SIGKILL)
    for job in jobs:
        assert job.wait(timeout=300) == (-signal.SIGKILL if job.pid in killed else 0)
    takes = {process: (device, seconds) for device, event, process, seconds in log() if event == "takes"}
    frees = killed | {process: seconds for _, event, process, seconds in log() if event == "frees"}
    assert set(takes) == {job.pid for job in jobs}
    leases = sorted((device, begin, frees[process]) for process, (device, begin) in takes.items())
    assert {device for device, _, _ in leases} == {"gpu:0", "gpu:1", "gpu:2", "gpu:3"}
    for (device, _, end), (other, begin, _) in itertools.pairwise(leases):
        assert device != other or end <= begin


def test_a_killed_job_releases_its_device_at_once(start, log):
    holder = start("only", 600)
    wait_for(log)
    with pytest.raises(UserError, match=r"only.*0\.1 s"), leased_device(timeout_s=0.1, poll_s=0.02):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    # The first try has to succeed: there is no time for a second.
    with leased_device(timeout_s=0, poll_s=1) as device:
        assert device == "only"


def test_eight_jobs_share_a_device_and_one_that_needs_it_alone_gets_it_before_those_that_come_later(start, log):
    sharing = [start("only", 600, share=125) for _ in range(9)]
    wait_for(lambda: len(log()) == 8)
    alone = start("only", 0.1)
    first = {process for _, _, process, _ in log()}
    time.sleep(1)
    assert len(log()) == 8  # neither the ninth job nor the one that needs the device alone
    [ninth] = [job for job in sharing if job.pid not in first]
    ended = [job for job in sharing if job is not ninth]
    for job in ended:
        job.kill()
        job.wait()
    wait_for(lambda: {alone.pid, ninth.pid} <= {process for _, _, process, _ in log()})
    rest = [(process, event) for _, event, process, _ in log() if process not in first]
    assert rest == [(alone.pid, "takes"), (alone.pid, "frees"), (ninth.pid, "takes")]


def test_no_moment_has_a_device_with_more_jobs_than_agreed(start, log):
    jobs = [start("a,b", 0.1, share=share) for share in [333] * 10 + [WHOLE_DEVICE] * 4 + [333] * 4]
    for job in jobs:
        assert job.wait(timeout=300) == 0
    alone = {job.pid for job in jobs[10:14]}
    used = {"a": 0, "b": 0}
    for device, event, process, _ in sorted(log(), key=lambda line: line[3]):
        used[device] += (1 if event == "takes" else -1) * (3 if process in alone else 1)
        assert used[device] <= 3
    assert len(log()) == 2 * len(jobs)


def test_jobs_that_share_fill_one_device_before_the_next(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b")
    with (
        leased_device(500, timeout_s=1) as first,
        leased_device(500, timeout_s=1) as second,
        leased_device(500, timeout_s=1) as third,
        pytest.raises(UserError, match="none of the devices a, b became free"),
        leased_device(timeout_s=0.1, poll_s=0.02),
    ):
        pass
    assert (first, second, third) == ("a", "a", "b")


def test_a_job_that_reckoned_with_several_devices_and_needs_one_has_it_alone(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b")  # as a rule may ask for, if a profile says so
    with leased_devices(1, 2 * WHOLE_DEVICE) as first, leased_device(500, timeout_s=1) as second:
        assert [first, second] == [["a"], "b"]


def test_a_job_that_gave_up_does_not_keep_its_reservation(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "only")
    with leased_device(500, timeout_s=1):
        with pytest.raises(UserError), leased_device(timeout_s=0.1, poll_s=0.02):
            pass
        with leased_device(500, timeout_s=0) as second:
            assert second == "only"


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Two pretended GPUs, and leases that no other program uses."""
    monkeypatch.delenv("SYNAUG_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("synaug.runtime.devices.available_devices", lambda: ["cuda:0", "cuda:1"])


def test_jobs_use_different_devices_of_those_that_are_visible(gpus, monkeypatch):
    with leased_device(timeout_s=1) as first, leased_device(timeout_s=1) as second:
        assert {first, second} == {"cuda:0", "cuda:1"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")  # torch counts them from 0
    with leased_device(timeout_s=1) as first, leased_device(timeout_s=1) as second:
        assert {first, second} == {"cuda:0", "cuda:1"}
    with leased_devices(2) as both, pytest.raises(UserError), leased_device(timeout_s=0):
        pass
    assert both == ["cuda:0", "cuda:1"]


def test_jobs_with_other_visible_devices_wait_for_those_that_both_see(gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with leased_devices(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,7")
        with leased_device(timeout_s=0) as first:  # number 2; number 7 is taken
            assert first == "cuda:0"
            with pytest.raises(UserError), leased_device(timeout_s=0):
                pass


def test_a_scheduler_may_number_the_devices_of_every_job_from_zero(gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with leased_devices(2):
        monkeypatch.setenv("SLURM_JOB_ID", "18")
        with leased_devices(2) as devices:  # of another job: other GPUs
            assert devices == ["cuda:0", "cuda:1"]


def test_the_only_device_that_a_scheduler_has_chosen_is_not_leased(gpus, monkeypatch):
    monkeypatch.setattr("synaug.runtime.devices.available_devices", lambda: ["cuda:0"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with leased_device(timeout_s=0) as first, leased_devices(1) as second:
        assert [first] == second == ["cuda:0"]


NVIDIA_SMI = """\
#!/bin/sh
printf '%b' "$GPUS"
"""


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """A function: set what `nvidia-smi` answers."""
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("SYNAUG_JOBS_PER_DEVICE", raising=False)

    def memory(answer: str) -> None:
        monkeypatch.setenv("GPUS", answer)
        devices._smallest_memory.cache_clear()

    yield memory
    devices._smallest_memory.cache_clear()


@pytest.mark.parametrize(
    ("answer", "jobs"),
    [
        ("81559, Default, Disabled\\n", 8),
        ("24564, Default, [N/A]\\n8192, Default, [N/A]\\n", 2),
        ("2048, Default, [N/A]\\n", 1),
        ("81559, Exclusive_Process, Disabled\\n", 1),
        ("81559, Default, Enabled\\n", 1),
        ("NVIDIA-SMI has failed\\n", 1),
        ("", 1),
    ],
)
def test_as_many_small_networks_share_a_gpu_as_its_memory_holds(memory, answer, jobs):
    memory(answer)
    assert jobs_per_device(small=True) == jobs
    assert jobs_per_device(small=False) == 1


def test_the_user_decides_how_many_jobs_share_a_gpu(memory, monkeypatch):
    memory("8192, Default, [N/A]\\n")
    monkeypatch.setenv("SYNAUG_JOBS_PER_DEVICE", "12")
    assert jobs_per_device(small=True) == jobs_per_device(small=False) == 12
    for wrong in ("0", "-1", "many", "1.5", "32"):
        monkeypatch.setenv("SYNAUG_JOBS_PER_DEVICE", wrong)
        with pytest.raises(UserError, match=rf"SYNAUG_JOBS_PER_DEVICE: '{wrong}' .*from 1 to 31"):
            jobs_per_device(small=True)


def test_shares_add_up_to_the_number_of_jobs():
    assert all(WHOLE_DEVICE // (WHOLE_DEVICE // jobs) == jobs for jobs in range(1, 32))


def test_an_error_releases_the_device(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "only")
    with pytest.raises(KeyError), leased_device(timeout_s=1):
        raise KeyError
    with leased_device(timeout_s=1) as device:
        assert device == "only"


def test_one_process_gets_two_different_devices(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b")
    with leased_device(timeout_s=1) as first, leased_device(timeout_s=1) as second:
        assert {first, second} == {"a", "b"}


def test_several_devices_are_leased_together_up_to_their_number(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "a,b,c")
    with leased_devices(2) as two, leased_device(timeout_s=1) as third:
        assert sorted([*two, third]) == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"4 are wanted and there are 3 \(a, b, c\)"), leased_devices(4):
        pass
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    with leased_devices(2) as two:  # the CPU is shared
        assert two == ["cpu", "cpu"]


def test_any_number_of_jobs_share_the_cpu_also_if_the_user_has_chosen_it(start, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    with leased_device(timeout_s=0) as first, leased_device(timeout_s=0) as second, leased_devices(1) as third:
        assert [first, second, *third] == ["cpu"] * 3


@pytest.fixture
def shared(tmp_path, monkeypatch) -> Path:
    """A temporary directory in which other users can plant things; returns the folder of the leases in it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("SYNAUG_DEVICES", "gpu:0")
    return tmp_path / f"synaug-devices-{os.getuid()}"


def refused() -> str:
    with (
        pytest.raises(UserError, match=r"cannot be used to lease devices .*TMPDIR") as error,
        leased_device(timeout_s=1),
    ):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_only_the_user_has_access_to_the_folder_of_leases(shared):
    with leased_device(timeout_s=1):
        assert shared.stat().st_mode & 0o777 == 0o700
    shared.chmod(0o777)
    with leased_device(timeout_s=1):
        assert shared.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("target", ["folder", "file", "nothing"])
def test_a_symbolic_link_in_the_place_of_the_folder_is_refused(shared, target, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "gpu-0.lock").write_text("kept")
    (tmp_path / "file").write_text("kept")
    shared.symlink_to(tmp_path / target)
    assert f"{shared}: " in refused() and "symbolic link" in refused()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["gpu-0.lock"]
    assert (tmp_path / "folder" / "gpu-0.lock").read_text() == (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["gpu-0.lock", "several.lock"])
def test_a_symbolic_link_in_the_place_of_a_lock_is_refused_and_its_target_kept(shared, name, tmp_path):
    shared.mkdir()
    (tmp_path / "target").write_text("kept")
    (shared / name).symlink_to(tmp_path / "target")
    with pytest.raises(UserError, match=rf"{name}: cannot be used .*symbolic link.*delete it"), leased_devices(1):
        pass
    assert (tmp_path / "target").read_text() == "kept"


def test_an_existing_lock_file_is_not_truncated(shared):
    shared.mkdir()
    (shared / "gpu-0.lock").write_text("kept")
    with leased_device(timeout_s=1):
        pass
    assert (shared / "gpu-0.lock").read_text() == "kept"


def test_a_folder_of_another_user_is_refused(shared, monkeypatch):
    shared.mkdir()
    status = os.fstat

    def of_another_user(descriptor) -> os.stat_result:
        fields = list(status(descriptor))
        fields[4] += 1  # st_uid
        return os.stat_result(fields)

    monkeypatch.setattr("os.fstat", of_another_user)
    assert "belongs to another user" in refused()
    assert list(shared.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_refused(shared):
    shared.write_text("kept")
    refused()
    assert shared.read_text() == "kept"
