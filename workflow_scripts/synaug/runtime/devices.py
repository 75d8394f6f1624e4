"""Choose the device that a job computes on: one that no other job of the workstation holds, or shares.

Snakemake counts GPUs but does not tell a job which one to use (snakemake issue 281). Jobs therefore lease devices with
file locks. The kernel holds a lock for as long as the process lives, so a killed job releases its device.

Of each device there are three kinds of lock files:

- <device>.lock: a job that has the device alone holds it exclusively; jobs that share the device hold it shared.
- <device>-slot<number>.lock: each job that shares the device holds one slot. There are as many as jobs may share it.
- <device>-reserved.lock: held by a job that waits until it has the device alone. No other job starts to share it then.
"""

import fcntl
import functools
import math
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from synaug.runtime.allocation import keep_freed_memory
from synaug.runtime.errors import UserError
from synaug.runtime.files import open_lock_file

# The environment variable in which users say how many jobs share a device.
JOBS_PER_DEVICE = "SYNAUG_JOBS_PER_DEVICE"
# Shares of a device are counted in thousandths, because Snakemake's resources are integers.
WHOLE_DEVICE = 1000
# Jobs that share a device, at most: those that SYNAUG_JOBS_PER_DEVICE can ask for, and those that run without it.
_MAX_JOBS, _MAX_JOBS_BY_DEFAULT = 31, 8
# Memory of the device that a job with a small network needs at most (see `training.memory`), MiB. Not measured.
_JOB_MEMORY = 4000
# Environment variables that hold the id of a scheduler's job.
_SCHEDULER_JOBS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID")


