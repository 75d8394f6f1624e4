"""What a figure was measured on, and when."""

import os
import platform
import subprocess
from datetime import date
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


def versions(*others: str) -> dict[str, str]:
    """Versions of Python, of the libraries that decide speed, and of `others`."""
    names = ("torch", "diffusers", "transformers", "snakemake", "pyarrow", "pandas", *others)
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def commit() -> str:
    """The commit of this checkout."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()


def measured_on(*libraries: str) -> dict[str, str | dict[str, str]]:
    """The keys `hardware`, `versions` (also those of `libraries`), `date` and `commit` of a result."""
    return {
        "hardware": hardware(),
        "versions": versions(*libraries),
        "date": date.today().isoformat(),
        "commit": commit(),
    }
