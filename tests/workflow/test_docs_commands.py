"""Every command of README.md and docs/ that tests/pages.py does not except, as it stands there, in a finished checkout.

There the experiment `mine` is called `test`, and is also the default one.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from workdir import ROOT, Workdir

from pages import blocks, reason_not_to_run
from synaug.manifests import read_manifest, read_table

BASH = [command for block in blocks(ROOT, "bash") for command in block.commands]
PYTHON = sorted({block.page for block in blocks(ROOT, "python")})


def call(work: Workdir, command: str | list[str], programs: Path | None = None) -> None:
    """Run a command in the checkout. programs: the folder of `snakemake` and `synaug`, if not the installed ones."""
    folders = [*([programs] if programs else []), Path(sys.executable).parent, os.environ["PATH"]]
    environment = os.environ | {
        "PYTHONPATH": str(work.path / "workflow_scripts"),
        "PATH": os.pathsep.join(map(str, folders)),
        "HF_HUB_OFFLINE": "1",
    }
    shell = isinstance(command, str)
    done = subprocess.run(
        command, cwd=work.path, env=environment, shell=shell, input="y\n", capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def as_here(text: str, work: Workdir) -> str:
    """`text` with the names that this checkout has."""
    text = re.sub(r"\bmine\.yaml", "test.yaml", text)
    text = re.sub(r"results/(mine|images|fashion_mnist_lt)\b", "results/test", text)
    # The small experiment chooses no recipe, and so has no final network.
    text = text.replace("export-model results/test ", "export-model results/test/finetune/synaug/0 ")
    if "IMAGE_ID" in text:
        image_id = read_manifest("synthetic", work.results / "synthetic.parquet")["image_id"].iloc[0]
        text = text.replace("IMAGE_ID", image_id)
    return text


@pytest.fixture
def checkout(work) -> Workdir:
    # `snakemake` without --configfile is the default experiment.
    (work.path / "config.yaml").write_text((work.path / "test.yaml").read_text())
    for folder in ("experiments", "resources"):
        (work.path / folder).symlink_to(ROOT / folder)
    for row, image in enumerate(
        read_table("shard", next(work.results.glob("shards/*.parquet")), ["image"]).to_pylist()
    ):
        for folder in (f"images/{row % 2}", "photos"):
            (work.path / folder).mkdir(parents=True, exist_ok=True)
            (work.path / folder / f"{row}.png").write_bytes(image["image"]["bytes"])
    return work


@pytest.fixture
def quick_programs(quick_python, tmp_path) -> Path:
    """A folder with the programs `snakemake` and `synaug`, which do not import the libraries anew."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, module in (("snakemake", "snakemake"), ("synaug", "synaug.cli")):
        (folder / name).write_text(f"#!/bin/sh\nexec '{quick_python}' -m {module} \"$@\"\n")
        (folder / name).chmod(0o755)
    return folder


def test_commands_end_well(checkout, quick_programs):
    wanted = dict.fromkeys(as_here(command, checkout) for command in BASH if not reason_not_to_run(command))
    assert len(wanted) > 8
    # The first command of each program uses the installed one.
    first = [next(command for command in wanted if command.startswith(f"{name} ")) for name in ("snakemake", "synaug")]
    for command in wanted:
        call(checkout, command, None if command in first else quick_programs)


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page, checkout, quick_python):
    """The blocks of a page are one program; one that begins with the name of a module is tested as a module."""
    (checkout.path / "contexts.txt").write_text("in the snow\nfrom behind\n")  # the user writes it
    texts = [block.text for block in blocks(ROOT, "python") if block.page == page]
    program = "\n".join(text for text in texts if not text.startswith("# workflow_scripts/"))
    (checkout.path / "program.py").write_text(as_here(program, checkout))
    call(checkout, [quick_python, "program.py"])
