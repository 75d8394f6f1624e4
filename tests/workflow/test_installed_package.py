"""The package as pip installs it, in a folder without a checkout: it has the whole workflow and makes the same."""

import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from workdir import ROOT

from synaug.manifests import read_manifest
from synaug.runtime.code import code_hash

FOLDERS = (
    "rules",
    "workflow_scripts",
    "profiles",
    "envs",
    "resources/fashion_mnist_lt",
    "resources/embedded_generator",
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The content of the wheel, unpacked as pip does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site-packages")
    return folder / "site-packages"


@pytest.fixture
def synaug(installed, tmp_path):
    """A function that calls the installed command in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}

    def synaug(*arguments):
        command = [sys.executable, "-m", "synaug.cli", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return synaug


def test_the_wheel_has_every_file_of_the_workflow(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "Snakefile", "config.yaml", *FOLDERS], cwd=ROOT, capture_output=True, text=True
    )
    names = tracked.stdout.split()
    assert "Snakefile" in names and len(names) > 100
    for name in names:
        library = name.startswith(("workflow_scripts/synaug/", "workflow_scripts/snakemake_logger_plugin_synaug/"))
        path = installed / name.removeprefix("workflow_scripts/") if library else installed / "synaug/workflow" / name
        assert path.read_bytes() == (ROOT / name).read_bytes(), name


def test_the_code_of_every_rule_has_the_hash_that_it_has_in_a_checkout(installed):
    """Otherwise, results that were made with one would be made again with the other."""
    scripts = sorted(path.relative_to(ROOT) for path in ROOT.glob("workflow_scripts/[!s]*/*.py"))
    program = (
        "import json, sys; from synaug.runtime.code import code_hash; "
        "print(json.dumps([code_hash(path) for path in sys.argv[1:]]))"
    )
    paths = [str(installed / "synaug/workflow" / script) for script in scripts]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", program, *paths], env=environment, capture_output=True, text=True)
    assert json.loads(done.stdout) == [code_hash(ROOT / script) for script in scripts]
    assert len(scripts) > 15


def test_the_demo_starts_in_an_empty_folder(synaug, tmp_path):
    done = synaug("run", "--cores", "2", "results/fashion_mnist_lt/imbalance.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Copied the demo" in done.stdout
    imbalance = read_manifest("imbalance", tmp_path / "results/fashion_mnist_lt/imbalance.parquet")
    assert imbalance["count"].max() == 1236  # all classes
    again = synaug("run", "-n", "results/fashion_mnist_lt/imbalance.parquet")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr


def test_an_own_folder_needs_no_checkout(synaug, tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("cat", 12), ("dog", 6)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    done = synaug("init", "pets")
    assert "\n    synaug run pets.yaml\n" in done.stdout, done.stderr
    done = synaug("run", "pets.yaml", "results/pets/real.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(read_manifest("real", tmp_path / "results/pets/real.parquet")) == 18
    done = synaug("run", "pets.yaml", "--config", "seed=x")
    assert done.returncode == 1 and "synaug: error: config: seed: " in done.stderr
