"""Two fills of the embedded generator with the gate and a pilot: what is made, what is left out, what a rerun does."""

import re
import shutil

import pytest
import yaml
from workdir import ROOT, Workdir, one_worker_at_a_time

from synaug.manifests import read_manifest

PILOT = 16


CONFIG = {
    "experiment": "test",
    "dataset": {
        "source": "table",
        "path": "resources/fashion_mnist_lt",
        "image_size": 32,
        "color": "grey",
        "label_column": "label_name",
        "make_splits": {"validation": 0.3},
        "validation_split": "validation",
        "imbalance_factor": 6.0,
        "largest_class": 20,
    },
    "generation": {"model": "resources/embedded_generator", "steps": 8, "size": 32, "batch_size": 20},
    # One step is too few for most classes.
    "fills": {"plain": {"guidance": 1.0, "steps": 1}, "guided": {"guidance": 2.25}},
    "screening": {"classifier": {"steps": 100, "gate": True, "pilot": PILOT}},
    "evaluation": {"choose_by": "balanced"},
    "training": {"steps": 4, "width": 4, "batch_size": 8},
    "recipes": {
        "real": {"data": "real"},
        "plain": {"data": "balanced", "fill": {"name": "plain"}},
        "synaug": {"data": "balanced", "fill": {"name": "guided"}, "stage1": {"mixup": {"alpha": 0.5}}},
    },
    "seeds": [0],
}


@pytest.fixture(scope="module")
def two_fills(tmp_path_factory, quick_python) -> Workdir:
    """A checkout with two fills, a gate and a pilot, run to its end once for all workers."""
    with one_worker_at_a_time(tmp_path_factory, "fills") as shared:
        work = Workdir(shared / "fills" / "checkout", python=quick_python)
        if not work.path.exists():
            work.path.mkdir(parents=True)
            for name in ("rules", "workflow_scripts", "profiles", "envs", "resources"):
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / name, work.path / name, ignore=ignored)
            for name in ("Snakefile", "config.yaml"):
                shutil.copy2(ROOT / name, work.path / name)
            (work.path / "test.yaml").write_text(yaml.safe_dump(CONFIG))
            done = work.run()
            assert done.status == 0, done.text
            assert done.jobs.count("plan_pilot") == done.jobs.count("measure_gate") == 1
    return work


@pytest.fixture
def work(two_fills, quick_python, tmp_path) -> Workdir:
    shutil.copytree(two_fills.path, tmp_path / "checkout")
    copy = Workdir(tmp_path / "checkout", python=quick_python)
    copy.forget_logs()
    return copy


def tables(work: Workdir) -> dict:
    return {name: read_manifest("plan" if name == "pilot" else name, work.results / f"{name}.parquet")
            for name in ("plan", "pilot", "gate", "synthetic", "balanced", "quality")}  # fmt: skip


def test_classes_are_filled_as_far_as_the_gate_lets_them(two_fills):
    made = tables(two_fills)
    gate, balanced = made["gate"], made["balanced"]
    shares = gate.groupby("fill")["share"]
    assert shares.min()["plain"] == 0 and shares.max().min() > 0.5
    sizes = balanced[balanced["source"] == "synthetic"].groupby(["fill", "label_name"]).size()
    planned = made["plan"].groupby(["fill", "label_name"]).size()
    for row in gate.itertuples():
        key = (row.fill, row.label_name)
        assert (key in planned) == (key in sizes) == (row.share > 0), row
    assert "gets no synthetic images" in (two_fills.results / "report.html").read_text()


def test_nothing_is_made_twice_and_nothing_for_a_class_that_is_left_out(two_fills):
    made = tables(two_fills)
    ids = {*made["plan"]["image_id"], *made["pilot"]["image_id"]}
    assert two_fills.sampled() == len(ids)
    assert made["pilot"].groupby(["fill", "label_name"]).size().max() == PILOT
    planned = made["plan"].groupby(["fill", "label_name"])["image_id"].agg(set)
    for key, of_pilot in made["pilot"].groupby(["fill", "label_name"])["image_id"].agg(set).items():
        if key in planned:  # the pilot is the beginning of the fill, which can be shorter
            assert of_pilot <= planned[key] or planned[key] < of_pilot


def test_a_rerun_does_nothing_and_a_threshold_samples_and_scores_nothing(work):
    assert work.run("-n").jobs == []
    work.change(screening={"min_contrast": 1.0})
    done = work.run("results/test/balanced.parquet")
    assert done.status == 0, done.text
    assert set(done.jobs) == {"screen_synthetic", "build_balanced_manifest"}


def test_another_fill_leaves_the_shards_of_the_others_as_they_are(work):
    old = {path.name for path in work.results.glob("shards/*")}
    work.change(fills={"strong": {"guidance": 4.0}})
    done = work.run("results/test/scores.parquet")
    assert done.status == 0, done.text
    new = {path.name for path in work.results.glob("shards/*")}
    assert old < new
    logs = [path.stem for path in (work.path / "logs/test/generate_shard").glob("*.log")]
    assert set(logs) == {name.removesuffix(".parquet") for name in new - old}


def test_the_estimate_needs_no_pilot_and_the_preview_shows_every_fill(work):
    for name in ("plan", "pilot", "gate"):
        (work.results / f"{name}.parquet").unlink()
    done = work.run("plan")
    assert done.status == 0, done.text
    assert "generate_shard" not in done.jobs
    assert "Fill guided: " in done.text and "Fill plain: " in done.text
    assert re.search(r"The pilot makes \d+ of these images", done.text)
    done = work.run("preview")
    assert done.status == 0, done.text
    assert sorted(path.name for path in work.results.glob("preview*")) == [
        "preview-guided.json", "preview-guided.parquet", "preview-plain.json", "preview-plain.parquet", "preview.png",
    ]  # fmt: skip


def test_a_network_of_another_experiment_screens_the_images(work):
    """screening.classifier.model: its file is read by the jobs that score shards and real images."""
    shutil.copy(work.results / "screener" / "model.safetensors", work.path / "network.safetensors")
    work.change(screening=None)
    work.change(screening={"classifier": {"model": "network.safetensors"}})
    done = work.run("results/test/synthetic.parquet")
    assert done.status == 0, done.text
    assert "score_shard" in done.jobs and "fit_screener" not in done.jobs
    assert read_manifest("scores", work.results / "scores.parquet")["classifier_confidence"].notna().all()


def test_verify_has_no_findings(two_fills, monkeypatch, synaug):
    monkeypatch.chdir(two_fills.path)
    status, out, err = synaug("verify", "results/test")
    assert status == 0, out + err


def test_a_gate_that_leaves_out_every_class_ends_with_the_real_images_alone(work):
    """The prompts ask for other classes, so the screening classifier recognises no image."""
    names = read_manifest("imbalance", work.results / "imbalance.parquet")["label_name"].dropna().tolist()
    work.change(prompts={"names": dict(zip(names, [*names[1:], names[0]], strict=True))})
    done = work.run()
    assert done.status == 0, done.text
    made = tables(work)
    assert made["plan"].empty and set(made["balanced"]["source"]) == {"real"}
    assert "wanted synthetic images" not in done.text  # nothing was wanted, so nothing is missing
    assert not made["quality"].query("metric == 'wanted'")["value"].any()
    chosen = read_manifest("chosen", work.results / "chosen.parquet")
    assert not chosen["synthetic"].any() and not chosen["reason"].str.contains("with synthetic images").any()
    assert "The gate lets none of them through" in (work.results / "report.html").read_text()
