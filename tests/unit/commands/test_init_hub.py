"""`synaug init OWNER/NAME`: a data set of the Hugging Face hub is downloaded, and its config names the commit."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from hub_server import GATED, PARQUET, Hub, commit
from synaug.config import load_config
from synaug.datasets.hub import on_this_machine
from synaug.runtime.machine import Machine

CLASSES = ["cat", "dog"]


@pytest.fixture
def hub(empty_hub, tmp_path, monkeypatch) -> Hub:
    """The hub of this process, with an empty cache, and a current folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    template = f"{empty_hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("synaug.commands.init.this_machine", Machine)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return empty_hub


@pytest.fixture
def put(hub, pngs):
    """A function that puts splits into a data set: its id, the folder of each file, and names of columns."""

    def put(repository: str, names: dict[str, str], image: str = "image", root: str = "") -> None:
        images = iter(pngs)
        for split, name in names.items():
            count = 12 if split == "train" else 6
            features = {"kind": {"_type": "ClassLabel", "names": CLASSES}}
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
            columns = {"kind": pa.array([i % 2 for i in range(count)]), "note": pa.array(["x"] * count)}
            if image:
                columns[image] = pa.array([{"bytes": next(images), "path": None} for _ in range(count)])
            file = hub.root / root / "datasets" / repository / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)

    return put


def test_the_config_names_commit_columns_and_splits_and_the_run_finds_the_files(synaug, hub, put):
    splits = {split: f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    put("people/animals", splits, image="picture")
    status, out, err = synaug("init", "people/animals", "--label", "kind")
    assert (status, err) == (0, "")
    assert out.startswith("dataset.path: people/animals at main: ")
    assert "people/animals: 18 images in 2 classes" in out
    config = load_config(yaml.safe_load(Path("animals.yaml").read_text()))
    assert config.experiment == "animals"
    assert (config.dataset.path, config.dataset.revision) == ("people/animals", commit("people/animals"))
    assert (config.dataset.image_column, config.dataset.label_column) == ("picture", "kind")
    assert Path("animals_names.csv").read_text() == "label,name\ncat,cat\ndog,dog\n"
    local, _ = on_this_machine(config.dataset, "animals.yaml")
    assert sorted(file.name for file in Path(local.path).rglob("*.parquet")) == sorted(
        Path(name).name for name in splits.values()
    )
    assert len(hub.downloads) == 2


def test_of_other_files_the_parquet_copy_is_used(synaug, hub, put):
    (hub.root / "datasets/people/photos").mkdir(parents=True)
    (hub.root / "datasets/people/photos/0.png").touch()
    put("people/photos", {split: f"default/{split}/0000.parquet" for split in ("train", "test")}, root=PARQUET)
    status, out, err = synaug("init", "people/photos", "--label", "kind", "--name", "mine")
    assert (status, err) == (0, "") and "the Parquet copy of the hub is used" in out
    config = load_config(yaml.safe_load(Path("mine.yaml").read_text()))
    assert config.dataset.revision == commit("people/photos" + PARQUET)
    assert (config.dataset.train_split, config.dataset.test_split) == ("train", "test")


def test_a_configuration_is_a_folder_of_the_id(synaug, hub, put):
    for folder in ("large", "small"):
        put("people/several", {split: f"{folder}/{split}-00000-of-00001.parquet" for split in ("train", "test")})
    status, _, err = synaug("init", "people/several", "--label", "kind")
    assert status == 2 and "(large, small); give the folder of one, such as people/several/large" in err
    assert synaug("init", "people/several/small", "--label", "kind")[0] == 0
    assert load_config(yaml.safe_load(Path("several_small.yaml").read_text())).dataset.path == "people/several/small"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "people/nothing",
            ["there is no folder people/nothing, and ", "the hub has no such data set", "correct the name"],
        ),
        (GATED, [f"{GATED} at main: is gated", "accept its conditions"]),
        (
            "people/texts",
            ["people/texts: which column holds the images? Name it with --image (its columns: kind, note)"],
        ),
        ("people/unsure", ["people/unsure: which column holds the class? Name it with --label (its columns: kind, "]),
        ("people/files", ["people/files at main has no Parquet or Arrow files", "no Parquet copy", "save it"]),
        ("people/gone.csv", ["people/gone.csv: does not exist"]),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(synaug, hub, put, path, words):
    splits = {"train": "data/train-00000-of-00001.parquet"}
    put(GATED, splits)
    put("people/texts", splits, image="")
    put("people/unsure", splits)
    (hub.root / "datasets/people/files").mkdir()
    (hub.root / "datasets/people/files/0.png").touch()
    status, _, err = synaug("init", path)
    assert status == 2 and err.startswith("synaug: error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert not list(Path().iterdir())


def test_a_split_column_of_a_data_set_of_the_hub_is_refused_before_the_download(synaug, hub, put):
    put("people/animals", {"train": "data/train-00000-of-00001.parquet"})
    status, _, err = synaug("init", "people/animals", "--label", "kind", "--split", "note")
    assert status == 2 and err.startswith("synaug: error: --split is for a table, and people/animals ")
    assert err.count("\n") == 1 and not hub.downloads


def test_without_a_network_it_says_so(synaug, hub, monkeypatch):
    hub.server.server_close()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    status, _, err = synaug("init", "people/animals")
    assert status == 2 and err.count("\n") == 1
    assert "there is no folder people/animals, and people/animals at main: there is no connection" in err
