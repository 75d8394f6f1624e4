"""Memory that a job on a CPU frees is used again without the kernel."""

import platform
import subprocess
import sys

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
