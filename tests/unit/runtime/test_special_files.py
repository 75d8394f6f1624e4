"""A named pipe in place of an input is named in one line. To open one would wait for ever."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from synaug.config import Adapter, Dataset, Prompts, Screening, check_config_file
from synaug.datasets import input_files
from synaug.datasets.groups import read_lines
from synaug.datasets.table import open_table, table_schema
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest
from synaug.plan.checkpoints import adapter_files, model_files, model_version
from synaug.plan.prompts import prompt_files
from synaug.runtime.errors import UserError
from synaug.runtime.files import file_hash
from synaug.screening.checkpoints import local_model_files


def folder_with(pipe: Path, *files: str) -> str:
    """The folder of `pipe`, with more files."""
    for file in files:
        (pipe.parent / file).write_text("{}")
    return str(pipe.parent)


def image_list(pipe: Path, key: str) -> Dataset:
    files = {"train": pipe.parent / "train.txt", "test": pipe.parent / "test.txt"}
    for file in files.values():
        file.write_text("a.png 0\n")
    lists = {split: str(file) for split, file in files.items()}
    keys = {"lists": lists | {"test": str(pipe)}} if key == "lists" else {"lists": lists, key: str(pipe)}
    return Dataset(source="image_list", path=str(pipe.parent), image_size=28, **keys)


def text_image(model: str) -> Screening:
    return Screening(text_image={"model": model, "min_score": 0.1})


def network(pipe: Path):
    from synaug.networks.classifier import load_classifier

    return load_classifier(pipe)


def pretrained(pipe: Path):
    from synaug.networks.pretrained import build_body, load_pretrained_body

    body = build_body("torchvision/resnet18", 3, 32)
    return load_pretrained_body(body, "torchvision/resnet18", 3, 32, str(pipe))


READERS = {
    "config.yaml": check_config_file,
    "plan.parquet": lambda pipe: read_manifest("plan", pipe),
    "images.parquet": lambda pipe: input_files(Dataset(source="table", path=str(pipe), image_size=28)),
    "images.csv": lambda pipe: input_files(Dataset(source="table", path=str(pipe), image_size=28)),
    "data.csv": open_table,
    "schema.parquet": table_schema,
    "images.tar": lambda pipe: input_files(Dataset(source="webdataset", path=str(pipe), image_size=28)),
    "list.txt": lambda pipe: input_files(image_list(pipe, "lists")),
    "names.txt": lambda pipe: input_files(image_list(pipe, "class_names")),
    "lines.txt": read_lines,
    "a.png": lambda pipe: load_pixels(pd.DataFrame({"path": [str(pipe)], "row": [None], "column": [None]}), 28, "rgb"),
    "prompts.csv": lambda pipe: prompt_files(Prompts(file=str(pipe))),
    "names.csv": lambda pipe: prompt_files(Prompts(names=str(pipe))),
    "modifiers.parquet": lambda pipe: prompt_files(Prompts(templates=["a {label}, {modifier}"], modifiers=str(pipe))),
    "unet.safetensors": lambda pipe: model_files(folder_with(pipe, "model_index.json"), None),
    "vae.safetensors": lambda pipe: model_version(folder_with(pipe, "model_index.json"), None),
    "lora.safetensors": lambda pipe: adapter_files(Adapter(kind="lora", model=str(pipe))),
    "folder.safetensors": lambda pipe: adapter_files(Adapter(kind="lora", model=str(pipe.parent))),
    "clip.safetensors": lambda pipe: local_model_files(text_image(folder_with(pipe, "config.json"))),
    "model.safetensors": lambda pipe: local_model_files(Screening(classifier={"model": str(pipe)})),
    "network.safetensors": network,
    "resnet.safetensors": pretrained,
    "hash.txt": file_hash,
}


@pytest.mark.parametrize("name", READERS)
def test_a_named_pipe_in_place_of_an_input_is_one_line(tmp_path, name):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=f"{name}: is not a regular file; replace it by a file"):
        READERS[name](pipe)


def test_verify_names_a_pipe_in_place_of_a_manifest(tmp_path):
    (tmp_path / "results" / "e").mkdir(parents=True)
    for name in ("plan", "real"):
        os.mkfifo(tmp_path / f"results/e/{name}.parquet")
    command = [sys.executable, "-m", "synaug.cli", "verify"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and done.stderr == ""
    for name in ("plan", "real"):
        assert f"results/e/{name}.parquet: is not a regular file" in done.stdout
