"""How fast images are generated, beside what the device could do and what people do without this project.

    python benchmarks/generation.py [--quick] [--models NAME ...] [--batch_size N]
                                    [--no-compile] [--arms eager compiled compiled+qkv ...]

For each model, in turns in one process, best of several rounds, images a second of
  engine      `generate_shard`: sampling, encoding, writing, hashing; loading apart
  bare        the denoiser and decoder loop alone at the same batch size and type, with nothing saved
  per_image   the pipeline called once per image, saving PNGs, as most scripts do
  per_batch   the pipeline called per batch, saving PNGs
With them: the share of the device's matrix-product peak, measured here, that the engine's floating-point operations
are (above 1 on a CPU whose convolutions are faster than its matrix product); whether images are made again bit for bit
at another place of the batch; what a shard costs beyond sampling; and the seconds from the start of a job to the end of
its first batch: of the first job, and of a second one, which finds the compiled code of the first.

On a GPU, engine and bare loop are compiled (--no-compile: not; --compile: also on a CPU). After that the bare loop is
measured again in each of the `arms`, one after the other: not compiled, compiled, and with what may gain more, each
alone and together. Of each: the seconds of its first batch, images/s, and whether images are made again bit for bit.

`embedded` is the generator of the default experiment. The others have the sizes of the published models and random
weights: speed does not depend on what they have learnt. They need a GPU; without one only `embedded` is measured.
SD3-medium, FLUX.1-schnell and Sana are so large that only the engine and the bare loop are measured; their bare loop
repeats the calls of denoiser and decoder of one batch, without the steps of the scheduler between them. The weights of
FLUX.1-schnell take 33 GB of memory and of disk space.
--quick: few images, one round, tiny models, two arms, on a CPU without the slow part of the compiler: it shows that
the program works. The last line is one JSON object; it is
also written to benchmarks/results/generation_<cpu or GPU>.json after each model (not with --quick). In the file, models
of earlier runs remain if hardware and versions are the same.
"""

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import diffusers
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from generation_models import BATCH_SIZES, LARGE, MODELS, repeated_calls, settings_of
from hardware import measured_on
from results_file import device_word, write_models
from synaug.generation.compilation import compile_pipeline
from synaug.generation.pipelines import load_pipeline
from synaug.generation.sampling import call_settings, sample
from synaug.generation.shards import generate_shard
from synaug.plan.checkpoints import model_version
from synaug.plan.schedulers import scheduler_settings
from synaug.runtime.devices import available_devices

# Name of an arm: what is changed, joined by "+". See `prepare`.
ARMS = [
    "eager",
    "eager+contiguous",
    "compiled",
    "compiled+qkv",
    "compiled+contiguous",
    "compiled+autotune",
    "compiled+graphs",
    "compiled+qkv+autotune",
]


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="+", choices=list(MODELS))
    parser.add_argument("--batch_size", type=int, help="default: 100 for `embedded`, 32 for the others")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: on a GPU")
    parser.add_argument("--arms", nargs="*", choices=ARMS, help="default: all on a GPU, none on a CPU")
    arguments = parser.parse_args()
    device = available_devices()[0]
    on_gpu = device.startswith("cuda")
    if arguments.compile is None:
        arguments.compile = on_gpu
    if arguments.arms is None:
        arguments.arms = ["eager", "compiled+qkv"] if arguments.quick else ARMS if on_gpu else []
    names = arguments.models or (list(MODELS) if on_gpu or arguments.quick else ["embedded"])
    peak = matrix_peak(device, arguments.quick)
    result = {
        "quick": arguments.quick,
        "compile": arguments.compile,
        "matrix_product_peak_tflops_float32" if device == "cpu" else "matrix_product_peak_tflops_bfloat16": peak,
        "models": {},
        "threads": torch.get_num_threads(),
        **measured_on(),
    }
    for name in names:
        result["models"][name] = (measure_large if name in LARGE else measure)(name, device, peak, arguments)
        if not arguments.quick:
            write_models(f"generation_{device_word(device)}", result)
    print(json.dumps(result))


