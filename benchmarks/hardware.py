"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch


def hardware() -> str:
    """Processor (or GPU) and number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {cores} CPU cores"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = dict(map(str.strip, line.split(":", 1)) for line in reversed(lines) if ":" in line)
    name = f"{fields['model name']} (family {fields['cpu family']})" if "cpu family" in fields else platform.machine()
    return f"{name}, {cores} cores, no GPU"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide speed."""
    names = ("torch", "diffusers", "transformers", "snakemake", "pyarrow", "pandas")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
