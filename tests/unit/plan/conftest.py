"""Plans of a small data set, stored images of a plan, and a folder in the layout of a checkpoint."""

import hashlib
import json
from pathlib import Path

import pandas as pd
import pytest

from synaug.config import Balance, Generation, Prompts
from synaug.manifests import write_manifest
from synaug.manifests.schemas import SCHEMAS
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


@pytest.fixture
def store(tmp_path):
    """A function: store rows of a plan as a shard, with or without its measured cost."""

    def store(
        rows,
        name="0" * 16,
        seconds=None,
        device="a GPU",
        batch_size=10,
        place="shards",
        image=b"x" * 100,
        libraries="none",
    ):
        images = rows.assign(
            image=[{"bytes": image, "path": "x.png"}] * len(rows),
            sha256=hashlib.sha256(image).hexdigest(), width=28, height=28, batch_size=batch_size, device=device,
            threads=1, libraries=libraries,
        )  # fmt: skip
        folder = tmp_path / "other"
        file = folder / place / f"{name}.parquet"
        write_manifest("shard", images[SCHEMAS["shard"].names], file)
        if seconds is not None:
            cost = {"images_sampled": len(rows), "seconds_sampling": seconds, "seconds": seconds + 7, "device": "cpu"}
            cost_file = (folder / "costs" if place == "shards" else folder) / f"{name}.json"
            cost_file.parent.mkdir(exist_ok=True)
            cost_file.write_text(json.dumps(cost))
        return file

    return store
