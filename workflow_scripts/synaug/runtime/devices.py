"""Choose the device that a job computes on, so that no two jobs of a workstation share one.

Snakemake counts GPUs but does not tell a job which one to use (snakemake issue 281). Jobs therefore lease devices with
file locks. The kernel holds a lock for as long as the process lives, so a killed job releases its device.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from synaug.runtime.errors import UserError
from synaug.runtime.files import open_lock_file


@contextmanager
def leased_device(timeout_s: float = 24 * 3600, poll_s: float = 0.2) -> Generator[str]:
    """Yield the name of a device (`cuda:1`, `mps`, `cpu`) that no other job holds; wait until one is free.

    The devices are those in SYNAUG_DEVICES (comma-separated names), or all CUDA devices, or `mps`. The CPU is shared
    and never leased. If a scheduler has set CUDA_VISIBLE_DEVICES, the first of those devices is used without a lease.
    Raises UserError if no device becomes free within `timeout_s` seconds.
    """
    devices = available_devices()
    if "SYNAUG_DEVICES" not in os.environ and (devices == ["cpu"] or os.environ.get("CUDA_VISIBLE_DEVICES")):
        yield devices[0]
        return
    end = time.monotonic() + timeout_s
    while True:
        for device in devices:
            with _open_lease(device.replace(":", "-")) as lease:
                try:
                    fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield device
                return
        if time.monotonic() >= end:
            break
        time.sleep(poll_s)
    raise UserError(
        f"none of the devices {', '.join(devices)} became free within {timeout_s:g} s: other jobs hold the locks in "
        f"{_lease_folder()}; wait for them, or end them"
    )


@contextmanager
def leased_devices(count: int) -> Generator[list[str]]:
    """Yield `count` devices that no other job holds. A machine with nothing but a CPU gives `cpu` `count` times.

    Raises UserError if the machine has fewer devices.
    """
    devices = available_devices()
    if devices == ["cpu"]:
        yield devices * count
        return
    if count > len(devices):
        raise UserError(f"devices: {count} are wanted and there are {len(devices)} ({', '.join(devices)}); lower it")
    if "SYNAUG_DEVICES" not in os.environ and os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield devices[:count]
        return
    with ExitStack() as leases:
        # One job at a time: two jobs that each hold half of what they need would wait for ever.
        with _open_lease("several") as turn:
            if count > 1:
                fcntl.flock(turn, fcntl.LOCK_EX)
            chosen = [leases.enter_context(leased_device()) for _ in range(count)]
        yield chosen


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
