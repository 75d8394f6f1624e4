"""A checkout of the real workflow with small real data and a tiny generator, run once; tests change copies of it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
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
    """A folder with a checkout, data, a config, and perhaps results."""

    def __init__(self, path: Path):
        self.path = path
        self.results = path / "results" / "test"

    def run(self, *arguments: str) -> Run:
        """Call snakemake as a user would, from the checkout."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", "test.yaml"]
        # The library of the copy, not the installed one.
        environment = os.environ | {"PYTHONPATH": str(self.path / "workflow_scripts"), "HF_HUB_OFFLINE": "1"}
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


def make_data(folder: Path) -> None:
    folder.mkdir()
    for split, counts in (("train", CLASSES), ("test", dict.fromkeys(CLASSES, 4))):
        table = pq.read_table(ROOT / "resources" / "fashion_mnist_lt" / f"{split}.parquet")
        parts = [table.filter(pc.equal(table["label_name"], name)).slice(0, count) for name, count in counts.items()]
        table = pa.concat_tables(parts).select(["image", "label_name", "split"])
        names = pa.array([NAMES[name] for name in table["label_name"].to_pylist()])
        pq.write_table(table.set_column(1, "label_name", names), folder / f"{split}.parquet")


def make_model(folder: Path) -> None:
    import torch

    from synaug.generator_training import architecture

    torch.manual_seed(0)
    tokenizer = architecture.build_tokenizer(["a photo of a bag"])
    architecture.assemble(
        tokenizer,
        architecture.build_text_encoder(tokenizer, width=16, layers=1),
        architecture.build_autoencoder(16, 1, width=8, latent_channels=4),
        architecture.build_denoiser(4, 4, 16, width=32),
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workdir:
    """The whole workflow, run to its end. Do not change it: take `work`."""
    path = tmp_path_factory.mktemp("workflow") / "checkout"
    path.mkdir()
    for name in ("Snakefile", "rules", "workflow_scripts", "profiles", "envs", "config.yaml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, path / name)
    make_data(path / "data")
    make_model(path / "model")
    config = {
        "experiment": "test",
        "dataset": {"source": "table", "path": "data", "image_size": 16, "color": "grey", "label_column": "label_name"},
        "prompts": {"names": {"Stövel <b>": "boot"}},
        "generation": {"model": "model", "steps": 2, "guidance": 2.0, "size": 16, "batch_size": 4}
        | {"images_per_shard": 8},
        "training": {"steps": 4, "width": 4, "batch_size": 8},
        "recipes": {
            "real": {"data": "real"},
            "synaug": {"data": "balanced", "stage1": {"mixup": {"alpha": 0.5}}, "stage2": {"steps": 2}},
        },
        "seeds": [0],
    }
    (path / "test.yaml").write_text(yaml.safe_dump(config))
    work = Workdir(path)
    done = work.run()
    assert done.status == 0, done.text
    work.first = done
    return work


@pytest.fixture
def work(finished, tmp_path) -> Workdir:
    """A copy of the finished workflow, times of change included, to do with as one likes."""
    shutil.copytree(finished.path, tmp_path / "checkout")
    copy = Workdir(tmp_path / "checkout")
    copy.forget_logs()
    return copy
