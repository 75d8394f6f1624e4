"""The speed of training: the data path beside torchvision's, and the step beside that of a fixed batch.

    python benchmarks/training.py [--quick] [--device cuda]

Data path, images/s: decoding, random crop or translation, flip, and normalised floats on the device; beside torchvision
`ImageFolder` + `DataLoader` (two workers, on a GPU as many as there are cores) with its transforms, on the same image
files and cores. 32-pixel PNGs, which synaug keeps decoded, and photographs of 500 x 375 pixels as JPEG for training at
224 pixels, which it streams; of these also the decoder alone.
Step rate: the training loop of the workflow beside the same network and optimiser on one batch that lies in memory. On
a GPU: ResNet-32 on 50,000 images of 32 pixels, in float32 and in TF32, and ResNet-50 at 224 pixels in bfloat16.
Repeatability: whether two trainings with one seed end in the same weights, with and without training.deterministic.
The ways take turns, round by round, and the median round counts; a round of the data path is long beside the few
batches that the loaders hold ready. The last line is one JSON object; without --quick it also goes to
benchmarks/results/training_<cpu or gpu>.json.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

from hardware import measured_on
from synaug.config import Stage1
from synaug.images.packing import pack_images
from synaug.manifests import write_manifest
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier
from synaug.training.data import LargeImages, TrainingSet, load_training_set, open_training_set
from synaug.training.optimizer import MOMENTUM
from synaug.training.stage1 import train_stage1

CLASSES = [f"{label:03}" for label in range(10)]
WORKERS = 2


def write_images(folder: Path, count: int, side: tuple[int, int], kind: str) -> pd.DataFrame:
    """`count` crops of the two photographs that scikit-learn ships, in files of ten classes; manifest `balanced`."""
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        photo = photos[i % 2]
        left, top = rng.integers(photo.width - 500), rng.integers(photo.height - 375)
        picture = photo.crop((left, top, left + 500, top + 375)).resize(side)
        path = folder / CLASSES[i % 10] / f"{i}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        picture.save(buffer, kind, quality=90)
        path.write_bytes(buffer.getvalue())
        rows.append({"image_id": f"{i:06}", "label": i % 10, "label_name": CLASSES[i % 10], "path": str(path)})
    table = pd.DataFrame(rows).assign(source="real", weight=1.0, column="image")
    return table.assign(row=pd.array([None] * count, "Int64"))


def torchvision_batches(folder: Path, batch: int, transforms: list, workers: int) -> Callable[[], torch.Tensor]:
    """Next batch of floats, N x 3 x S x S, as a plain script would get it."""
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.25] * 3)]
    data = datasets.ImageFolder(folder, v2.Compose([*transforms, *last]))
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)

    def endless():
        while True:
            yield from loader

    batches = endless()
    return lambda: next(batches)[0]


def synaug_batches(data: TrainingSet, settings: Stage1, device: str) -> Callable[[], torch.Tensor]:
    """Next batch of floats, N x 3 x S x S, by the data path of the workflow."""
    rng = np.random.default_rng(0)
    sampler = data.make_sampler(settings, settings.crop_area, 0, rng)
    model = Classifier("resnet8", 4, CLASSES, data.images.shape[2], 3)
    model.set_normalisation(data.images_for_statistics())
    model.to(device)

    def batch() -> torch.Tensor:
        images = data.augmented(sampler.draw(), settings, rng)
        return (images.float() - model.mean) / model.std

    return batch


def decoder_batches(data: TrainingSet, settings: Stage1) -> Callable[[], object]:
    """Next batch of cropped pixels from the threads that decode, in the memory of the CPU."""
    sampler = data.make_sampler(settings, settings.crop_area, 0, np.random.default_rng(0))

    def batch() -> object:
        sampler.draw()
        return data.images.prefetched.wait()

    return batch


def take_turns(ways: dict[str, Callable[[], object]], calls: int, rounds: int, per_call: int) -> dict[str, float]:
    """Median over rounds of `per_call` x calls per second of every way."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            for _ in range(calls):
                way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                speeds[name].append(per_call * calls / (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in speeds.items()}


def bare_loop(settings: Stage1, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Steps of the same network and optimiser on one batch of floats that lies on the device."""
    _, channels, size, _ = images.shape
    model = Classifier(settings.backbone, settings.width, CLASSES, size, channels)
    model.to(images.device, memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.01, MOMENTUM, weight_decay=5e-4, nesterov=True)
    half = settings.precision == "bfloat16"

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(model(images).float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def step_rates(data: TrainingSet, settings: Stage1, steps: int, rounds: int) -> dict[str, float]:
    """Steps per second of the workflow's training and of `bare_loop`, and their ratio."""
    images = data.images[torch.arange(settings.batch_size)].float()
    bare = bare_loop(settings, images, data.labels[: settings.batch_size])

    def seconds(count: int) -> float:
        start = time.perf_counter()
        train_stage1(data, CLASSES, settings.model_copy(update={"steps": count}), 0)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def seconds_bare() -> float:
        start = time.perf_counter()
        with gpu_arithmetic(settings.precision, fixed_shapes=True):
            for _ in range(steps):
                bare()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    rates, bare_rates = [], []
    for number in range(rounds + 1):
        # Twice as many steps less as many: what a training needs before its first step is not the step's.
        once, twice, plain = seconds(steps), seconds(2 * steps), seconds_bare()
        if number:  # the first round warms up
            rates.append(steps / (twice - once))
            bare_rates.append(steps / plain)
    speeds = {"steps_per_s": float(np.median(rates)), "steps_per_s_fixed_batch": float(np.median(bare_rates))}
    return speeds | {"ratio_to_fixed_batch": speeds["steps_per_s"] / speeds["steps_per_s_fixed_batch"]}


def same_weights_again(data: TrainingSet, settings: Stage1, steps: int) -> bool:
    """Whether two trainings with one seed end in the same weights, bit by bit."""
    settings = settings.model_copy(update={"steps": steps})
    first, second = (train_stage1(data, CLASSES, settings, 0)[0].state_dict() for _ in range(2))
    return all(torch.equal(first[name], second[name]) for name in first)


def compare_data_paths(ours: Callable, theirs: Callable, batch: int, calls: int, rounds: int) -> dict[str, float]:
    """Images per second of both, and their ratio."""
    speeds = take_turns({"images_per_s": ours, "images_per_s_image_folder": theirs}, calls, rounds, batch)
    return speeds | {"ratio_to_image_folder": speeds["images_per_s"] / speeds["images_per_s_image_folder"]}


class Figures(dict):
    """Name -> figures. Each is also printed at once: it remains on the terminal if the time of a GPU ends."""

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(name, value)
        print(f"{name}: {value}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    quick, device, gpu = arguments.quick, arguments.device, arguments.device.startswith("cuda")
    rounds = 1 if quick else 3 if gpu else 5
    cores = len(os.sched_getaffinity(0)) if gpu else WORKERS
    # As in a job of the workflow: one thread for the network, the others decode.
    torch.set_num_threads(1)
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder, "small"), Path(folder, "large")
        settings = Stage1(backbone="resnet8", width=24, batch_size=128, shift=2)
        data = load_training_set(write_images(small, 200 if quick else 4000, (32, 32), "png"), 32, "rgb", device)
        theirs = torchvision_batches(small, 128, [v2.RandomCrop(32, 2), v2.RandomHorizontalFlip()], cores)
        ours = synaug_batches(data, settings, device)
        figures["data_32_pixels"] = compare_data_paths(ours, theirs, 128, 1 if quick else 60 if gpu else 150, rounds)
        if gpu:
            images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, device=device)
            labels = torch.arange(50_000, device=device) % 10
            data = TrainingSet(images, labels, labels > 10, torch.ones(50_000, device=device))
            settings = Stage1(backbone="resnet32", batch_size=128, shift=4)
        steps = 5 if quick else 200 if gpu else 30
        figures["step_32_pixels"] = step_rates(data, settings, steps, rounds)
        if gpu:
            tf32 = settings.model_copy(update={"precision": "tf32"})
            figures["step_32_pixels_tf32"] = step_rates(data, tf32, steps, rounds)
            for name in ("step_32_pixels", "step_32_pixels_tf32"):
                figures[name]["resnet32_seconds_per_epoch_of_50000"] = 50_000 / 128 / figures[name]["steps_per_s"]
        deterministic = settings.model_copy(update={"deterministic": True})
        figures["same_weights_again"] = {
            "by_default": same_weights_again(data, settings, steps),
            "deterministic": same_weights_again(data, deterministic, steps),
        }

        rows = write_images(large, 40 if quick else 600, (500, 375), "jpeg")
        batch, network = (256, "torchvision/resnet50") if gpu else (32, "torchvision/resnet18")
        batch = 8 if quick else batch
        settings = Stage1(
            backbone=network, batch_size=batch, shift=0, crop_area=0.08, precision="bfloat16" if gpu else "float32"
        )
        path, index = str(Path(folder, "images.bin")), str(Path(folder, "index.parquet"))
        write_manifest("packed", pack_images(rows, path), index)
        data = open_training_set(rows, LargeImages(path, index, 224, "rgb", threads=cores), device)
        theirs = torchvision_batches(large, batch, [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()], cores)
        ours = synaug_batches(data, settings, device)
        calls, rounds = 1 if quick else 20 if gpu else 40, min(rounds, 3)
        figures["data_224_pixels"] = compare_data_paths(ours, theirs, batch, calls, rounds)
        decoder = take_turns({"images_per_s": decoder_batches(data, settings)}, calls, rounds, batch)
        figures["decoder_224_pixels"] = decoder | {"threads": cores}
        figures["step_224_pixels"] = step_rates(data, settings, 2 if quick else 30 if gpu else 3, min(rounds, 2))
        figures["step_224_pixels"]["images_per_s"] = batch * figures["step_224_pixels"]["steps_per_s"]
        figures["step_224_pixels"]["network"] = network
        if gpu:
            figures["step_224_pixels"]["peak_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
    result = {"quick": quick, "device": device, **figures, **measured_on()}
    if not quick:
        name = f"training_{'gpu' if gpu else 'cpu'}.json"
        Path(__file__).with_name("results").joinpath(name).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