def measure(name: str, device: str, peak: float, arguments) -> dict:
    """All figures of one model."""
    quick = arguments.quick
    batch_size = arguments.batch_size or (4 if quick else BATCH_SIZES.get(name, 32))
    batches, rounds = (1, 1) if quick else (3, 5 if name == "embedded" else 2)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        settings = settings_of(name, folder / "model", device, quick)
        version = model_version(settings["model"], None)
        rows = pd.DataFrame({"image_id": [f"{i:024}" for i in range(batches * batch_size)]}).assign(
            **settings, model_version=version, label_name="x", group="", licence="", index=0
        )
        rows["seed"] = range(len(rows))
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
        figures = {}
        if not quick:
            # Before the comparison, which then finds the code that the first job has compiled.
            threads, one_batch = torch.get_num_threads(), rows.iloc[:batch_size]
            figures |= seconds_to_first_batch(one_batch, batch_size, folder, threads, arguments.compile)
            print(f"{name}: {figures}", file=sys.stderr, flush=True)
        figures |= compare(name, rows, batch_size, rounds, device, folder, quick, arguments.compile)
        share = figures["images_per_s_engine"] * figures["teraflop_per_image"] / peak
        figures["share_of_matrix_peak"] = round(share, 3)
        figures["arms"] = {}
        for arm in arguments.arms:
            figures["arms"][arm] = measure_arm(arm, rows, batch_size, rounds, device, quick)
            print(f"{name} {arm}: {figures['arms'][arm]}", file=sys.stderr, flush=True)
        return figures


