"""A checkout of the real workflow with small real data and a tiny generator, run once; tests change copies of it."""

import os
import pickle
import shutil
from pathlib import Path

import forking_python
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from workdir import CLASSES, NAMES, ROOT, Run, Workdir, one_worker_at_a_time


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

    from synaug.generator import architecture

    torch.manual_seed(0)
    tokenizer = architecture.build_tokenizer(["a photo of a bag"])
    architecture.assemble(
        tokenizer,
        architecture.build_text_encoder(tokenizer, width=16, layers=1),
        architecture.build_autoencoder(16, 1, width=8, latent_channels=4),
        architecture.build_denoiser(4, 4, 16, width=32),
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory):
    """A Python that has already imported the libraries.

    test_installed_package and test_docs_commands show that the workflow runs with the usual one.
    """
    with one_worker_at_a_time(tmp_path_factory, "python") as shared:
        python, client = forking_python.python_of_server(shared)
    yield python
    os.close(client)


@pytest.fixture(scope="session")
def finished(quick_python, tmp_path_factory) -> Workdir:
    """The whole workflow, run to its end, once for all workers of a test run. Do not change it: take `work`."""
    with one_worker_at_a_time(tmp_path_factory, "finished") as shared:
        work, first = Workdir(shared / "finished" / "checkout"), shared / "finished" / "first.pickle"
        if not first.exists():
            first.write_bytes(pickle.dumps(run_once(work.path, quick_python)))
        work.first = pickle.loads(first.read_bytes())
    return work


def run_once(path: Path, python: str) -> Run:
    """Make a checkout with data, generator and config at `path`, and run it to its end."""
    path.mkdir(parents=True)
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
        | {"images_per_shard": 14},
        "training": {"steps": 4, "width": 4, "batch_size": 8},
        "recipes": {
            "real": {"data": "real"},
            "synaug": {"data": "balanced", "stage1": {"mixup": {"alpha": 0.5}}, "stage2": {"steps": 2}},
        },
        "seeds": [0],
    }
    (path / "test.yaml").write_text(yaml.safe_dump(config))
    done = Workdir(path, python=python).run()
    assert done.status == 0, done.text
    return done


@pytest.fixture
def work(finished, quick_python, tmp_path) -> Workdir:
    """A copy of the finished workflow, times of change included, to do with as one likes."""
    shutil.copytree(finished.path, tmp_path / "checkout")
    copy = Workdir(tmp_path / "checkout", python=quick_python)
    copy.forget_logs()
    return copy
