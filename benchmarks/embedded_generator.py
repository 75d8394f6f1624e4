"""Measure the embedded generator: do its images show the prompted class, can they train a classifier, how fast is it?

    python benchmarks/embedded_generator.py FOLDER
    python benchmarks/embedded_generator.py --quick

FOLDER holds the four official Fashion-MNIST files (see resources/fashion_mnist_lt/make.py). Three measurements, all
on images of the size that the workflow uses (32 x 32; real ones are scaled up from 28):

a. A judge, which is a classifier trained on the generator's 58,764 training images, classifies the generated images.
   The judge's own accuracy on the 10,000 official test images is reported, because it limits what its answers mean.
b. A classifier trained only on generated images is tested on the 10,000 official test images, and so is one trained on
   as many of the generator's training images.
c. Images per second, the fastest of several rounds, with the load of the machine by other programs at that time.

Prints one JSON object as its last line; without --quick it also goes to benchmarks/results/embedded_generator.json.
--quick (a judge of one epoch, 20 images per class, the embedded real images instead of FOLDER) shows that the program
works, not how good the generator is.
"""

import argparse
import io
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from PIL import Image

from hardware import measured_on
from synaug.datasets import fashion_mnist
from synaug.generation.pipelines import load_pipeline
from synaug.generation.sampling import sample
from synaug.networks.classifier import Classifier
from synaug.plan.checkpoints import model_version

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "resources" / "embedded_generator"
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
TEMPLATES = ["a photo of a {}", "a picture of a {}", "a product photo of a {}", "an image of a {}"]
STEPS, GUIDANCE, BATCH_SIZE, SIZE = 8, 2.25, 100, 32


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG): a row a class, ten images each")
    arguments = parser.parse_args()
    quick = arguments.quick
    if not (arguments.folder or quick):
        parser.error("FOLDER is needed: the folder of the four official Fashion-MNIST files")
    per_class = 20 if quick else 500

    pipeline = load_pipeline(model_row(), "cpu")
    speed, load = measure_speed(pipeline, rounds=1 if quick else 5, batches=1 if quick else 3)
    labels = np.repeat(np.arange(len(NAMES)), per_class)
    images = generate(pipeline, labels)
    if arguments.sheet:
        write_sheet(arguments.sheet, images, labels)

    if arguments.folder:
        (pool, pool_labels), (test, test_labels) = read_pool(arguments.folder), read_official(arguments.folder, "test")
    else:
        (pool, pool_labels), (test, test_labels) = read_embedded("train"), read_embedded("test")
    pool, test = scale_up(pool), scale_up(test)
    epochs = 2 if quick else 16
    random = np.random.default_rng(0)
    same_number = np.concatenate(
        [random.choice(np.flatnonzero(pool_labels == label), per_class, replace=quick) for label in range(len(NAMES))]
    )
    seeds = [0] if quick else [0, 1, 2]
    # A training a core: together they are done sooner than one after the other on all cores.
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), torch.set_num_threads, (1,)) as cores:
        judged = cores.submit(train_and_read, pool, pool_labels, 1 if quick else 10, 0, test, images)
        made = [cores.submit(train_and_read, images, labels, epochs, seed, test) for seed in seeds]
        same = pool[same_number], pool_labels[same_number]
        true = [cores.submit(train_and_read, *same, epochs, seed, test) for seed in seeds]
        judge_on_test, asked = judged.result()
        synthetic, real = ([share(one.result()[0], test_labels) for one in runs] for runs in (made, true))
    read = asked == labels
    by_class = {name: round(float(read[labels == label].mean()), 4) for label, name in enumerate(NAMES)}
    result = {
        "quick": quick,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "batch_size": BATCH_SIZE,
        "generated_images_per_class": per_class,
        "judge_accuracy_on_test": share(judge_on_test, test_labels),
        "read_as_asked_share": round(float(read.mean()), 4),
        "read_as_asked_share_by_class": by_class,
        "trained_on_synthetic_accuracy_on_test": synthetic,
        "trained_on_as_many_real_accuracy_on_test": real,
        "images_per_s": speed,
        "cpu_load_of_others_cores": load,
        "megabytes_of_weights": round(sum(file.stat().st_size for file in MODEL.rglob("*.safetensors")) / 1e6, 2),
        **measured_on("numpy"),
    }
    if not quick:
        path = ROOT / "benchmarks" / "results" / "embedded_generator.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def scale_up(images: np.ndarray) -> np.ndarray:
    """Real images (uint8, N x 28 x 28) as the workflow decodes them: SIZE x SIZE."""
    size = (SIZE, SIZE)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in images])


def model_row() -> dict:
    """What a row of the plan says of the model."""
    return {
        "pipeline": "text-to-image", "model": str(MODEL), "model_version": model_version(str(MODEL), None),
        "adapters": "", "scheduler": "", "variant": "", "dtype": "float32", "source_image": None,
    }  # fmt: skip