def compare(
    name: str, rows: pd.DataFrame, batch_size: int, rounds: int, device: str, folder: Path, quick: bool, compile: bool
) -> dict:
    """Figures of the engine and of what it is compared with. rows: full batches. folder: for files."""
    threads, batches = torch.get_num_threads(), len(rows) // batch_size
    pipeline = load_pipeline(rows.iloc[0], device)
    plain = load_stock(rows.iloc[0], device)
    flops = flops_per_image(pipeline, rows.iloc[:1])
    compiled = compile and compile_pipeline(pipeline, rows, batch_size)
    few = rows.iloc[: 2 if quick else max(4, batch_size // 4)]
    # One batch of a large model takes seconds.
    one_batch = rows if name == "embedded" else rows.iloc[:batch_size]
    ways = {
        "engine": lambda: run_engine(rows, batch_size, folder, threads, compiled),
        "bare": lambda: timed(lambda: [bare(pipeline, rows, batch_size) for _ in range(batches)], len(rows), device),
        "per_batch": lambda: timed(lambda: stock(plain, one_batch, batch_size, folder), len(one_batch), device),
        "per_image": lambda: timed(lambda: stock(plain, few, 1, folder), len(few), device),
    }
    bare(pipeline, rows, batch_size)  # the first batch pays for start-up
    speeds = {way: [] for way in ways}
    for turn in range(rounds):
        # In another order each time: who comes first has the cooler processor.
        for way in [*ways][turn % len(ways) :] + [*ways][: turn % len(ways)]:
            speeds[way].append(ways[way]())
            print(f"{name} {way}: {speeds[way][-1]:.2f} images/s", file=sys.stderr, flush=True)
    best = {way: max(measured) for way, measured in speeds.items()}
    cost = json.loads((folder / "cost.json").read_text())
    return {
        "compiled": compiled,
        "size": int(rows["size"].iloc[0]), "steps": int(rows["steps"].iloc[0]),
        "guidance": float(rows["guidance"].iloc[0]), "dtype": rows["dtype"].iloc[0], "batch_size": batch_size,
        **{f"images_per_s_{way}": round(speed, 3) for way, speed in best.items()},
        "ratio_to_bare_loop": round(best["engine"] / best["bare"], 3),
        "ratio_to_per_image": round(best["engine"] / best["per_image"], 3),
        "ratio_to_per_batch": round(best["engine"] / best["per_batch"], 3),
        "teraflop_per_image": round(flops / 1e12, 6),
        "made_again_bit_for_bit": made_again(pipeline, rows, batch_size),
        "seconds_import_and_load_in_a_new_process": fresh_process(rows.iloc[0], device),
        "seconds_of_a_shard_beyond_sampling": cost["seconds_loading"],
        "peak_memory_gib": round(cost["peak_memory_bytes"] / 2**30, 2),
    }  # fmt: skip


def measure_arm(arm: str, rows: pd.DataFrame, batch_size: int, rounds: int, device: str, quick: bool) -> dict:
    """Figures of the bare loop with the changes that the name `arm` lists; {"error"} if that does not work."""
    batches = len(rows) // batch_size
    # The compiler has a limit for the versions of a function that it keeps, those of other pipelines included.
    gc.collect()
    torch.compiler.reset()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        pipeline = load_pipeline(rows.iloc[0], device)
        prepare(pipeline, arm.split("+"), "eager" if quick and device == "cpu" else "inductor")
        first = timed(lambda: bare(pipeline, rows, batch_size), 1, device)
        speeds = [
            timed(lambda: [bare(pipeline, rows, batch_size) for _ in range(batches)], batches * batch_size, device)
            for _ in range(rounds)
        ]
        figures = {
            "images_per_s": round(max(speeds), 3),
            "seconds_first_batch": round(1 / first, 2),
            "made_again_bit_for_bit": made_again(pipeline, rows, batch_size),
        }
        if device.startswith("cuda"):
            figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return figures
    except Exception as error:  # the other arms are measured all the same
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def prepare(pipeline, changes: list[str], backend: str) -> None:
    """Change `pipeline`.

    contiguous: not channels_last. qkv: the projections of query, key and value in one product. compiled: denoiser and
    decoder, with autotune: max-autotune-no-cudagraphs; with graphs: reduce-overhead, which uses CUDA graphs.
    """
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    for part in (denoiser, pipeline.vae):
        if "contiguous" in changes:
            part.to(memory_format=torch.contiguous_format)
        if "qkv" in changes:
            part.fuse_qkv_projections()
    if "compiled" in changes:
        mode = {"autotune": "max-autotune-no-cudagraphs", "graphs": "reduce-overhead"}
        modes = [mode[change] for change in changes if change in mode]
        settings = {"mode": modes[0]} if modes and backend == "inductor" else {}
        for part, name in ((denoiser, "forward"), (pipeline.vae, "decode")):
            setattr(part, name, torch.compile(getattr(part, name), dynamic=False, backend=backend, **settings))


def measure_large(name: str, device: str, peak: float, arguments) -> dict:
    """The figures of one model of which only one copy fits: without the pipeline as other people use it."""
    quick, threads = arguments.quick, torch.get_num_threads()
    batch_size = arguments.batch_size or (4 if quick else BATCH_SIZES.get(name, 32))
    batches = 1 if quick else 2
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        settings = settings_of(name, folder / "model", device, quick)
        rows = pd.DataFrame({"image_id": [f"{i:024}" for i in range(batches * batch_size)]}).assign(
            **settings, model_version=model_version(settings["model"], None), label_name="x", group="", licence="",
            index=0,
        )  # fmt: skip
        rows["seed"] = range(len(rows))
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "compiled")
        engine = run_engine(rows, batch_size, folder, threads, arguments.compile)
        cost = json.loads((folder / "cost.json").read_text())
        free_memory(device)
        pipeline = load_pipeline(rows.iloc[0], device)
        pipeline.transformer.requires_grad_(False)  # the counter of operations fails with Sana's otherwise
        one_image = repeated_calls(pipeline, call_settings(pipeline, rows.iloc[:1]))
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            one_image()
        flops = counter.get_total_flops()
        # As the engine was, whose compiled code it finds.
        compiled = arguments.compile and compile_pipeline(pipeline, rows, batch_size)
        with torch.inference_mode():  # as the engine: other kinds of tensors would be compiled again
            batch = repeated_calls(pipeline, call_settings(pipeline, rows.iloc[:batch_size]))
            batch()  # the first one pays for start-up
            bare = timed(lambda repeat=batch: [repeat() for _ in range(batches)], len(rows), device)
        figures = {
            "compiled": compiled,
            "size": int(rows["size"].iloc[0]), "steps": int(rows["steps"].iloc[0]),
            "guidance": float(rows["guidance"].iloc[0]), "dtype": rows["dtype"].iloc[0], "batch_size": batch_size,
            "images_per_s_engine": round(engine, 3), "images_per_s_bare": round(bare, 3),
            "ratio_to_bare_loop": round(engine / bare, 3),
            "teraflop_per_image": round(flops / 1e12, 6),
            "share_of_matrix_peak": round(engine * flops / 1e12 / peak, 3),
            "made_again_bit_for_bit": made_again(pipeline, rows, batch_size),
            "seconds_of_a_shard_beyond_sampling": cost["seconds_loading"],
            "peak_memory_gib": round(cost["peak_memory_bytes"] / 2**30, 2),
        }  # fmt: skip
    del pipeline, one_image, batch
    free_memory(device)
    return figures


def free_memory(device: str) -> None:
    """Give back the memory of a model that is no longer used: the next one needs it."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def timed(work, images: int, device: str) -> float:
    """Images/s of `work()`."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return images / (time.perf_counter() - start)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def run_engine(rows: pd.DataFrame, batch_size: int, folder: Path, threads: int, compile: bool) -> float:
    """Images/s of a shard job, loading apart."""
    shutil.rmtree(folder / "work", ignore_errors=True)
    cost = folder / "cost.json"
    generate_shard(
        rows, batch_size, folder / "x.parquet", folder / "work", [], threads, compile=compile, cost_file=cost
    )
    return json.loads(cost.read_text())["images_per_s"]


def fresh_process(row: pd.Series, device: str) -> float:
    """Seconds that a job needs before its first batch: imports, check of the model's hash, loading."""
    needed = ["pipeline", "model", "model_version", "variant", "adapters", "scheduler", "dtype"]
    code = (
        "import json, sys, pandas, synaug.generation.shards; from synaug.generation.pipelines import load_pipeline; "
        f"load_pipeline(json.loads(sys.argv[1]), {device!r})"
    )
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, row[needed].to_json()],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return round(time.perf_counter() - start, 2)


