"""Plans of a small data set, and a folder in the layout of a checkpoint."""

from pathlib import Path

import pandas as pd
import pytest

from synaug.config import Balance, Generation, Prompts
from synaug.plan.rows import plan_generation

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


@pytest.fixture
def make(cells):
    """A function: the plan of `counts`, with some settings changed."""

    def make(
        counts=COUNTS, *, balance=None, prompts=None, version="v", seed=0, adapters="", sources=None, **generation
    ) -> pd.DataFrame:
        settings = {"model": "m", "images_per_shard": 20, **generation}
        return plan_generation(
            cells(counts),
            balance=Balance(**(balance or {})),
            prompts=Prompts(**(prompts or {})),
            generation=Generation(**settings),
            seed=seed,
            image_size=28,
            color="grey",
            version=version,
            adapters=adapters,
            sources=sources,
        )

    return make


@pytest.fixture
def checkpoint():
    """A function: make the folder, in the layout of a checkpoint, with one file of weights."""

    def checkpoint(folder: Path) -> Path:
        (folder / "unet").mkdir(parents=True)
        (folder / "model_index.json").write_text("{}")
        (folder / "unet" / "model.safetensors").write_bytes(b"weights")
        return folder

    return checkpoint
