"""A job imports the libraries that it needs and no others: hundreds of short jobs wait for each import."""

import os
import subprocess
import sys

import pytest

# Libraries that take a second or more to import, each together with those that it imports itself.
SLOW = {"torch", "torchvision", "timm", "diffusers", "transformers", "peft", "accelerate", "scipy", "sklearn"}
SLOW |= {"matplotlib", "faiss", "datasets", "pandas", "torch._dynamo"}
TRAINING = """
import training.train, training.finetune, training.train_final
from synaug.config import Stage1, Stage2
from synaug.training.label_mass import last_label_mass
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2
from training_sets import SIDES, spurious_brightness
data, settings = spurious_brightness(), Stage1(width=4, steps=2, batch_size=8, mixup={"alpha": 0.5})
model, _ = train_stage1(data, SIDES, settings, 0)
finetune_stage2(model, data, Stage2(steps=2), settings, 0, None)
"""
SCORING = """
import screening.score_shard, screening.score_real, screening.fit_screener
import synaug.screening.scorers
"""


def slow_libraries(repository, code: str) -> set[str]:
    """The libraries of SLOW that `code` imports in a process of its own."""
    folders = [repository / "workflow_scripts", repository / "tests"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    code = f"import sys\n{code}\nprint(*{SLOW} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("code", [TRAINING, SCORING], ids=["training", "scoring"])
def test_training_and_scoring_import_only_torch_and_pandas(repository, code):
    assert slow_libraries(repository, code) == {"torch", "pandas"}


@pytest.mark.parametrize("script", ["plan.plan_generation", "generation.generate_shard", "screening.score_shard"])
def test_a_job_that_may_need_no_network_imports_torch_only_if_it_does(repository, script):
    assert slow_libraries(repository, f"import {script}") == {"pandas"}


def test_the_report_imports_no_library_of_the_other_steps(repository):
    assert slow_libraries(repository, "import report.report") == {"pandas", "matplotlib"}
