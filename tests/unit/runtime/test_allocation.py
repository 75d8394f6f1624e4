"""Memory of jobs on a CPU: what they free is used again without the kernel, and large tensors are on large pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

# Page faults of ten blocks of 40 MB in a job that computes on the CPU. One block comes before, and is not counted.
PROGRAM = """
import resource, sys
import numpy as np
from synaug.runtime.devices import leased_device, leased_devices

def write_a_block():
    np.empty(5_000_000).fill(1.0)

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with {lease}:
    write_a_block()
    before = page_faults()
    for _ in range(10):
        write_a_block()
    print(page_faults() - before)
"""


@pytest.mark.parametrize("lease", ["leased_device()", "leased_devices(1)"])
def test_a_job_on_a_cpu_uses_freed_memory_again(lease):
    command = [sys.executable, "-c", PROGRAM.format(lease=lease)]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env={"SYNAUG_DEVICES": ""}).stdout
    assert int(output) < 1_000  # 97,000 if each block is returned to the kernel


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(
    not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(), reason="the kernel has no large pages to give"
)
def test_large_tensors_are_on_large_pages():
    program = """
import re
import torch
from pathlib import Path
from synaug.runtime.allocation import use_large_pages

use_large_pages()
block = torch.ones(10_000_000)
print(re.search(r"AnonHugePages: +([0-9]+) kB", Path("/proc/self/smaps_rollup").read_text())[1])
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(output) > 30_000  # of 39,000 kB
