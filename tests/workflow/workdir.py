"""A folder in which snakemake is called as a user would call it, and what a call did."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
DRY_RUN = "(a dry run: nothing was made)"  # the end of its table
# Real images of Fashion-MNIST under names that break what is not quoted.
CLASSES = {"T-shirt/top": 9, "Trouser": 6, "Ankle boot": 3, "Bag": 1}
NAMES = {"T-shirt/top": "T-shirt/top", "Trouser": 'it\'s "wide"', "Ankle boot": "Stövel <b>", "Bag": "Bag"}


@dataclass
class Run:
    """What one call of snakemake did; events: what the logger wrote to its file, nothing of a dry run."""

    status: int
    text: str
    events: list[dict]

    @property
    def jobs(self) -> list[str]:
        """Names of the rules that were run, or would be in a dry run, sorted; once per job."""
        names = [event["rule_name"] for event in self.events if event["event"] == "job_info"]
        if DRY_RUN in self.text:
            for count, name in re.findall(r"^ *(\d+)  (\w+)(?:  .*)?$", self.text, re.MULTILINE):
                names += [name] * int(count)
        return sorted(name for name in names if name != "all")


def call(folder: Path, command: list[str], environment: dict[str, str], timeout: float) -> Run:
    """Call snakemake in `folder`."""

    def files() -> set[Path]:
        return set((folder / ".snakemake" / "log").glob("*.events.jsonl"))

    before = files()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    lines = [line for file in files() - before for line in file.read_text().splitlines()]
    return Run(done.returncode, done.stdout + done.stderr, [json.loads(line) for line in lines])


@contextmanager
def one_worker_at_a_time(tmp_path_factory, name: str) -> Iterator[Path]:
    """A folder that all workers of a test run share. Only one worker at a time has it for what is called `name`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared


class Workdir:
    """A folder with a checkout (or beside one), data, a config, and perhaps results. python: what runs Snakemake."""

    def __init__(self, path: Path, checkout: Path | None = None, python: str = sys.executable):
        self.path, self.checkout, self.python = path, checkout or path, python
        self.results = path / "results" / "test"

    def run(self, *arguments: str) -> Run:
        """Call snakemake in the folder as a user would."""
        command = [self.python, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "test.yaml"]
        # The library of the copy, not the installed one. Jobs share its byte code, whatever is set here.
        environment = os.environ | {"PYTHONPATH": str(self.checkout / "workflow_scripts"), "HF_HUB_OFFLINE": "1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": ""}
        return call(self.path, command, environment, timeout=600)

    def change(self, **blocks) -> None:
        """Merge `blocks` into the config: dicts key by key, other values as they are."""
        config = yaml.safe_load((self.path / "test.yaml").read_text())
        merge(config, blocks)
        (self.path / "test.yaml").write_text(yaml.safe_dump(config))

    def sampled(self, experiment: str = "test") -> int:
        """How many images the last run sampled, by the logs that it wrote."""
        logs = (self.path / "logs" / experiment / "generate_shard").glob("*.log")
        return sum(int(re.search(r"(\d+) to sample", log.read_text())[1]) for log in logs)

    def forget_logs(self) -> None:
        """So that `sampled` counts only what comes."""
        shutil.rmtree(self.path / "logs", ignore_errors=True)


def merge(config: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value
