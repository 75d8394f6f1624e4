"""When compiling a model pays, and what `snakemake plan` says about it."""

import pytest

from synaug.plan.compiling import compile_cost
from synaug.plan.estimate import cost_text, measured_speed

COUNTS = {"a": 50, "b": 30, "c": 12, "d": 3}


@pytest.mark.parametrize(("images", "pays"), [(1000, False), (1500, True)])
def test_stable_diffusion_on_an_h100_pays_from_about_1200_images(images, pays):
    assert compile_cost(images, 1, images / 6.4).pays is pays


def test_later_shards_find_the_compiled_code_and_still_start_later():
    """70 s of sampling in each shard: too little for the compiler, enough for reading what it has made."""
    costs = [compile_cost(2000 * shards, shards, 70.0 * shards) for shards in (1, 2, 50)]
    assert [cost.pays for cost in costs] == [False, False, True]
    # Shards of 10 s are too short even for that.
    assert not compile_cost(300 * 1000, 1000, 10.0 * 1000).pays


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