def seconds_to_first_batch(rows: pd.DataFrame, batch_size: int, folder: Path, threads: int, compile: bool) -> dict:
    """Seconds from the start of a job's process to the end of its first batch, written.

    rows: of one batch. With `compile`: of a first job, which compiles, and of a second one.
    """
    rows.to_pickle(folder / "rows.pickle")
    code = (
        "import sys, pandas; from pathlib import Path; from synaug.generation.shards import generate_shard; "
        "folder = Path(sys.argv[1]); generate_shard(pandas.read_pickle(folder / 'rows.pickle'), "
        f"{batch_size}, folder / 'first.parquet', folder / 'first', [], {threads}, compile={compile})"
    )
    figures = {}
    for job in ("first_job", "second_job") if compile else ("first_job",):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        figures[f"seconds_to_first_batch_of_{job}"] = round(time.perf_counter() - start, 2)
    return figures


def load_stock(row: pd.Series, device: str):
    """The pipeline as its documentation loads it."""
    kind = diffusers.DiTPipeline if row["pipeline"] == "class-conditional" else diffusers.AutoPipelineForText2Image
    pipeline = kind.from_pretrained(row["model"], dtype=getattr(torch, row["dtype"])).to(device)
    if row["scheduler"]:
        name, options = scheduler_settings(row["scheduler"])
        pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stock(pipeline, rows: pd.DataFrame, batch_size: int, folder: Path) -> None:
    """The pipeline as its documentation calls it, each image saved as PNG."""
    for start in range(0, len(rows), batch_size):
        batch = rows.iloc[start : start + batch_size]
        images = pipeline(**call_settings(pipeline, batch) | {"output_type": "pil"}).images
        for name, image in zip(batch["image_id"], images, strict=True):
            image.save(folder / f"{name}.png")


