"""A folder in which snakemake is called as a user would call it, and what a call did."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
# Real images of Fashion-MNIST under names that break what is not quoted.
CLASSES = {"T-shirt/top": 9, "Trouser": 6, "Ankle boot": 3, "Bag": 1}
NAMES = {"T-shirt/top": "T-shirt/top", "Trouser": 'it\'s "wide"', "Ankle boot": "Stövel <b>", "Bag": "Bag"}


@dataclass
class Run:
    """What one call of snakemake did."""

    status: int
    text: str

    @property
    def jobs(self) -> list[str]:
        """Names of the rules that were run, sorted; once per job."""
        found = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):$", self.text, re.MULTILINE)
        return sorted(name for name in found if name != "all")


class Workdir:
    """A folder with a checkout (or beside one), data, a config, and perhaps results."""

    def __init__(self, path: Path, checkout: Path | None = None):
        self.path, self.checkout = path, checkout or path
        self.results = path / "results" / "test"

    def run(self, *arguments: str) -> Run:
        """Call snakemake in the folder as a user would."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "test.yaml"]
        # The library of the copy, not the installed one.
        environment = os.environ | {"PYTHONPATH": str(self.checkout / "workflow_scripts"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=600)
        return Run(done.returncode, done.stdout + done.stderr)

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
