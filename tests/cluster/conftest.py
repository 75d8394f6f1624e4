"""A SLURM for all tests of this folder, and checkouts that are run through it.

`finished`, the whole workflow run on this machine without SLURM, is the one of tests/workflow.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm import CPUS, Slurm, SlurmError, install

WORKFLOW = Path(__file__).parents[1] / "workflow"
sys.path.insert(0, str(WORKFLOW))  # for its `workdir`

from workdir import Workdir  # noqa: E402

# By path: `import conftest` would be this file.
_spec = importlib.util.spec_from_file_location("workflow_conftest", WORKFLOW / "conftest.py")
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
finished, quick_python = _conftest.finished, _conftest.quick_python

TIMEOUT_S = 1800  # for a whole workflow, on a machine that may be busy


class Submitted:
    """A run of snakemake that submits its jobs, in a checkout."""

    def __init__(self, slurm: Slurm, work: Workdir, *arguments: str):
        self.slurm, self.work = slurm, work
        command = [sys.executable, "-m", "snakemake", *arguments, "--workflow-profile", "profiles/slurm"]
        # What differs from the use on a cluster: the node is small, and it is asked more often what became of the jobs.
        command += ["--configfile", "test.yaml", "--max-threads", str(CPUS)]
        command += ["--slurm-init-seconds-before-status-checks", "2"]
        self.said = work.path / f"snakemake-{time.monotonic_ns()}.out"
        environment = slurm.environment | {"PYTHONPATH": str(work.path / "workflow_scripts"), "HF_HUB_OFFLINE": "1"}
        with self.said.open("w") as out:
            self.process = subprocess.Popen(command, cwd=work.path, env=environment, stdout=out, stderr=out)

    @property
    def text(self) -> str:
        """What snakemake has printed so far."""
        return self.said.read_text()

    def wait(self) -> None:
        """Wait for the end, which has to be a good one."""
        assert self.process.wait(TIMEOUT_S) == 0, self.text

    def until(self, happened: Callable):
        """Wait until `happened` returns something true, and return that."""
        end = time.monotonic() + TIMEOUT_S
        while not (found := happened()):
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.1)
        return found

    def jobs(self) -> list[dict[str, str]]:
        """The jobs that SLURM had of this checkout, by number; `rule` and `shard` are those of Snakemake.

        Jobs of Snakemake that share a submission have no `rule`, and the name of their group as `group`.
        """
        columns = ("Comment", "Partition", "AllocTRES", "ReqMem", "TimelimitRaw", "Start", "End", "WorkDir")
        jobs = [job for job in self.slurm.accounts(*columns) if job["WorkDir"] == str(self.work.path)]
        for job in jobs:
            job["rule"], _, job["shard"] = job["Comment"].removeprefix("rule_").partition("_wildcards_")
            shared = re.match(r"test_((?:networks|scores|shards)_\w+?_\d+)_", job["rule"])
            job["group"], job["rule"] = (shared[1], "") if shared else ("", job["rule"])
        return sorted(jobs, key=lambda job: int(job["JobIDRaw"]))

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM that takes jobs. Where there can be none, the whole test run ends with one line that says why."""
    try:
        install()
        one = Slurm(tmp_path_factory.mktemp("slurm"))
        try:
            one.start()
            yield one
        finally:
            one.stop()
    except SlurmError as error:
        pytest.exit(f"tests/cluster needs SLURM: {error}", returncode=1)


@pytest.fixture(scope="session")
def submit(slurm):
    """A function: checkout and arguments to a run of snakemake that has been started."""
    runs = []

    def submit(work: Workdir, *arguments: str) -> Submitted:
        runs.append(Submitted(slurm, work, *arguments))
        return runs[-1]

    yield submit
    for run in runs:
        run.kill()


@pytest.fixture(scope="session")
def fresh(finished, tmp_path_factory):
    """A function: a copy of the checkout in which nothing has been run."""

    def fresh() -> Workdir:
        path = tmp_path_factory.mktemp("cluster") / "checkout"
        done = (".snakemake", "results", "logs", "__pycache__")
        shutil.copytree(finished.path, path, ignore=shutil.ignore_patterns(*done))
        return Workdir(Path(os.path.realpath(path)))

    return fresh
