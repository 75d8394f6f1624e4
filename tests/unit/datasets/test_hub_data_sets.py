"""A data set of the Hugging Face hub is downloaded by `synaug fetch`, and then read like one on disk."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from layouts import arrow_table, converted
from pydantic import ValidationError

from hub_server import GATED, PARQUET, Hub, commit
from synaug.config import Dataset
from synaug.datasets import write_table
from synaug.datasets.hub import on_this_machine
from synaug.runtime.errors import UserError

ANIMALS, SEVERAL, PHOTOS = "people/animals", "people/several", "people/photos"


def block(path: str, revision: str | None = "main", **settings) -> dict:
    return {"source": "huggingface", "path": path, "revision": revision, "image_size": 28, **settings}


@pytest.fixture(scope="module")
def hub(tmp_path_factory, pngs) -> Hub:
    """A hub with data sets: one, one with two configurations, one of image files, and one that is gated."""
    root = tmp_path_factory.mktemp("hub")
    folders = {ANIMALS: ["data"], SEVERAL: ["large", "small"], GATED: ["data"]}
    for name, places in folders.items():
        for place in places:
            (root / "datasets" / name / place).mkdir(parents=True)
            for start, split in enumerate(("train", "test")):
                file = root / "datasets" / name / place / f"{split}-00000-of-00001.parquet"
                pq.write_table(arrow_table(pngs, ["cat", "dog"] * 3, 6 * start), file)
    (root / "datasets" / ANIMALS / "README.md").write_text("animals")
    (root / "datasets" / PHOTOS / "train").mkdir(parents=True)
    (root / "datasets" / PHOTOS / "train/0.png").write_bytes(pngs[0])
    for start, split in enumerate(("train", "test")):
        file = root / PARQUET / "datasets" / PHOTOS / "default" / split / "0000.parquet"
        file.parent.mkdir(parents=True)
        pq.write_table(arrow_table(pngs, ["cat", "dog"] * 3, 6 * start), file)
    return Hub(root)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, which is that of this process."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home/hub"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def fetch(hub: Hub, cache: Path, dataset: dict, **variables: str) -> subprocess.CompletedProcess:
    config = {
        "experiment": "mine",
        "dataset": dataset,
        "generation": {"model": "."},
        "recipes": {"a": {"data": "real"}},
    }
    (cache / "mine.yaml").write_text(yaml.safe_dump(config))
    # A local folder that passes for a model: only the data set is fetched.
    (cache / "model_index.json").write_text("{}")
    (cache / "weights.safetensors").touch()
    command = [sys.executable, "-m", "synaug.cli", "fetch", "mine.yaml"]
    hub.downloads.clear()
    return subprocess.run(command, cwd=cache, env=hub.environment(cache, **variables), capture_output=True, text=True)


def test_it_is_fetched_once_and_read_without_a_network(hub, cache, tmp_path):
    done = fetch(hub, cache, block(ANIMALS))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"dataset.path: {ANIMALS} at main: ") and done.stdout.count("\n") == 1
    assert sorted(hub.downloads) == [f"{ANIMALS}/data/{split}-00000-of-00001.parquet" for split in ("test", "train")]

    local, origin = on_this_machine(Dataset(**block(ANIMALS)), "mine.yaml")
    assert origin == f"{ANIMALS} at {commit(ANIMALS)}"
    rows = converted(local, tmp_path)
    assert rows.groupby(["split", "label_name"]).size().tolist() == [3, 3, 3, 3] and rows["usable"].all()
    write_table(local, tmp_path / "table.parquet", origin)
    assert pq.read_schema(tmp_path / "table.parquet").metadata[b"synaug.origin"].decode() == origin

    done = fetch(hub, cache, block(ANIMALS), HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and ": already there, " in done.stdout and not hub.downloads


def test_a_configuration_is_a_folder(hub, cache, tmp_path):
    done = fetch(hub, cache, block(SEVERAL))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert (
        "several data sets or configurations (large, small); give the folder of one, such as people/several/large"
        in (done.stderr)
    )
    done = fetch(hub, cache, block(f"{SEVERAL}/small", commit(SEVERAL)))
    assert done.returncode == 0, done.stderr
    local, origin = on_this_machine(Dataset(**block(f"{SEVERAL}/small", commit(SEVERAL))), "mine.yaml")
    assert len(converted(local, tmp_path)) == 12 and origin == f"{SEVERAL}/small at {commit(SEVERAL)}"


def test_the_parquet_copy_of_the_hub_is_a_revision(hub, cache, tmp_path):
    assert fetch(hub, cache, block(PHOTOS, PARQUET)).returncode == 0
    local, origin = on_this_machine(Dataset(**block(PHOTOS, PARQUET)), "mine.yaml")
    assert len(converted(local, tmp_path)) == 12 and origin == f"{PHOTOS} at {commit(PHOTOS + PARQUET)}"


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (block("people/nothing"), ["people/nothing at main: the hub has no such data set", "correct the name"]),
        (block("people/a..b"), ["people/a..b at main: the hub has no such data set"]),
        (block(ANIMALS, "v9"), [f"{ANIMALS} at v9: the hub has no such revision"]),
        (block(GATED), [f"{GATED} at main: is gated", f"/datasets/{GATED}, and log in"]),
        (block(PHOTOS), [f"{PHOTOS} at main has no Parquet or Arrow files", "refs/convert/parquet"]),
        (block(ANIMALS, test_split="check"), [f"{ANIMALS} has no split 'check' (its splits: test, train)"]),
    ],
)
def test_what_cannot_be_fetched_or_read_is_one_line(hub, cache, dataset, words):
    done = fetch(hub, cache, dataset)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("synaug: error: dataset.path: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("path", [ANIMALS, "people/a..b"])
def test_before_any_job_one_line_says_that_it_must_be_fetched(cache, path):
    with pytest.raises(UserError) as error:
        on_this_machine(Dataset(**block(path)), "mine.yaml")
    assert str(error.value) == (
        f"dataset.path: {path} at main is not on this machine, and jobs do not download it; "
        "run `synaug fetch mine.yaml` where there is a network"
    )


def test_the_revision_tells_a_hub_id_from_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no folder people/animals; for a data set of the hub, add dataset\.revision"):
        on_this_machine(Dataset(**block(ANIMALS, None)), "mine.yaml")
    (tmp_path / ANIMALS).mkdir(parents=True)
    local = Dataset(**block(ANIMALS, None))
    assert on_this_machine(local, "mine.yaml") == (local, "")
    with pytest.raises(UserError, match="is a local folder, and only a data set of the hub has a revision"):
        on_this_machine(Dataset(**block(ANIMALS)), "mine.yaml")


@pytest.mark.parametrize("path", ["animals", "../people/animals", "/data/animals", "people/animals/../x", "a b/c"])
def test_a_path_that_is_no_hub_id_takes_no_revision(path):
    with pytest.raises(ValidationError, match="is no data set of the hub"):
        Dataset(**block(path))
    with pytest.raises(ValidationError, match="revision is for source: huggingface"):
        Dataset(**block(ANIMALS) | {"source": "folder"})
