"""Wrong configs and broken data: one clear line, exit status not 0, nothing half-written; or a row with a reason."""

import io
import os
import shutil

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from workdir import ROOT, Workdir

from synaug.manifests import read_manifest
from synaug.runtime.errors import ERROR_PREFIX


@pytest.fixture
def fresh(finished, quick_python, tmp_path) -> Workdir:
    """Checkout, data and config, without results."""
    shutil.copytree(
        finished.path, tmp_path / "checkout", ignore=shutil.ignore_patterns("results", "logs", ".snakemake")
    )
    return Workdir(tmp_path / "checkout", python=quick_python)


@pytest.fixture
def folder(fresh) -> Workdir:
    """The same data as a folder of image files."""
    for split in ("train", "test"):
        table = pq.read_table(fresh.path / "data" / f"{split}.parquet")
        for i, row in enumerate(table.to_pylist()):
            place = fresh.path / "files" / split / row["label_name"].replace("/", " ")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.png").write_bytes(row["image"]["bytes"])
    fresh.change(
        dataset={"source": "folder", "path": "files", "label_column": "label"},
        prompts={"names": {}},
        training={"batch_size": 4},
        seeds=[1],
    )
    return fresh


def fails_with(run, *words: str) -> None:
    """The run failed, and its error is one line that holds `words`."""
    assert run.status != 0
    assert "Traceback" not in run.text
    errors = [line for line in run.text.splitlines() if line.startswith(ERROR_PREFIX)]
    assert len(errors) == 1, run.text
    for word in words:
        assert word in errors[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sedd": 1}, ["sedd", "unknown key", "seed"]),
        ({"generation": {"stepz": 1}}, ["generation.stepz", "unknown key", "steps"]),
        ({"recipes": {"synaug": {"stage1": {"mixup": {"alfa": 1}}}}}, ["mixup.alfa", "unknown key", "alpha"]),
        ({"generation": {"steps": "many"}}, ["generation.steps", "'many'", "whole number"]),
        ({"dataset": {"source": "cloud"}}, ["dataset.source", "'cloud'", "'table', 'folder'"]),
        ({"dataset": {"path": "nowhere"}}, ["dataset.path", "nowhere"]),
        ({"dataset": {"path": "nowhere", "source": "folder", "label_column": "label"}}, ["dataset.path", "nowhere"]),
        ({"generation": {"model": "data"}}, ["generation.model", "model_index.json"]),
        ({"generation": {"model": "someone/model"}}, ["generation.model", "generation.revision"]),
    ],
)
def test_a_wrong_config_stops_before_any_job(fresh, changes, words):
    fresh.change(**changes)
    done = fresh.run()
    fails_with(done, *words)
    assert done.jobs == []
    assert not fresh.results.exists()


def test_a_model_that_offline_jobs_cannot_download_is_one_line_before_any_job(fresh):
    """The tests run with HF_HUB_OFFLINE=1."""
    fresh.change(generation={"model": "someone/model", "revision": "main"})
    done = fresh.run()
    fails_with(done, "generation.model: someone/model", "HF_HUB_OFFLINE=0 synaug fetch test.yaml")
    assert done.jobs == []
    # The plan needs no model, and the folder is not locked.
    done = fresh.run("plan")
    assert done.status == 0, done.text
    assert "plan_generation" in done.jobs
    on_hub = {"generation": {"model": "someone/model", "revision": "main"}}
    fresh.change(generation={"model": "model", "revision": None}, study={"local": None, "on_hub": on_hub})
    done = fresh.run()
    fails_with(done, "generation.model: someone/model")
    assert done.jobs == []


def test_a_config_without_a_data_set_does_not_get_that_of_config_yaml(quick_python, tmp_path):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    del config["dataset"]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(config))
    done = Workdir(tmp_path, ROOT, quick_python).run("--dry-run", "--snakefile", str(ROOT / "Snakefile"))
    fails_with(done, "config: dataset: is missing")


def test_a_generator_without_weights(fresh):
    for path in (fresh.path / "model").rglob("*.safetensors"):
        path.unlink()
    done = fresh.run()
    fails_with(done, "generation.model", "weights")
    assert done.jobs == []


def test_a_table_without_the_label_column(fresh):
    fresh.change(dataset={"label_column": "species"})
    fails_with(fresh.run(), "species", "dataset.label_column")
    assert not (fresh.results / "real.parquet").exists()


def test_a_label_that_only_the_test_split_has(fresh):
    path = fresh.path / "data" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, len(table) - 1), path)  # without the only bag
    fails_with(fresh.run(), "'Bag'", "'train'")


def test_a_prompt_name_of_no_class(fresh):
    fresh.change(prompts={"names": {"Bagg": "bag"}})
    fails_with(fresh.run(), "prompts.names", "'Bagg'")
    assert not (fresh.results / "plan.parquet").exists()


def test_more_images_in_stage_2_than_the_smallest_class_has(work):
    work.change(recipes={"synaug": {"stage2": {"images_per_class": 2}}})
    done = work.run()
    fails_with(done, "images_per_class", "'Bag'")
    assert not (work.results / "finetune" / "synaug" / "0" / "model.safetensors").exists()


def test_broken_files_are_rows_with_a_reason_and_the_rest_is_used(folder):
    place = folder.path / "files" / "train" / "T-shirt top"
    good = sorted(place.iterdir())[0].read_bytes()
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(good)).resize((64, 64)).save(jpeg, "JPEG")
    (place / "half.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    (place / "empty.png").write_bytes(b"")
    (place / "text.png").write_text("not an image")
    done = folder.run()
    assert done.status == 0, done.text
    real = read_manifest("real", folder.results / "real.parquet").query("not usable")
    reasons = dict(zip(real["path"].str.rsplit("/", n=1).str[-1], real["reason"], strict=True))
    assert set(reasons) == {"half.jpg", "empty.png", "text.png"}
    assert (
        "damaged" in reasons["half.jpg"] and "empty" in reasons["empty.png"] and "not an image" in reasons["text.png"]
    )
    page = (folder.results / "report.html").read_text()
    assert "is empty" in page


@pytest.mark.parametrize("name", ["plan", "balanced", "real"])
def test_a_named_pipe_in_place_of_a_manifest_is_one_line(work, name):
    manifest = work.results / f"{name}.parquet"
    manifest.unlink()
    os.mkfifo(manifest)
    fails_with(work.run("--dry-run"), f"results/test/{name}.parquet: is not a regular file; replace it by a file")


@pytest.mark.parametrize(
    ("place", "block", "key"), [("data{v1}", "dataset", "path"), ("mo}del{a{", "generation", "model")]
)
def test_braces_in_a_path_are_one_line_with_the_path_and_a_remedy(fresh, place, block, key):
    old = fresh.path / ("data" if block == "dataset" else "model")
    old.rename(fresh.path / place)
    fresh.change(**{block: {key: place}})
    fails_with(fresh.run("--dry-run"), place, "has a brace in its name", "rename it, or name a symbolic link")
    (fresh.path / "link").symlink_to(place)
    fresh.change(**{block: {key: "link"}})
    done = fresh.run("--dry-run")
    assert done.status == 0, done.text
