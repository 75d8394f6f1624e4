"""An adapter trained by the workflow, from its own training images."""

import json

import pytest

from synaug.manifests import read_manifest

pytest.importorskip("peft")
TRAINING = {"output": "own_adapter", "steps": 2, "batch_size": 2, "rank": 2, "precision": "float32"}
ENTRY = {"kind": "lora", "model": "own_adapter"}


def test_an_adapter_that_is_still_to_be_trained_is_part_of_the_run(work):
    before = read_manifest("plan", work.results / "plan.parquet")
    work.change(adaptation=TRAINING)
    assert "adapt_generator" not in work.run("-n", "results/test/plan.parquet").jobs
    work.change(generation={"adapters": [ENTRY]})
    done = work.run("results/test/plan.parquet")
    assert done.status == 0, done.text
    assert done.jobs.count("adapt_generator") == 1
    assert sorted(path.name for path in (work.path / "own_adapter").iterdir()) == [
        "history.parquet", "pytorch_lora_weights.safetensors", "samples.png",
    ]  # fmt: skip
    after = read_manifest("plan", work.results / "plan.parquet")
    assert json.loads(after["adapters"].iloc[0])[0]["version"].startswith("sha256:")
    assert set(before["image_id"]).isdisjoint(after["image_id"])
    assert work.run("-n", "results/test/plan.parquet").jobs == []
    # Neither a new date of the real images nor other settings of sampling train again.
    (work.results / "real.parquet").touch()
    work.change(generation={"steps": 3}, adaptation={"gradient_checkpointing": True})
    assert "adapt_generator" not in work.run("-n", "results/test/plan.parquet").jobs
    # Other settings of the training do.
    work.change(adaptation={"steps": 3})
    assert "adapt_generator" in work.run("-n", "results/test/plan.parquet").jobs


def test_a_folder_with_other_files_is_refused_before_any_job(work):
    (work.path / "own_adapter").mkdir()
    (work.path / "own_adapter" / "1.png").write_bytes(b"kept")
    work.change(adaptation=TRAINING)
    done = work.run("adapt_generator")
    assert done.status != 0
    assert "synaug: error: adaptation.output: own_adapter holds 1.png" in done.text
    assert (work.path / "own_adapter" / "1.png").read_bytes() == b"kept"