@torch.inference_mode()
def bare(pipeline, rows: pd.DataFrame, batch_size: int) -> torch.Tensor:
    """Noise to pixels, and no more: `rows` say steps and guidance; every image has the same prompt."""
    first = rows.iloc[0]
    guided = first["guidance"] > 1
    doubled = 2 if guided else 1
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    device, dtype = denoiser.device, denoiser.dtype
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(int(first["steps"]), device=device)
    side = int(first["size"]) // pipeline.vae_scale_factor if hasattr(pipeline, "vae_scale_factor") else 0
    side = side or denoiser.config.sample_size
    channels = denoiser.config.in_channels
    latents = torch.randn(batch_size, channels, side, side, device=device, dtype=dtype) * scheduler.init_noise_sigma
    condition = conditions(pipeline, first, batch_size, guided)
    for step in scheduler.timesteps:
        both = scheduler.scale_model_input(torch.cat([latents] * doubled), step)
        # Called as in the pipelines: for other kinds of arguments the model would be compiled again.
        times = step if hasattr(pipeline, "unet") else step.expand(len(both)).to(device)
        noise = denoiser(both, timestep=times, **condition, return_dict=False)[0][:, :channels]
        if guided:
            plain, asked = noise.chunk(2)
            noise = plain + first["guidance"] * (asked - plain)
        latents = scheduler.step(noise, step, latents).prev_sample
    return pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)[0]


def conditions(pipeline, first: pd.Series, batch_size: int, guided: bool) -> dict:
    """What the denoiser is told besides noise and time."""
    if isinstance(pipeline, diffusers.DiTPipeline):
        classes = torch.full((batch_size,), int(first["prompt"]), device=pipeline.transformer.device)
        return {"class_labels": torch.cat([torch.full_like(classes, 1000), classes]) if guided else classes}
    encode, device = pipeline.encode_prompt.encode, pipeline.unet.device
    given = {"prompt": [first["prompt"]], "device": device, "num_images_per_prompt": 1}
    encoded = encode(**given, do_classifier_free_guidance=bool(guided))
    pairs = [(encoded[i + 1], encoded[i]) if guided else (encoded[i],) for i in range(0, len(encoded), 2)]
    text = [torch.cat([part.repeat_interleave(batch_size, 0) for part in pair]) for pair in pairs]
    if len(text) == 1:
        return {"encoder_hidden_states": text[0]}
    size = int(first["size"])
    sizes = torch.tensor([[size, size, 0, 0, size, size]], device=device, dtype=text[0].dtype)
    added = {"text_embeds": text[1], "time_ids": sizes.repeat(len(text[1]), 1)}
    return {"encoder_hidden_states": text[0], "added_cond_kwargs": added}


def flops_per_image(pipeline, row: pd.DataFrame) -> float:
    """Floating-point operations (2 per multiply-add; products, convolutions, attention) of one image."""
    with FlopCounterMode(display=False) as counter:
        bare(pipeline, row, 1)
    return counter.get_total_flops()


def made_again(pipeline, rows: pd.DataFrame, batch_size: int) -> bool:
    """Whether two images come out the same at another place of the batch, between other neighbours."""
    count = min(len(rows), batch_size)
    orders = [rows.iloc[:count], rows.iloc[[count // 2, 0]], rows.iloc[-count:].drop_duplicates()]
    wanted = rows["image_id"].iloc[[0, count // 2]].tolist()
    found: dict[str, set] = {name: set() for name in wanted}
    for order in orders:
        for batch, pixels in sample(pipeline, order, batch_size):
            for name, image in zip(batch["image_id"], pixels, strict=True):
                if name in found:
                    found[name].add(image.tobytes())
    return all(len(images) == 1 for images in found.values())


def matrix_peak(device: str, quick: bool) -> float:
    """Best TFLOP/s of square matrix products: bfloat16 on a GPU, float32 on a CPU."""
    side, dtype = (8192, torch.bfloat16) if device.startswith("cuda") else (2048, torch.float32)
    side = 256 if quick else side
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(3 if quick else 10):
        best = max(best, timed(lambda: [one @ other for _ in range(5)], 5, device))
    return round(best * 2 * side**3 / 1e12, 3)


if __name__ == "__main__":
    main()
