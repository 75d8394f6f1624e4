"""Compiled models: the decision, where it is kept, what the shard records, and what happens if the compiler fails."""

import logging
import os
import shutil

import pandas as pd
import pytest
import torch
from diffusers import UNet2DConditionModel
from finished_shards import change_row, image_ids, shards
from torch._dynamo.utils import counters

from synaug.generation import compilation, sampling
from synaug.generation.pipelines import load_pipeline
from synaug.generation.shards import generate_shard, library_versions
from synaug.generation.usage import UsageMeter
from synaug.manifests import read_manifest, write_manifest
from synaug.plan import compiling

BATCH = 4


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """On the CPU, with a cache of compiled code of its own."""
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")


@pytest.fixture
def compiled(monkeypatch) -> list[str]:
    """Names of the functions that are compiled, by a compiler that takes no time and changes nothing."""
    names: list[str] = []

    def compile(function, dynamic):
        assert dynamic is False
        names.append(function.__qualname__)
        return lambda *args, **kwargs: function(*args, **kwargs)

    monkeypatch.setattr(torch, "compile", compile)
    return names


@pytest.fixture
def traced(monkeypatch):
    """torch compiles, without its slow generator of code."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compile(function, dynamic=dynamic, backend="eager"))
    yield
    torch.compiler.reset()


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The calls of compiled code, by a compiler that takes no time. What runs without being compiled is not in it."""
    calls: list[str] = []
    compile = torch.compile

    def backend(graph, inputs):
        def call(*arguments):
            calls.append(str(graph))
            return graph.forward(*arguments)

        return call

    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compile(function, dynamic=dynamic, backend=backend))
    with torch._dynamo.config.patch(recompile_limit=8):
        yield calls
    torch.compiler.reset()


@pytest.fixture
def pretended_gpu(monkeypatch):
    """The CPU counts as a device on which `auto` may compile."""
    monkeypatch.setattr(compilation, "_AUTO_DEVICE", "cpu")


@pytest.fixture
def start_up(monkeypatch):
    """A function: set the seconds that compiling is taken to need."""
    return lambda seconds: monkeypatch.setattr(compiling, "FIRST_START_S", seconds)


