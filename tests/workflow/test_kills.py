"""Jobs that generate a shard are killed at random moments, go on, and end in the bytes of an undisturbed run."""

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from synaug.config import Balance, Generation, Imbalance, Prompts
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_table
from synaug.plan.checkpoints import model_version
from synaug.plan.rows import plan_generation

BATCH = 4
KILLS = 32
KILLS_OF_A_SHARD = 8  # then it may finish, however short the time to the next kill would be
# One batch is being sampled and one is being encoded and written.
IN_FLIGHT = 2
# What a job imports. A server has it imported once and forks the jobs, so that kills hit the work and not the imports.
PRELOADED = ["torch", "diffusers.pipelines.auto_pipeline", "synaug.generation.shards", "synaug.generation.pipelines"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    """Rows of a plan of 48 images, and the checkpoint that they are to be made with."""
    import torch

    from synaug.generator import architecture

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tokenizer = architecture.build_tokenizer(["a photo of a cat", "a photo of a dog"])
    architecture.assemble(
        tokenizer,
        architecture.build_text_encoder(tokenizer, width=16, layers=1),
        architecture.build_autoencoder(16, 1, width=8, latent_channels=4),
        architecture.build_denoiser(4, 4, 16, width=16),
    ).save_pretrained(folder)
    names = ["big"] * 26 + ["cat"] * 2 + ["dog"] * 2
    real = pd.DataFrame({"label_name": names, "split": "train", "usable": True})
    real["label"] = real["label_name"].map({"big": 0, "cat": 1, "dog": 2})
    return plan_generation(
        measure_imbalance(real, "train", Imbalance()),
        balance=Balance(),
        prompts=Prompts(),
        generation=Generation(model=str(folder), steps=6, guidance=2.0, size=16, images_per_shard=1000),
        seed=0,
        image_size=16,
        color="grey",
        version=model_version(str(folder), None),
    )


def job(rows: pd.DataFrame, home: Path) -> None:
    """The real job, which also appends the ids of each batch that it begins to sample to a file."""
    import torch
    from tqdm.std import TqdmDefaultWriteLock

    from synaug.generation import sampling
    from synaug.generation.shards import generate_shard

    os.environ["SYNAUG_DEVICES"] = "cpu"
    torch.set_num_threads(1)
    TqdmDefaultWriteLock.mp_lock = None  # a semaphore, which a killed process would leave behind
    diary = os.open(home / "sampled", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    whole = sampling.sample_batch

    def sample_batch(pipeline, batch, *others):
        os.write(diary, (json.dumps(batch["image_id"].tolist()) + "\n").encode())
        return whole(pipeline, batch, *others)

    sampling.sample_batch = sample_batch
    generate_shard(rows, BATCH, home / "shard.parquet", home / "work", [], threads=1)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A function: rows and folder to a job that has been started."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    jobs = []

    def start(rows: pd.DataFrame, home: Path):
        home.mkdir(exist_ok=True, parents=True)
        jobs.append(server.Process(target=job, args=(rows, home)))
        jobs[-1].start()
        return jobs[-1]

    with pytest.MonkeyPatch.context() as patch:
        # For the server: leases of its own, and no threads, since a process with threads cannot be forked safely.
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("leases")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TQDM_DISABLE", "1")
        yield start
    for one in jobs:
        one.kill()
        one.join()


def finished(home: Path) -> set[str]:
    """Ids of the images that are on disk and readable."""
    return {
        image_id
        for file in [*home.glob("work/*.parquet"), *home.glob("shard.parquet")]
        for image_id in read_table("shard", file, ["image_id"]).column("image_id").to_pylist()
    }


def sampled(home: Path) -> Counter:
    """How often each image was begun to be sampled."""
    path = home / "sampled"
    lines = path.read_text().splitlines() if path.exists() else []
    return Counter(image_id for line in lines for image_id in json.loads(line))


@pytest.mark.slow
def test_killed_at_random_moments_nothing_that_was_finished_is_lost(rows, start, tmp_path):
    for name in ("warm-up", "undisturbed"):  # the first one waits for the server's imports
        began = time.monotonic()
        first = start(rows, tmp_path / name)
        first.join()
        seconds = time.monotonic() - began
        assert first.exitcode == 0
    expected = (tmp_path / "undisturbed/shard.parquet").read_bytes()
    a_batch = seconds / (len(rows) / BATCH)

    draw = random.Random(0)
    kills, shards, moments = Counter(), 0, Counter()
    while kills.total() < KILLS:
        shards += 1
        home = tmp_path / str(shards)
        before, kills_here = set(), 0
        while not (home / "shard.parquet").exists():
            kind = draw.choice([signal.SIGTERM, signal.SIGKILL])
            running = start(rows, home)
            # While the model is loaded, or somewhere in the first batches or, if there are not so many, in the packing.
            batches = min(draw.randrange(6), (len(rows) - len(before)) // BATCH)
            begun = sampled(home).total() + batches * BATCH
            while batches and running.is_alive() and sampled(home).total() < begun:
                time.sleep(0.002)
            most = 2 * a_batch if batches else seconds / 2
            running.join(draw.uniform(0, most) if kills_here < KILLS_OF_A_SHARD else None)
            # Not os.kill: the job may end between a look at it and the signal, which these two allow for.
            running.terminate() if kind == signal.SIGTERM else running.kill()
            running.join()
            assert running.exitcode in (0, -kind)
            if running.exitcode:
                kills[kind.name] += 1
                kills_here += 1
                again = sampled(home)
                assert again.total() - len(again) <= IN_FLIGHT * BATCH * kills_here
            now = finished(home)
            assert before <= now, "an image that was finished is gone"
            moments["none" if not now else "all" if len(now) == len(rows) else "some"] += running.exitcode != 0
            before = now
        assert len(before) == len(rows)
        again = sampled(home)
        assert set(again) == set(rows["image_id"])
        assert again.total() - len(again) <= IN_FLIGHT * BATCH * kills_here
        assert (home / "shard.parquet").read_bytes() == expected
    print(f"undisturbed {seconds:.2f} s; {dict(kills)} over {shards} shards; finished by then: {dict(moments)}")
    assert min(kills["SIGTERM"], kills["SIGKILL"]) >= KILLS // 4
    assert moments["some"] >= KILLS // 4
