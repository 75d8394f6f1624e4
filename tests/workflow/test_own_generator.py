"""A generator trained by the workflow, from its own training images."""

import pyarrow.parquet as pq

from synaug.manifests import read_manifest

TRAINING = {
    "images": "data/train.parquet",
    "output": "own_model",
    "size": 16,
    "color": "grey",
    "autoencoder_steps": 3,
    "denoiser_steps": 3,
    "batch_size": 4,
}


def test_train_generator_writes_a_checkpoint_that_the_workflow_then_uses(work):
    work.change(generator=TRAINING)
    done = work.run("train_generator")
    assert done.status == 0, done.text
    assert done.jobs == ["train_generator"]
    assert (work.path / "own_model" / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert (
        len(list(work.path.glob("results/.training/own_model-*/denoiser.pt"))) == 1
    )  # what an interrupted training goes on from
    assert not list(work.path.glob("<*"))
    work.change(generator=None, generation={"model": "own_model"})
    assert work.run("results/test/scores.parquet").status == 0
    shard = sorted((work.results / "shards").glob("*.parquet"))[0]
    assert pq.read_table(shard, columns=["image_id"]).num_rows > 0
    assert set(read_manifest("plan", work.results / "plan.parquet")["model"]) == {"own_model"}


def test_a_model_that_is_still_to_be_trained_is_part_of_the_run(work):
    images = {"images": "results/test/real.parquet"}  # made by this workflow, test images included
    work.change(generator=TRAINING | images, generation={"model": "own_model"})
    done = work.run("results/test/scores.parquet")
    assert done.status == 0, done.text
    assert done.jobs.count("train_generator") == 1
    assert work.run("-n", "results/test/scores.parquet").jobs == []
    work.change(experiment="another")  # it uses the same generator
    other = work.run("-n", "results/another/scores.parquet")
    assert "plan_generation" in other.jobs and "train_generator" not in other.jobs, other.text


def test_images_of_a_generator_that_was_trained_again_are_made_again(work):
    """In a run of its own, or one that ended before the plan: then the plan is older than the generator."""
    scores = "results/test/scores.parquet"
    work.change(generator=TRAINING, generation={"model": "own_model"})
    assert work.run(scores).status == 0
    before = set(read_manifest("plan", work.results / "plan.parquet")["image_id"])
    # A training that fails leaves the weights of the one before.
    weights = work.path / "own_model" / "unet" / "diffusion_pytorch_model.safetensors"
    trained = weights.read_bytes()
    (work.path / "damaged.parquet").write_bytes(b"PAR1")
    work.change(generator={"images": "damaged.parquet"})
    assert work.run("train_generator").status != 0
    assert weights.read_bytes() == trained
    work.change(generator={"images": TRAINING["images"], "denoiser_steps": 4})
    assert work.run("train_generator").jobs == ["train_generator"]
    done = work.run(scores)
    assert done.status == 0, done.text
    assert {"plan_generation", "generate_shard", "score_shard"} <= set(done.jobs)
    assert not before & set(read_manifest("plan", work.results / "plan.parquet")["image_id"])
