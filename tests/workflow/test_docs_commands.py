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
    """Run a command in the checkout. programs: a folder whose programs are used in place of the installed ones."""
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
    text = re.sub(r"results/(mine-v2|mine|images|fashion_mnist_lt)\b", "results/test", text)
    # The small experiment chooses no recipe, and so has no final network.
    text = re.sub(r"(export-model|--model) results/test(?=\s|$)", r"\1 results/test/finetune/synaug/0", text)
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
def quick_snakemake(quick_python, tmp_path) -> Path:
    """A folder with a program `snakemake` that does not import the libraries anew."""
    program = tmp_path / "programs" / "snakemake"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{quick_python}' -m snakemake \"$@\"\n")
    program.chmod(0o755)
    return program.parent


def test_commands_end_well(checkout, quick_snakemake):
    wanted = dict.fromkeys(as_here(command, checkout) for command in BASH if not reason_not_to_run(command))
    assert len(wanted) > 8
    # The installed snakemake: one call of it, and scripts of rules that run nowhere else in a new interpreter.
    usual = [command for command in wanted if command == "snakemake -n" or re.search(r" (plan|preview) ", command)]
    assert len(usual) == 3
    for command in wanted:
        call(checkout, command, None if command in usual else quick_snakemake)


@pytest.mark.parametrize("page", PYTHON)
def test_python_runs(page, checkout):
    """The blocks of a page are one program; one that begins with the name of a module is tested as a module."""
    (checkout.path / "contexts.txt").write_text("in the snow\nfrom behind\n")  # the user writes it
    texts = [block.text for block in blocks(ROOT, "python") if block.page == page]
    program = "\n".join(text for text in texts if not text.startswith("# workflow_scripts/"))
    call(checkout, [sys.executable, "-c", as_here(program, checkout)])
