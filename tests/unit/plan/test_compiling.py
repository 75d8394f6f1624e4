"""When compiling a model pays, and what `snakemake plan` says about it."""

from types import SimpleNamespace

import pandas as pd
import pytest

from synaug.generation import compilation
from synaug.manifests import write_manifest
from synaug.plan.compiling import CompileCost, compile_cost, steps_done
from synaug.plan.estimate import cost_text, measured_speed

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


def cost(images: int, shards: int, seconds: float) -> CompileCost:
    """The cost of compiling a model for `images` images in `shards` shards, which take `seconds` in all."""
    plan = pd.DataFrame({"model_version": "v", "shard": [number % shards for number in range(images)]})
    return compile_cost(plan, "v", pd.Series(seconds / images, plan.index))


@pytest.mark.parametrize(("images", "pays"), [(1000, False), (1500, True)])
def test_stable_diffusion_on_an_h100_pays_from_about_1200_images(images, pays):
    assert cost(images, 1, images / 6.4).pays is pays


def test_later_shards_find_the_compiled_code_and_still_start_later():
    """70 s of sampling in each shard: too little for the compiler, enough for reading what it has made."""
    costs = [cost(2000 * shards, shards, 70.0 * shards) for shards in (1, 2, 50)]
    assert [of_plan.pays for of_plan in costs] == [False, False, True]
    # Shards of 10 s are too short even for that.
    assert not cost(300 * 1000, 1000, 10.0 * 1000).pays


@pytest.fixture
def text(make, cells, store, tmp_path):
    """A function: `generation.compile`, seconds per image and device of stored images -> the text of `plan`."""

    def text(compile, per_image, device="NVIDIA H100") -> str:
        plan = make()
        if per_image:
            store(plan.head(20), seconds=20 * per_image, device=device)
        return " ".join(cost_text(plan, cells(COUNTS).query("kind == 'cell'"), tmp_path, compile).split())

    return text


def test_the_plan_says_that_jobs_compile_and_why(text):
    """105 images of 10 s in 6 shards."""
    assert (
        "auto: jobs compile the model: compiling saves about 432 s of the 1,050 s that the 105 images take "
        "without it, and costs about 182 s." in text("auto", 10.0)
    )


def test_the_plan_says_that_jobs_do_not_compile_and_why(text):
    assert "auto: jobs do not compile the model: compiling saves about 4 s of the 10 s that" in text("auto", 0.1)


def test_without_a_measurement_the_plan_says_who_decides(text):
    assert "on an NVIDIA GPU, each job decides after a short trial whether compiling" in text("auto", None)


@pytest.mark.parametrize(("compile", "device"), [("auto", "cpu (x86_64)"), ("auto", "mps (arm64)"), (True, "NVIDIA A")])
def test_where_nothing_is_decided_the_plan_says_nothing(text, compile, device):
    assert "compile" not in text(compile, 10.0, device=device)


def test_the_speed_of_compiled_images_is_not_mixed_with_that_of_others(make, store, tmp_path):
    plan = make()
    store(plan.head(20), "1" * 16, seconds=100.0)
    assert not measured_speed(plan, tmp_path).compiled
    store(plan.tail(20), "2" * 16, seconds=40.0, libraries="torch 2, compiled denoiser and decoder")
    speed = measured_speed(plan, tmp_path)
    assert speed.compiled and speed.per_image == pytest.approx(2)


def test_what_a_measured_compiled_model_saves_is_relative_to_the_time_without_it(make, cells, store, tmp_path):
    plan = make()
    store(plan.head(20), seconds=200.0, device="NVIDIA H100", libraries="torch 2, compiled denoiser and decoder")
    text = " ".join(cost_text(plan, cells(COUNTS).query("kind == 'cell'"), tmp_path, "auto").split())
    assert "20 images made on NVIDIA H100 (compiled): 0.1 images/s" in text
    assert "saves about 735 s of the 1,785 s" in text


@pytest.fixture
def two_fills(make) -> pd.DataFrame:
    """A plan with two fills of one model, each of 105 images in 6 shards, and one fill of another model."""
    return pd.concat(
        [
            make(steps=10).assign(fill="fast"),
            make(steps=30).assign(fill="slow"),
            make(steps=30, version="another").assign(fill="other"),
        ],
        ignore_index=True,
    )


@pytest.fixture
def decision_of_job(two_fills, tmp_path, monkeypatch):
    """A function: what a job of the fill decides if each step of an image takes this number of seconds."""
    clock = 0.0

    def sample(pipeline, rows, batch_size, sources):
        nonlocal clock
        clock += batch_size * per_step * float(steps_done(rows).iloc[0])
        yield rows.assign(batch_size=batch_size), None

    def decision_of_job(fill: str, seconds: float) -> CompileCost:
        nonlocal per_step
        per_step = seconds
        write_manifest("plan", two_fills, tmp_path / "plan.parquet")
        shard = two_fills[two_fills["fill"] == fill].iloc[:20]
        return compilation.cost_on_this_device(None, shard, 10, None, tmp_path / "plan.parquet")

    per_step = 0.0
    monkeypatch.setattr(compilation, "sample", sample)
    monkeypatch.setattr(compilation, "time", SimpleNamespace(perf_counter=lambda: clock))
    return decision_of_job


@pytest.mark.parametrize(("measured", "per_step"), [(["fast", "slow"], 0.2), (["slow"], 0.2), (["slow"], 0.16)])
def test_plan_and_jobs_say_the_same_of_two_fills_with_one_model(
    two_fills, cells, store, tmp_path, decision_of_job, measured, per_step
):
    """Of the two fills alone, only the slow one would pay. Together they pay with 0.2 s a step, and not with 0.16 s.

    A fill without a measurement takes as long for each step as the other one.
    """
    for number, fill in enumerate(measured):
        rows = two_fills[two_fills["fill"] == fill].head(20)
        store(rows, f"{number}" * 16, seconds=per_step * steps_done(rows).sum(), device="NVIDIA H100")
    text = " ".join(cost_text(two_fills, cells(COUNTS).query("kind == 'cell'"), tmp_path, "auto").split())
    jobs = [decision_of_job(fill, per_step) for fill in ("fast", "slow")]
    assert [(job.images, job.pays) for job in jobs] == [(210, per_step == 0.2)] * 2
    for job in jobs:
        decision = "compile" if job.pays else "do not compile"
        sentence = f"auto: jobs {decision} the model: {job} (fills fast and slow together)."
        assert text.count(sentence) == len(measured)