def read_official(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The images (uint8, N x 28 x 28) and labels (N) of `part` (train or test) in the four official files."""
    images, labels, _ = fashion_mnist.read(folder, "fashion_mnist", part)
    return images[..., 0], labels


def read_pool(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The training images that are not in the embedded cut (uint8, N x 28 x 28) and their labels (N)."""
    images, labels = read_official(folder, "train")
    cut = json.loads((ROOT / "resources" / "fashion_mnist_lt" / "indices.json").read_text())["train"]
    return np.delete(images, cut, axis=0), np.delete(labels, cut)


def read_embedded(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The embedded real images of `split` (uint8, N x 28 x 28) and their labels (N)."""
    table = pq.read_table(ROOT / "resources" / "fashion_mnist_lt" / f"{split}.parquet").combine_chunks()
    encoded = table.column("image").combine_chunks().field("bytes").to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in encoded]), table.column("label").to_numpy()


def generate(pipeline, labels: np.ndarray) -> np.ndarray:
    """One image for each label, uint8, N x SIZE x SIZE, made as the workflow makes them; the wordings take turns."""
    rows = pd.DataFrame(
        {
            "prompt": [TEMPLATES[i % len(TEMPLATES)].format(NAMES[label]) for i, label in enumerate(labels)],
            "seed": np.arange(len(labels)),
            "size": SIZE, "stored_size": SIZE, "color": "grey", "steps": STEPS, "guidance": GUIDANCE,
            "negative_prompt": "", "strength": None, "original_size": 0, "truncate": False,
            "format": "png", **model_row(),
        }
    )  # fmt: skip
    order = {int(seed): i for i, seed in enumerate(rows["seed"])}
    images = np.empty((len(rows), SIZE, SIZE), np.uint8)
    for batch, pixels in sample(pipeline, rows, BATCH_SIZE):
        images[[order[int(seed)] for seed in batch["seed"]]] = pixels[..., 0]
    return images


def measure_speed(pipeline, rounds: int, batches: int) -> tuple[float, float]:
    """Images/s of the fastest of `rounds`, and how many cores other processes kept busy during it."""
    labels = np.arange(batches * BATCH_SIZE) % len(NAMES)
    generate(pipeline, labels[:BATCH_SIZE])  # the first batch pays for start-up
    measured = []
    for _ in range(rounds):
        start, busy = time.perf_counter(), busy_seconds()
        generate(pipeline, labels)
        seconds = time.perf_counter() - start
        measured.append((round(len(labels) / seconds, 1), round((busy_seconds() - busy) / seconds, 2)))
    return max(measured)


def busy_seconds() -> float:
    """CPU seconds that all processes but this one have used since the machine started (Linux; elsewhere 0)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except FileNotFoundError:
        return 0.0
    user, nice, system, _, _, irq, softirq = map(int, fields[:7])
    own = time.process_time()
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK") - own


def train(images: np.ndarray, labels: np.ndarray, epochs: int, seed: int = 0) -> Classifier:
    """A small residual network trained on images (uint8, N x SIZE x SIZE) with shifts and mirroring."""
    torch.manual_seed(seed)
    pixels, targets = torch.as_tensor(images)[:, None], torch.as_tensor(labels).long()
    model = Classifier("resnet8", 32, NAMES, SIZE, 1).to(memory_format=torch.channels_last)
    model.set_normalisation(pixels)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02, fused=True)
    size = 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * (len(pixels) // size) + 1)
    for _ in range(epochs):
        for batch in torch.randperm(len(pixels)).split(size):
            if len(batch) < size:
                continue
            across, down = torch.randint(0, 5, (2,)).tolist()
            shown = F.pad(pixels[batch], (2, 2, 2, 2))[:, :, down : down + SIZE, across : across + SIZE]
            shown = shown.flip(3) if torch.rand(()) < 0.5 else shown
            loss = F.cross_entropy(model(shown), targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def predict(model: Classifier, images: np.ndarray) -> np.ndarray:
    """The most likely label of each image (uint8, N x SIZE x SIZE)."""
    return model.probabilities(torch.as_tensor(images)[:, None]).argmax(1)


def train_and_read(
    images: np.ndarray, labels: np.ndarray, epochs: int, seed: int, *others: np.ndarray
) -> list[np.ndarray]:
    """Train, and return the most likely label of each image of each of `others` (uint8, N x SIZE x SIZE)."""
    model = train(images, labels, epochs, seed)
    return [predict(model, other) for other in others]


def share(found: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that get their own label."""
    return round(float((found == labels).mean()), 4)


def write_sheet(path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Ten images of each class, a row a class, twice enlarged."""
    rows = [np.concatenate(list(images[labels == label][:10]), axis=1) for label in range(len(NAMES))]
    sheet = Image.fromarray(np.concatenate(rows))
    sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
