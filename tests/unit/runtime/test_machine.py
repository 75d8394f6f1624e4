"""What a job learns of its machine."""

import os

import pytest

from synaug.runtime.machine import usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds a process to cores")
def test_a_job_uses_the_cores_that_it_was_given():
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, cores)
    assert usable_cores() == len(cores)


def test_the_library_counts_the_cores_of_a_job_and_not_those_of_the_machine(repository):
    files = (repository / "workflow_scripts").rglob("*.py")
    assert [path.name for path in files if "cpu_count(" in path.read_text()] == ["machine.py"]
