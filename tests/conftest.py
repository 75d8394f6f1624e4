"""Small real images, small manifests and a tiny checkpoint."""

import io
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Several tests run at a time. Threads that wait for others must not keep a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)
REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(config, items):
    """Deal the files of tests/workflow, which take minutes, to all workers: each begins with its share of them.

    Every worker gets an equal run of consecutive tests first (`--dist worksteal`). In the order of the folders the last
    worker would have all slow tests, and the others would wait for it at the end.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    folder = REPOSITORY / "tests" / "workflow"
    workflow = [item for item in items if item.path.is_relative_to(folder)]
    others = [item for item in items if not item.path.is_relative_to(folder)]
    # Backwards: test_studies_and_large_images.py, one of the longest, is one of the last by name.
    files = sorted({item.path for item in workflow}, reverse=True)
    dealt, count = [], len(items)
    for worker in range(workers):
        dealt += [item for path in files[worker::workers] for item in workflow if item.path == path]
        end = count * (worker + 1) // workers - len(dealt) if worker < workers - 1 else len(others)
        dealt, others = dealt + others[: max(0, end)], others[max(0, end) :]
    items[:] = dealt


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def fashion() -> pd.DataFrame:
    """Real images, 28 x 28 grey: 12 of every class of the embedded test set; columns label_name, png (bytes)."""
    table = pq.read_table(REPOSITORY / "resources/fashion_mnist_lt/test.parquet", columns=["image", "label_name"])
    names = table.column("label_name").to_pandas().astype("str")
    few = np.sort(np.concatenate([np.flatnonzero(names == name)[:12] for name in sorted(names.unique())]))
    images = table.column("image").combine_chunks().field("bytes").take(few).to_pylist()
    return pd.DataFrame({"label_name": names.iloc[few].tolist(), "png": images})


@pytest.fixture(scope="session")
def pngs(fashion) -> list[bytes]:
    """Different encoded images, 28 x 28 grey."""
    return fashion["png"].tolist()


@pytest.fixture(scope="session")
def encode():
    """A function: Pillow image, or array, to bytes of a format."""

    def encode(image, kind: str = "PNG", **settings) -> bytes:
        image = image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image, np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, kind, **settings)
        return buffer.getvalue()

    return encode


@pytest.fixture
def image_folder(tmp_path, pngs):
    """A function: {split/class: number of images} to a folder of image files, all of them different."""

    def make(counts: dict[str, int]) -> Path:
        images = iter(pngs)
        for place, count in counts.items():
            folder = tmp_path / "data" / place
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(next(images))
        return tmp_path / "data"

    return make


@pytest.fixture(scope="session")
def cells():
    """A function: real images per class, {name: count}, to the manifest `imbalance`."""
    from synaug.config import Imbalance
    from synaug.imbalance import measure_imbalance

    def cells(counts: dict[str, int]) -> pd.DataFrame:
        names = [name for name, count in counts.items() for _ in range(count)]
        order = {name: label for label, name in enumerate(counts)}
        real = pd.DataFrame({"label_name": names, "split": "train", "usable": True})
        return measure_imbalance(real.assign(label=real["label_name"].map(order)), "train", Imbalance())

    return cells


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """A checkpoint with random weights, in the layout of any other."""
    from synaug.generator.architecture import (
        assemble,
        build_autoencoder,
        build_denoiser,
        build_text_encoder,
        build_tokenizer,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tokenizer = build_tokenizer(["a photo of a cat", "a photo of a dog"])
    text_encoder = build_text_encoder(tokenizer, width=16, layers=1)
    autoencoder = build_autoencoder(16, 1, width=8, latent_channels=4)
    denoiser = build_denoiser(4, 4, 16, width=16)
    assemble(tokenizer, text_encoder, autoencoder, denoiser).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def plan(tiny_checkpoint, cells, tmp_path_factory) -> pd.DataFrame:
    """Rows of a plan: 6 cats and 5 dogs."""
    from synaug.config import Balance, Generation, Prompts
    from synaug.manifests import read_manifest, write_manifest
    from synaug.plan.checkpoints import model_version
    from synaug.plan.rows import plan_generation

    rows = plan_generation(
        cells({"big": 8, "cat": 2, "dog": 3}),
        balance=Balance(),
        prompts=Prompts(negative="blur"),
        generation=Generation(model=str(tiny_checkpoint), steps=2, guidance=2.0, size=16, images_per_shard=100),
        seed=0,
        image_size=12,
        color="grey",
        version=model_version(str(tiny_checkpoint), None),
    )
    path = tmp_path_factory.mktemp("plan") / "plan.parquet"
    write_manifest("plan", rows, path)
    return read_manifest("plan", path)


@pytest.fixture
def synaug(capsys, monkeypatch):
    """A function: arguments of the command to (exit status, standard output, standard error)."""
    from synaug import cli

    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")

    def synaug(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["synaug", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return synaug
