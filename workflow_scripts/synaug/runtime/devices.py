"""Which device a job computes on, and that no two jobs of a workstation compute on the same one.

Snakemake counts GPUs but does not say which one a job has (snakemake issue 281). Jobs therefore lease them: the lock
of a lease is held by the kernel for as long as the process lives, so that no lease outlasts a killed job.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from synaug.runtime.errors import UserError


@contextmanager
def leased_device(timeout_s: float = 24 * 3600, poll_s: float = 0.2) -> Generator[str]:
    """Yield the name of a device (`cuda:1`, `mps`, `cpu`) that no other job holds; wait until one is free.

    The devices are those in SYNAUG_DEVICES (names with commas between them), or all CUDA devices, or `mps`. The CPU
    is shared, never leased. A scheduler that has set CUDA_VISIBLE_DEVICES has already chosen: the first of those.
    Raises UserError if none gets free within `timeout_s` seconds.
    """
    devices = available_devices()
    if "SYNAUG_DEVICES" not in os.environ and (devices == ["cpu"] or os.environ.get("CUDA_VISIBLE_DEVICES")):
        yield devices[0]
        return
    folder = _lease_folder()
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for device in devices:
            with open(folder / f"{device.replace(':', '-')}.lock", "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield device
                return
        time.sleep(poll_s)
    raise UserError(f"no device of {', '.join(devices)} got free in {timeout_s:g} s; see which jobs hold {folder}")


@contextmanager
def leased_devices(count: int) -> Generator[list[str]]:
    """Yield `count` devices that no other job holds. Several CPUs are one: they are given as often as asked for.

    Raises UserError if there are not so many.
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
        # One after the other: two jobs that each held half of what they want would wait for ever.
        with _lease_folder().joinpath("several.lock").open("w") as turn:
            if count > 1:
                fcntl.flock(turn, fcntl.LOCK_EX)
            chosen = [leases.enter_context(leased_device()) for _ in range(count)]
        yield chosen


def _lease_folder() -> Path:
    folder = Path(tempfile.gettempdir(), f"synaug-devices-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    return folder


def available_devices() -> list[str]:
    """Names of the devices of this machine, or those that SYNAUG_DEVICES names."""
    if named := os.environ.get("SYNAUG_DEVICES"):
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    if torch.cuda.is_available():
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["mps"] if torch.backends.mps.is_available() else ["cpu"]


def device_name(device: str) -> str:
    """What a person calls the device: the GPU's product name, or the processor's architecture."""
    import platform

    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{device} ({platform.machine()})"