@contextmanager
def leased_device(share: int = WHOLE_DEVICE, timeout_s: float = math.inf, poll_s: float = 0.2) -> Generator[str]:
    """Yield the name of a device (`cuda:1`, `mps`, `cpu`) that is free; wait until one is.

    share: the part of the device that the job needs, in thousandths: 125 for one of eight jobs that share it, 1000 or
    more for a job that needs it alone. Such a job waits until the jobs that share the device have ended, and no
    other job starts to share it in the meantime.
    The devices are those in SYNAUG_DEVICES (comma-separated names), or all CUDA devices that are visible, or `mps`. The
    CPU is shared and never leased. Nor is the only device in CUDA_VISIBLE_DEVICES: a scheduler has chosen it for the
    job, perhaps under a number that it also gives to another device in another job.
    Raises UserError if no device becomes free within `timeout_s` seconds.
    """
    devices = available_devices()
    if devices[0] == "cpu":
        keep_freed_memory()
    if _are_not_leased(devices):
        yield devices[0]
        return
    slots = max(1, WHOLE_DEVICE // share)
    end = time.monotonic() + timeout_s
    with ExitStack() as reservation:
        reserved = False
        while True:
            for device in devices:
                with ExitStack() as locks:
                    if not _take(_lease_name(device), slots, locks):
                        continue
                    reservation.close()
                    yield device
                    return
            if time.monotonic() >= end:
                break
            if slots == 1 and not reserved:
                reserved = any(_reserve(_lease_name(device), reservation) for device in devices)
            time.sleep(poll_s)
    raise UserError(
        f"none of the devices {', '.join(devices)} became free within {timeout_s:g} s: other jobs hold the locks in "
        f"{_lease_folder()}; wait for them, or end them"
    )


@contextmanager
def leased_devices(count: int, share: int = WHOLE_DEVICE) -> Generator[list[str]]:
    """Yield `count` devices that are free. A machine with nothing but a CPU gives `cpu` `count` times.

    share: of one device, see `leased_device`; several devices are leased whole. Raises UserError if the machine has
    fewer devices.
    """
    devices = available_devices()
    if devices == ["cpu"]:
        keep_freed_memory()
        yield devices * count
        return
    if count > len(devices):
        raise UserError(f"devices: {count} are wanted and there are {len(devices)} ({', '.join(devices)}); lower it")
    with ExitStack() as leases:
        # One job at a time: two jobs that each hold half of what they need would wait for ever.
        with _open_lease("several") as turn:
            if count > 1:
                fcntl.flock(turn, fcntl.LOCK_EX)
                share = WHOLE_DEVICE
            chosen = [leases.enter_context(leased_device(share)) for _ in range(count)]
        yield chosen


def jobs_per_device(small: bool) -> int:
    """How many jobs of an experiment share a device: SYNAUG_JOBS_PER_DEVICE, or a number that is safe for its memory.

    small: whether the jobs need at most _JOB_MEMORY each. Others have a device alone by default. Raises UserError for a
    value that is no number of jobs.
    """
    if value := os.environ.get(JOBS_PER_DEVICE):
        if not value.isdecimal() or not 1 <= int(value) <= _MAX_JOBS:
            raise UserError(
                f"{JOBS_PER_DEVICE}: {value!r} is not a number of jobs", advice=f"set a number from 1 to {_MAX_JOBS}"
            )
        return int(value)
    return max(1, min(_MAX_JOBS_BY_DEFAULT, _smallest_memory() // _JOB_MEMORY)) if small else 1


@functools.cache
def _smallest_memory() -> int:
    """Memory of the GPU of this machine that has least, MiB; 0 if that is unknown, or if jobs cannot share a GPU.

    From `nvidia-smi`: to ask torch would start CUDA in the process of Snakemake.
    """
    query = ["nvidia-smi", "--query-gpu=memory.total,compute_mode,mig.mode.current", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
        gpus = [line.split(", ") for line in answer.splitlines()]
        shareable = all(mode == "Default" and mig != "Enabled" for _, mode, mig in gpus)
        return min(int(memory) for memory, _, _ in gpus) if shareable else 0
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def _are_not_leased(devices: list[str]) -> bool:
    return devices == ["cpu"] or ("SYNAUG_DEVICES" not in os.environ and len(_visible_devices()) == 1)


def _visible_devices() -> list[str]:
    """Numbers or ids of the devices in CUDA_VISIBLE_DEVICES. torch counts them from 0."""
    return [device.strip() for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]


def _lease_name(device: str) -> str:
    """The name of the lease of `device`, the same in all jobs that use the device.

    With CUDA_VISIBLE_DEVICES, torch counts from its first device, so the lease has the number or id from that variable.
    Within a scheduler's job that number may not be the one of the machine, so the lease also has the id of the job.
    """
    kind, _, number = device.partition(":")
    visible = _visible_devices()
    if kind == "cuda" and number.isdecimal() and int(number) < len(visible):
        jobs = [os.environ[name] for name in _SCHEDULER_JOBS if os.environ.get(name)]
        device = "-".join([kind, *jobs[:1], visible[int(number)]])
    return re.sub(r"[^\w.-]", "-", device)


def _take(name: str, slots: int, locks: ExitStack) -> bool:
    """Take the device with the lease `name`, alone or one of its `slots`. Whether it was free.

    locks: keeps the locks, or after a failure some of them, until it is closed.
    """
    lease = locks.enter_context(_open_lease(name))
    if slots == 1:
        return _lock(lease, fcntl.LOCK_EX)
    with _open_lease(f"{name}-reserved") as reserved:
        if not (_lock(reserved, fcntl.LOCK_SH) and _lock(lease, fcntl.LOCK_SH)):
            return False
        return any(_lock(locks.enter_context(_open_lease(f"{name}-slot{i}")), fcntl.LOCK_EX) for i in range(slots))


def _reserve(name: str, reservation: ExitStack) -> bool:
    """Reserve the device with the lease `name`, if jobs share it and no other job has reserved it."""
    with _open_lease(name) as lease:
        if not _lock(lease, fcntl.LOCK_SH):  # a job has it alone
            return False
    reserved = _open_lease(f"{name}-reserved")
    if _lock(reserved, fcntl.LOCK_EX):
        reservation.callback(reserved.close)
        return True
    reserved.close()
    return False


def _lock(file: TextIO, operation: int) -> bool:
    """Lock `file`, exclusively or shared, if no other job prevents it. Whether it is locked."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lease_folder() -> Path:
    return Path(tempfile.gettempdir(), f"synaug-devices-{os.getuid()}")


def _open_lease(name: str) -> TextIO:
    """The file whose lock is the lease `name`, in a folder that only this user can write to.

    The temporary directory is shared: another user may have put a folder or a symbolic link of this name there. Raises
    UserError in that case.
    """
    folder = _lease_folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid != os.getuid():
                raise PermissionError(None, "it belongs to another user")
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)
        return open_lock_file(folder / f"{name}.lock")
    except OSError as error:
        path = Path(error.filename or folder)
        reason = "it is a symbolic link" if path.is_symlink() else error.strerror
        raise UserError(
            f"{path}: cannot be used to lease devices ({reason}); delete it, or set the environment variable TMPDIR to "
            "a folder of your own"
        ) from error


def available_devices() -> list[str]:
    """Names of the devices of this machine, or those that SYNAUG_DEVICES names. CUDA is not initialised."""
    if named := os.environ.get("SYNAUG_DEVICES"):
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    # It asks the driver's management library. `torch.cuda.is_available` would initialise CUDA.
    if count := torch.cuda.device_count():
        return [f"cuda:{i}" for i in range(count)]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def device_name(device: str) -> str:
    """The device in words: the product name of the GPU, or the device and the architecture of the processor."""
    import platform

    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{device} ({platform.machine()})"
