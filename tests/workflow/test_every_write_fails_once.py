"""Every write of the workflow fails once: the disk is full or broken, or the job is killed. A rerun gives equal bytes.

The jobs are those of a small experiment. `failing_writes.py` runs each of them in forks of one process.
"""

import io
import json
import os
import re
import signal
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workdir import ROOT, Workdir

PLACES = ["results", "own_model"]
# Here every write fails in every way. In the others each fails in one way, for the time that it takes.
THOROUGH = ("index_dataset", "train")
CONFIG = {
    "experiment": "test",
    "dataset": {"source": "webdataset", "path": "data", "image_size": 16, "color": "grey"}
    | {"validation_split": "validation", "make_splits": {"validation": 0.3, "test": 0.3}},
    "generator": {
        "images": "results/test/real.parquet",
        "output": "own_model",
        "size": 16,
        "color": "grey",
        "batch_size": 4,
    }
    | {"autoencoder_steps": 2, "denoiser_steps": 2},
    "generation": {"model": "own_model", "steps": 1, "guidance": 1.0}
    | {"size": 16, "batch_size": 8, "images_per_shard": 100},
    "screening": {"min_contrast": 0.0, "classifier": {"steps": 2, "min_confidence": 0.0, "must_agree": False}}
    | {"leakage": {"min_similarity": 1.0}},
    "evaluation": {"choose_by": "balanced"},
    "training": {"steps": 4, "width": 4, "batch_size": 8},
    "recipes": {"real": {"data": "real"}, "synaug": {"data": "balanced", "stage2": {"steps": 2}}},
    "seeds": [0],
}


def write_tar(path: Path, images: pd.DataFrame) -> None:
    """A WebDataset of three classes: 12, 9 and 7 images."""
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        for number, (name, count) in enumerate(zip(sorted(images["label_name"].unique()), (12, 9, 7), strict=False)):
            for position, png in enumerate(images.loc[images["label_name"] == name, "png"].head(count)):
                for suffix, data in (("png", png), ("cls", name.encode())):
                    member = tarfile.TarInfo(f"{number}-{position}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, quick_python, fashion) -> tuple[Workdir, dict[str, Path]]:
    """A finished experiment, and the script of the first job of every rule."""
    work = Workdir(tmp_path_factory.mktemp("jobs"), ROOT, python=quick_python)
    write_tar(work.path / "data" / "images.tar", fashion)
    (work.path / "test.yaml").write_text(yaml.safe_dump(CONFIG))
    done = work.run("--cores", "1", "--snakefile", str(ROOT / "Snakefile"), "--skip-script-cleanup")
    assert done.status == 0, done.text
    scripts = sorted((work.path / ".snakemake" / "scripts").glob("*.py"), key=lambda script: script.stat().st_mtime)
    return work, {script.name.split(".")[1]: script for script in reversed(scripts)}


def fail(work: Workdir, script: Path, fault: str) -> list[dict]:
    """The cases of the job of `script`, see failing_writes.py."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'workflow_scripts'}:{ROOT / 'tests' / 'workflow'}"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [work.python, str(ROOT / "tests" / "workflow" / "failing_writes.py"), str(script), fault, *PLACES]
    done = subprocess.run(command, cwd=work.path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (script.name, done.stdout, done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_write_fails_once_and_a_rerun_gives_the_same_bytes(jobs):
    work, scripts = jobs
    number, failed, warned = 0, Counter(), Counter()
    for rule, script in scripts.items():
        cases = fail(work, script, "all" if rule in THOROUGH else str(number))
        number += len(cases)
        for case in cases:
            shown = (rule, case)
            if case["fault"] == "killed":
                assert case["status"] == -signal.SIGKILL, shown
                failed[rule] += 1
            elif case["status"] == 0:  # an acceleration or a record: the job goes on
                cause = "No space left on device" if case["fault"] == "disk full" else "Input/output error"
                assert cause in case["message"], shown
                warned[rule] += 1
            else:
                assert case["status"] == 1, shown
                cause = "the disk is full" if case["fault"] == "disk full" else "a disk reported an input/output error"
                assert re.fullmatch(rf"synaug: error: [^:]+: cannot be written, {cause}.*; .+", case["message"]), shown
                failed[rule] += 1
            assert case["text"] == "", shown
            assert (case["next_status"], case["changed"], case["left"]) == (0, [], []), shown
    print(f"{failed.total()} writes failed, {warned.total()} with a warning only; all reruns gave the same bytes")
    assert "train" in warned  # other rules get one fault for each kind of file; after a kill there is no warning
    assert len(failed) == len(scripts) >= 18
