"""Tiny checkpoints of many model families, and an experiment with finished shards, made once."""

import shutil
import weakref
from pathlib import Path

import families
import finished_shards
import pandas as pd
import pytest

from synaug.plan.checkpoints import model_version


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A function: name of a family to the folder of a tiny checkpoint."""
    folders = {}

    def checkpoint(family: str) -> Path:
        if family not in folders:
            folders[family] = families.save(family, tmp_path_factory.mktemp("checkpoint") / "model")
        return folders[family]

    return checkpoint


@pytest.fixture(scope="session")
def planned(checkpoint):
    """A function: family and settings to five rows of a plan, as `plan_generation` writes them."""

    def planned(family: str, **settings) -> pd.DataFrame:
        folder = checkpoint(family)
        size = 32 if family == "sana" else 16
        texts = ["1", "tabby"] if family == "dit" else ["a photo of a cat", "a photo of a dog"]
        columns = {
            "image_id": list("abcde"), "prompt": [*texts, *texts, texts[0]], "seed": range(5), "size": size,
            "original_size": 0, "stored_size": 12, "color": "rgb", "format": "png", "steps": 2, "guidance": 2.0,
            "strength": None, "negative_prompt": "", "model": str(folder),
            "pipeline": "class-conditional" if family == "dit" else "text-to-image",
            "model_version": model_version(str(folder), None), "adapters": "", "scheduler": "", "dtype": "float32",
            "variant": "",
            "source_image": None, "truncate": False,
        }  # fmt: skip
        return pd.DataFrame(columns | settings)

    return planned


@pytest.fixture(scope="session")
def finished_results(plan, tmp_path_factory) -> Path:
    """A folder with results/e: a plan of two shards, both finished, and manifests with their images."""
    folder = tmp_path_factory.mktemp("finished")
    finished_shards.make(plan, folder / "results" / "e")
    return folder


@pytest.fixture
def home(finished_results, tmp_path, monkeypatch) -> Path:
    """The folder results/e of a copy of `finished_results` in the working directory."""
    shutil.copytree(finished_results, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Path("results/e")


@pytest.fixture
def models_in_memory(monkeypatch):
    """A function: record, for each call of `module.load_pipeline`, which of the models loaded before still exist."""

    def models_in_memory(module) -> list[list[bool]]:
        load_pipeline, loaded, in_memory = module.load_pipeline, [], []

        def load(*arguments):
            in_memory.append([model() is not None for model in loaded])
            pipeline = load_pipeline(*arguments)
            loaded.append(weakref.ref(pipeline.unet))
            return pipeline

        monkeypatch.setattr(module, "load_pipeline", load)
        return in_memory

    return models_in_memory