@pytest.fixture
def fail(monkeypatch):
    """A function: from now on the compiler fails, as it does with the first call of a function."""

    def refuse(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    return lambda: monkeypatch.setattr(torch, "compile", lambda function, dynamic: refuse)


def make(rows, tmp_path, compile="auto", **settings) -> set[str]:
    """Generate a shard, and return what its images record: compiled, or not."""
    out = tmp_path / "shard.parquet"
    generate_shard(rows, BATCH, out, tmp_path / "work", [], 1, compile=compile, **settings)
    libraries = read_manifest("shard", out, ["libraries"])["libraries"]
    return set(libraries.str.contains("compiled").map({True: "compiled", False: "not compiled"}))


@pytest.fixture
def interrupt(monkeypatch):
    """A function: generate a shard until its second batch."""

    def interrupt(rows, tmp_path, **settings) -> None:
        def stop(*_) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
            interrupted.setattr(UsageMeter, "batch_sampled", stop)
            make(rows, tmp_path, **settings)

    return interrupt


def test_on_a_cpu_auto_neither_compiles_nor_decides(plan, tmp_path, start_up, interrupt, compiled):
    start_up(0.0)
    interrupt(plan, tmp_path)
    assert not list((tmp_path / "work").glob("compiled*"))
    assert make(plan, tmp_path) == {"not compiled"}
    assert not compiled and not (tmp_path / "cache").exists()


def test_true_compiles_denoiser_and_decoder_on_every_device(plan, tmp_path, caplog, compiled):
    caplog.set_level(logging.INFO)
    assert make(plan, tmp_path, compile=True) == {"compiled"}
    assert compiled == ["UNet2DConditionModel.forward", "AutoencoderKL.decode"]
    assert "denoiser and decoder compiled in" in caplog.text
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(f"{tmp_path}/cache/synaug/compiled/torch_")


def test_a_compiled_image_does_not_depend_on_the_other_images_of_its_batch(plan, tmp_path, traced):
    make(plan, tmp_path, compile=True)
    whole = shutil.copy(tmp_path / "shard.parquet", tmp_path / "whole.parquet")
    assert make(plan.iloc[[9, 7, 2, 0, 5]], tmp_path, compile=True) == {"compiled"}
    hashes = [
        dict(read_manifest("shard", file, ["image_id", "sha256"]).itertuples(index=False))
        for file in (tmp_path / "shard.parquet", whole)
    ]
    assert len(hashes[0]) == 5 and hashes[0].items() <= hashes[1].items()


def test_auto_compiles_if_the_images_of_the_plan_pay_for_it(plan, tmp_path, caplog, pretended_gpu, start_up, compiled):
    caplog.set_level(logging.INFO)
    start_up(0.0)
    assert make(plan, tmp_path) == {"compiled"}
    assert "generation.compile: auto: the model is compiled: compiling saves about" in caplog.text
    start_up(1e6)
    assert make(plan, tmp_path) == {"not compiled"}
    assert "generation.compile: auto: the model is not compiled: compiling saves about" in caplog.text
    assert len(compiled) == 2


def test_all_images_of_the_plan_count_not_those_of_the_shard(plan, tmp_path, caplog, pretended_gpu, start_up, compiled):
    caplog.set_level(logging.INFO)
    other = plan.assign(model_version="another", image_id=[f"{number:024}" for number in range(len(plan))])
    write_manifest("plan", pd.concat([plan, other]), tmp_path / "plan.parquet")
    start_up(1e6)
    make(plan.iloc[:2], tmp_path, plan=tmp_path / "plan.parquet")
    assert "the 11 images" in caplog.text


@pytest.fixture
def memory_for_two_images(monkeypatch):
    sample_batch = sampling.sample_batch

    def of_two(pipeline, batch, batch_size, sources=None):
        if batch_size > 2:
            raise torch.OutOfMemoryError("out of memory")
        return sample_batch(pipeline, batch, batch_size, sources)

    monkeypatch.setattr(sampling, "sample_batch", of_two)


def test_a_batch_that_does_not_fit_into_memory_is_halved_in_the_trial_too(
    plan, tmp_path, memory_for_two_images, pretended_gpu, start_up, compiled
):
    start_up(0.0)
    assert make(plan, tmp_path) == {"compiled"}


def test_the_trial_of_a_model_for_one_step_does_no_more(plan, tmp_path, monkeypatch, pretended_gpu, start_up, compiled):
    """Some of these models refuse other numbers of steps."""
    sample_batch, steps = sampling.sample_batch, set()

    def record(pipeline, batch, batch_size, sources=None):
        steps.update(batch["steps"])
        return sample_batch(pipeline, batch, batch_size, sources)

    monkeypatch.setattr(sampling, "sample_batch", record)
    start_up(0.0)
    assert make(plan.assign(steps=1), tmp_path) == {"compiled"}
    assert steps == {1}


def compiled_calls(pipeline, rows, batch_size: int, calls: list[str]) -> int:
    """How often compiled code runs while one batch of `rows` is sampled."""
    calls.clear()
    list(sampling.sample(pipeline, rows, batch_size))
    return len(calls)


@pytest.mark.slow
def test_every_shape_that_halving_makes_is_compiled(plan, calls):
    """27, 13, 6, 3 and 1 images, with guidance twice as many: nine shapes of the denoiser; torch compiles eight."""
    rows = pd.concat([plan.iloc[:1].assign(guidance=guidance, steps=1) for guidance in (1.0, 2.0)])
    pipeline = load_pipeline(rows.iloc[0], "cpu")
    # A denoiser of few layers: torch traces each of them for every shape.
    pipeline.unet = UNet2DConditionModel(
        sample_size=4, in_channels=4, out_channels=4, down_block_types=["DownBlock2D"], mid_block_type=None,
        up_block_types=["UpBlock2D"], block_out_channels=[16], layers_per_block=1, norm_num_groups=16,
    )  # fmt: skip
    assert compilation.compile_pipeline(pipeline, rows, 27)
    sizes = (27, 13, 6, 3, 1)
    first, *smaller = [compiled_calls(pipeline, rows, size, calls) for size in sizes]
    assert first >= 4 and smaller == [first] * 4  # denoiser and decoder, for each guidance


@pytest.mark.parametrize("compile", [True, False])
def test_the_log_says_that_smaller_batches_are_compiled_again(
    plan, tmp_path, memory_for_two_images, caplog, compiled, compile
):
    make(plan, tmp_path, compile=compile)
    again = ", for which the model is compiled again"
    assert {record.message for record in caplog.records if "out of memory" in record.message} == {
        f"out of memory: continuing with batches of 2{again if compile else ''}"
    }


@pytest.mark.parametrize(("before", "after"), [(0.0, 1e6), (1e6, 0.0)])
def test_a_job_continues_as_it_began(plan, tmp_path, pretended_gpu, start_up, interrupt, compiled, before, after):
    """With fewer images missing, and if the decision would be another one now."""
    start_up(before)
    interrupt(plan, tmp_path)
    start_up(after)
    assert make(plan, tmp_path) == {"compiled" if before < after else "not compiled"}


def test_a_failing_compiler_is_a_warning_and_recorded_as_such(plan, tmp_path, caplog, fail):
    make(plan, tmp_path, compile=False)
    eager = (tmp_path / "shard.parquet").read_bytes()
    fail()
    assert make(plan, tmp_path, compile=True) == {"not compiled"}
    assert "generation.compile: the model cannot be compiled and runs without" in caplog.text
    assert "no C++ compiler" in caplog.text
    assert (tmp_path / "shard.parquet").read_bytes() == eager


def test_a_job_whose_compiler_failed_continues_without_it(
    plan, tmp_path, monkeypatch, pretended_gpu, start_up, interrupt, compiled
):
    start_up(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", None)
        interrupt(plan, tmp_path)
    assert make(plan, tmp_path) == {"not compiled"}


def test_a_cache_that_cannot_be_written_is_a_warning(plan, tmp_path, monkeypatch, caplog, compiled):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert make(plan, tmp_path, compile=True) == {"compiled"}
    assert "compiled code is not kept for other jobs" in caplog.text


def test_regenerate_compiles_if_the_image_was_made_so(synaug, home, compiled):
    file = shards(home)[0]
    change_row(file, 1, libraries=library_versions(True, ""))
    ids = image_ids(file)
    assert synaug("regenerate", ids[2])[0] == 0 and not compiled
    assert synaug("regenerate", ids[1])[0] == 0 and len(compiled) == 2


def test_regenerate_says_that_the_compiler_fails_now(synaug, home, fail):
    file = shards(home)[0]
    change_row(file, 1, libraries=library_versions(True, ""), seed=1)
    fail()
    status, out, _ = synaug("regenerate", image_ids(file)[1])
    assert status == 1 and "libraries: recorded compiled denoiser and decoder, now without" in out


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a CPU with g++")
def test_a_second_job_uses_the_compiled_code_of_the_first(plan, tmp_path):
    """With the generator of code of torch, on the CPU."""
    hits = counters["aot_autograd"]
    for rows, expected in ((plan.iloc[:2], 0), (plan.iloc[2:5], 2)):  # denoiser and decoder
        hits.clear()
        assert make(rows, tmp_path, compile=True) == {"compiled"}
        assert hits["autograd_cache_hit"] == expected
        torch.compiler.reset()
    assert list((tmp_path / "cache/synaug/compiled").rglob("*.so"))
