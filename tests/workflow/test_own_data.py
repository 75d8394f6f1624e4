"""Data of one's own through the real Snakefile: from a folder to the report, splits that are made, tars."""

import io
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import yaml
from PIL import Image
from workdir import ROOT, Workdir

from hub_server import Hub, commit
from synaug.manifests import read_manifest


def images_of(work: Workdir) -> dict[str, list[bytes]]:
    """Class -> its images."""
    found: dict[str, list[bytes]] = {}
    for split in ("train", "test"):
        for row in pq.read_table(work.path / "data" / f"{split}.parquet").to_pylist():
            found.setdefault(row["label_name"].replace("/", " "), []).append(row["image"]["bytes"])
    return found


def make_folder(work: Workdir) -> None:
    """The images as files, without splits."""
    for name, images in images_of(work).items():
        (work.path / "mine" / name).mkdir(parents=True)
        for number, image in enumerate(images):
            (work.path / "mine" / name / f"{number}.png").write_bytes(image)


def test_from_a_folder_to_the_report_in_two_commands(work: Workdir):
    make_folder(work)
    random = np.random.default_rng(0)
    for name, count in (("pair", 2), ("single", 1)):
        (work.path / "mine" / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 256, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(work.path / "mine" / name / f"{number}.png")
    environment = os.environ | {"PYTHONPATH": str(work.path / "workflow_scripts")}
    command = [work.python, "-m", "synaug.cli", "init", "mine"]
    done = subprocess.run(command, cwd=work.path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "snakemake --cores all --configfile mine.yaml" in done.stdout
    assert "1 class without a test image, e.g. 'single'" in done.stdout
    config = yaml.safe_load((work.path / "mine.yaml").read_text())
    # As it is written, but for the number of steps.
    config["generator"] |= {"autoencoder_steps": 2, "denoiser_steps": 2}
    config["training"]["steps"] = config["screening"]["classifier"]["steps"] = 2
    config |= {"seeds": [0]}
    (work.path / "test.yaml").write_text(yaml.safe_dump(config))
    run = work.run()
    assert run.status == 0, run.text
    assert (work.path / "results/mine/report.html").is_file()
    assert work.run("-n").jobs == []
    real = read_manifest("real", work.path / "results/mine/real.parquet")
    counts = real.groupby(["split", "label_name"]).size()
    assert set(counts["test"].index) == set(real["label_name"]) - {"single"}
    assert (counts["train"]["pair"], counts["train"]["single"]) == (1, 1)
    assert not {"pair", "single"} & set(counts["validation"].index)
    assert read_manifest("chosen", work.path / "results/mine/chosen.parquet")["chosen"].sum() == 1


def test_splits_that_are_made_stay_when_an_image_is_added(work: Workdir):
    make_folder(work)
    work.change(dataset={"source": "folder", "path": "mine", "label_column": "label", "make_splits": {"test": 0.3}})
    target = "results/test/real.parquet"
    assert work.run(target).status == 0
    before = read_manifest("real", work.path / target).set_index("image_id")["split"]
    assert before.value_counts().to_dict().keys() == {"train", "test"}
    assert work.run("-n", target).jobs == []
    table = pq.read_table(ROOT / "resources" / "fashion_mnist_lt" / "test.parquet", columns=["image"])
    new = table.slice(table.num_rows - 1).to_pylist()[0]["image"]["bytes"]
    (work.path / "mine" / "Bag" / "new.png").write_bytes(new)
    done = work.run(target)
    assert done.jobs == ["index_dataset"], done.text
    after = read_manifest("real", work.path / target).set_index("image_id")["split"]
    assert (after[before.index] != before).sum() <= 1
    assert len(after) == len(before) + 1


def test_tars_become_a_table_and_are_read_again_when_they_change(work: Workdir):
    def write(split: str, number: int, some: list[tuple[str, bytes]]) -> None:
        (work.path / "tars").mkdir(exist_ok=True)
        with tarfile.open(work.path / "tars" / f"{split}-{number:06}.tar", "w") as tar:
            for key, (name, image) in enumerate(some):
                for part, data in (("png", image), ("cls", name.encode())):
                    info = tarfile.TarInfo(f"{key:04}.{part}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

    images = [(name, image) for name, some in images_of(work).items() for image in some]
    write("train", 0, images[::2])
    write("test", 0, images[1::2])
    work.change(dataset={"source": "webdataset", "path": "tars"}, prompts={"names": {}})
    target = "results/test/real.parquet"
    done = work.run(target)
    assert done.status == 0, done.text
    assert done.jobs == ["convert_dataset", "index_dataset"]
    assert len(read_manifest("real", work.path / target)) == len(images)
    assert work.run("-n", target).jobs == []
    write("train", 1, images[1:2])
    assert work.run(target).jobs == ["convert_dataset", "index_dataset"]
    assert len(read_manifest("real", work.path / target)) == len(images) + 1


def test_a_data_set_of_the_hub_is_fetched_and_read_again_when_its_branch_moves(work: Workdir, monkeypatch):
    hub = Hub(work.path / "hub")
    place = work.path / "hub/datasets/people/animals/data"
    place.mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(work.path / "data" / f"{split}.parquet", place / f"{split}-00000-of-00001.parquet")

    def fetch() -> str:
        command = [sys.executable, "-m", "synaug.cli", "fetch", "test.yaml"]
        environment = hub.environment(work.path / "home")
        done = subprocess.run(command, cwd=work.path, env=environment, capture_output=True, text=True)
        return done.stdout

    monkeypatch.setenv("HF_HOME", str(work.path / "home"))
    work = Workdir(work.path, work.checkout)  # a new Python, which reads the variable
    work.change(dataset={"source": "huggingface", "path": "people/animals", "revision": "main"})
    target = "results/test/real.parquet"
    done = work.run(target)
    assert done.status != 0 and done.text.count("synaug: error: ") == 1 and done.jobs == []
    assert "people/animals at main is not on this machine" in done.text and "run `synaug fetch test.yaml`" in done.text
    assert "dataset.path: people/animals at main: " in fetch()
    done = work.run(target)
    assert done.status == 0, done.text
    assert done.jobs == ["convert_dataset", "index_dataset"]
    metadata = pq.read_schema(work.path / "results/test/dataset.parquet").metadata
    assert metadata[b"synaug.origin"].decode() == f"people/animals at {commit('people/animals')}"
    assert work.run("-n", target).jobs == []
    hub.moved.add("people/animals")
    fetch()
    assert work.run("-n", target).jobs == ["convert_dataset", "index_dataset"]


def test_an_image_that_a_csv_lists_is_indexed_again_when_it_is_replaced(work: Workdir):
    make_folder(work)
    files = sorted((work.path / "mine").rglob("*.png"))
    names = [str(file.relative_to(work.path / "mine")) for file in files]
    listed = pd.DataFrame({"image": names, "label": [file.parent.name for file in files]})
    listed.to_csv(work.path / "mine" / "images.csv", index=False)
    table = {"source": "table", "path": "mine/images.csv", "label_column": "label", "make_splits": {"test": 0.3}}
    work.change(dataset=table, prompts={"names": {}})
    target = "results/test/real.parquet"
    done = work.run(target)
    assert done.status == 0, done.text
    before = set(read_manifest("real", work.path / target)["sha256"])
    assert work.run("-n", target).jobs == []
    new = np.random.default_rng(1).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(new).save(files[0])
    assert work.run(target).jobs == ["index_dataset"]
    after = set(read_manifest("real", work.path / target)["sha256"])
    assert len(after - before) == len(before - after) == 1
