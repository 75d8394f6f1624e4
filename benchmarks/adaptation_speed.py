"""How long a step of adapting Stable Diffusion 1.5 and SDXL takes, and how much memory it needs.

    python benchmarks/adaptation_speed.py [--quick] [--device cuda] [--models sd15 sdxl]

The architectures have the sizes of the published models, and random weights: speed and memory do not depend on what
they have learnt. They are loaded, and adapted with rank 16 at 512 pixels, by the code of `adapt_generator`: images are
encoded by the autoencoder in float32, and then the adapter is trained in bfloat16 with AdamW, with batches of 4 and 8,
with and without gradient checkpointing. Of each:
  seconds_per_step              median after the warm-up, images/s with it
  peak_allocated_gib            of the tensors, weights of the model included
  peak_reserved_gib             what torch holds of the GPU's memory; the CUDA context is not in it
An arm whose memory runs out has `out_of_memory` true. `adapt_generator` then does each step in smaller parts, and if
even one image does not fit, the arm has an `error` in place of figures. `encoding` is what the autoencoder needs.

--quick: tiny models on the CPU, few steps, no memory: it shows that the program works. The last line is one JSON
object; it is also written to benchmarks/results/adaptation_<GPU>.json after each model (not with --quick). In the file,
models of earlier runs remain if hardware and versions are the same.
"""

import argparse
import gc
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from generation_models import settings_of
from hardware import measured_on
from results_file import device_word, write_models
from synaug.config import Adaptation
from synaug.generation.pipelines import load_pipeline
from synaug.generator.adapt import LoraAdapter, train_adapter
from synaug.generator.adapt_data import encode_images
from synaug.plan.checkpoints import model_version

MODELS = {"sd15": "sd15", "sdxl": "sdxl_turbo"}  # SDXL-Turbo has the architecture of SDXL
CAPTIONS = [["a photo of a bag"]]
IMAGES, RANK, BATCH_SIZES = 16, 16, (4, 8)
GIB = 2**30


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", help="default: cuda, cpu with --quick")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    arguments = parser.parse_args()
    quick = arguments.quick
    device = arguments.device or ("cpu" if quick else "cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("there is no GPU; --quick runs on the CPU")
    result = {"quick": quick, "rank": RANK, "models": {}, **measured_on()}
    for name in arguments.models:
        result["models"][name] = measure(name, device, quick)
        if not quick:
            write_models(f"adaptation_{device_word(device)}", result)
    print(json.dumps(result))


def measure(name: str, device: str, quick: bool) -> dict:
    """All figures of one model."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        row = settings_of(MODELS[name], folder / "model", device, quick)
        row["model_version"] = model_version(row["model"], None)
        report(f"{name}: built")
        pipeline = load_pipeline(row, device)
        images = write_images(folder, row["size"], 2 if quick else IMAGES)
        reset_memory(device)
        start = time.perf_counter()
        # As in adapt_generator.
        pipeline.vae.to(torch.float32)
        latents = encode_images(pipeline.vae, images, folder, row["size"], flip=True)
        pipeline.vae.to("cpu")
        seconds = (time.perf_counter() - start) / (2 * len(images))
        encoding = {"seconds_per_image": round(seconds, 4), **peak_memory(device)}
        report(f"{name}: loaded; encoding: {encoding}")
        arms = []
        for batch_size, checkpointing in itertools.product(BATCH_SIZES, (False, True)):
            settings = Adaptation(
                output="adapter", rank=RANK, batch_size=batch_size, gradient_checkpointing=checkpointing,
                precision=row["dtype"], steps=4 if quick else 25,
            )  # fmt: skip
            figures = measure_arm(pipeline, latents, settings, row["size"], folder / f"{len(arms)}", device)
            arms.append({"batch_size": batch_size, "gradient_checkpointing": checkpointing, **figures})
            report(f"{name}: {arms[-1]}")
        sizes = {"size": row["size"], "dtype": row["dtype"]}
    del pipeline
    reset_memory(device)
    return {**sizes, "encoding": encoding, "arms": arms}


def measure_arm(pipeline, latents: tuple, settings: Adaptation, size: int, work: Path, device: str) -> dict:
    """The figures of training a new adapter of `pipeline` with `settings`; {"error"} if there is not enough memory."""
    ends: list[float] = []
    failures = reset_memory(device)
    # The loop waits for the loss of each step, so the time between two calls is that of a step.
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    figures = {}
    try:
        adapter = LoraAdapter(pipeline, size, settings, seed=0)
        labels = torch.zeros(latents[0].shape[1], dtype=torch.int64)
        train_adapter(adapter, latents, labels, CAPTIONS, None, seed=0, work=work, data=[])
        steps = np.diff(ends)[len(ends) // 5 :]
        figures["seconds_per_step"] = round(float(np.median(steps)), 4)
        figures["images_per_s"] = round(settings.batch_size / float(np.median(steps)), 2)
    except Exception as error:
        if "out of memory" not in str(error):
            raise
        figures["error"] = str(error).split("\n")[0]
    finally:
        hook.remove()
        pipeline.unload_lora_weights()
        pipeline.unet.disable_gradient_checkpointing()
    if device.startswith("cuda"):
        figures["out_of_memory"] = torch.cuda.memory_stats()["num_ooms"] > failures
    return figures | peak_memory(device)


def write_images(folder: Path, size: int, count: int) -> pd.DataFrame:
    """Files with random pixels. Their rows of the manifest `real`, as far as `encode_images` needs them."""
    random = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(folder / f"{number}.png")
    rows = pd.DataFrame({"path": [f"{number}.png" for number in range(count)]})
    return rows.assign(row=pd.array([None] * count, "Int64"), column=None)


def reset_memory(device: str) -> int:
    """Start to measure the peak again. Returns how often memory has run out so far."""
    gc.collect()
    if not device.startswith("cuda"):
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_stats()["num_ooms"]


def peak_memory(device: str) -> dict[str, float]:
    """Peaks since `reset_memory`; empty on a CPU."""
    if not device.startswith("cuda"):
        return {}
    allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return {"peak_allocated_gib": round(allocated / GIB, 2), "peak_reserved_gib": round(reserved / GIB, 2)}


def report(text: str) -> None:
    """Print a line while the program runs: figures remain on the terminal if the time of a GPU ends."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
