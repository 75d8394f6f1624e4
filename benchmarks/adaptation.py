"""Measure what adapting a generator to another domain is worth: prompts alone, from scratch, from a start, an adapter.

    python benchmarks/adaptation.py
    python benchmarks/adaptation.py --quick

The base is the embedded generator, which has seen clothes and no digit (Fashion-MNIST). The data are the handwritten
digits of scikit-learn (1,797 images of 8 x 8 pixels, scaled to 32 x 32): 60 of each class are test images, and the
training images are a long tail of 100 to 5 images a class. Four generators fill every class to 100 images:

- prompts: the base as it is;
- scratch: `train_generator` on the training images, from random weights;
- start: the same, from the base (`generator.start`);
- adapter: `adapt_generator` on the training images.

All three trainings get the same number of steps of the same number of images for the denoiser. The autoencoder of
`scratch` and `start` gets as many steps again, while the adapter keeps the base's.

For each seed, of cut, training and sampling:
a. Frechet distance between 60 generated and the 60 test images of each class, in the features of a judge: a classifier
   of all images that are not test images. `read_as_asked` is the share that the judge reads as the requested class.
b. Accuracy (all, and the three rarest classes) on the test images of a classifier trained on real and generated
   images, with the same steps for all; `real` is trained on the real images alone.

Prints one JSON object as its last line; without --quick it also goes to benchmarks/results/adaptation.json, with means
and 95 % intervals over seeds (Student's t).
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits

from hardware import measured_on
from synaug.config import Adaptation, Adapter, Stage1
from synaug.datasets.long_tail import draw, exponential_counts
from synaug.evaluation.intervals import mean_interval
from synaug.generation.pipelines import load_pipeline
from synaug.generation.sampling import sample
from synaug.generator.adapt import LoraAdapter, train_adapter
from synaug.generator.train import train_generator
from synaug.generator.train_autoencoder import encode
from synaug.networks.classifier import Classifier
from synaug.plan.checkpoints import adapters_json, model_version
from synaug.screening.metrics import coverage, frechet_distance
from synaug.training.data import TrainingSet
from synaug.training.sampling import image_probabilities
from synaug.training.stage1 import train_stage1

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "resources" / "embedded_generator"
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
CAPTIONS = [[f"a photo of a {name}", f"an image of a {name}", name] for name in NAMES]
SIZE, TEST_PER_CLASS, LARGEST, FACTOR = 32, 60, 100, 20
SAMPLING = {"steps": 8, "guidance": 2.0, "size": SIZE, "stored_size": SIZE, "color": "grey", "format": "png"}


def main() -> None:
    """Measure, print, and (without --quick) write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2000, help="of the denoiser and of the adapter")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="seeds at a time, each with one thread")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG) of the first seed")
    arguments = parser.parse_args()
    quick = arguments.quick
    budget = {"steps": 3, "batch_size": 4} if quick else {"steps": arguments.steps, "batch_size": 16}
    classifier_steps = 3 if quick else 600
    per_class = 5 if quick else TEST_PER_CLASS
    seeds = range(1 if quick else arguments.seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(arguments.cores, len(seeds)), context, torch.set_num_threads, (1,)) as pool:
        jobs = [
            pool.submit(measure, seed, budget, classifier_steps, per_class, arguments.sheet if not seed else None)
            for seed in seeds
        ]
        runs = [job.result() for job in jobs]
    result = {
        "quick": quick, "seeds": len(runs), **budget, "classifier_steps": classifier_steps,
        "arms": {arm: {name: interval([run[arm][name] for run in runs]) for name in runs[0][arm]} for arm in runs[0]},
        **measured_on(),
    }  # fmt: skip
    if not quick:
        (ROOT / "benchmarks" / "results" / "adaptation.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def measure(seed: int, budget: dict, classifier_steps: int, per_class: int, sheet: Path | None) -> dict[str, dict]:
    """Arm -> its figures, which are printed too. per_class: generated images of each class for the Frechet distance."""
    digits = load_digits()
    pixels = np.stack([scale_up(image) for image in digits.images])
    test = draw(digits.target, [TEST_PER_CLASS] * 10, seed)
    pool = np.setdiff1d(np.arange(len(pixels)), test)
    counts = exponential_counts(LARGEST, FACTOR, 10)
    # Which digit is rare differs from seed to seed.
    counts = [counts[(label + seed) % 10] for label in range(10)]
    train = pool[draw(digits.target[pool], counts, seed)]
    images, labels = pixels[train], digits.target[train]
    test_images, test_labels = pixels[test], digits.target[test]
    rare = np.isin(test_labels, np.argsort(counts)[:3])
    judge = train_classifier(pixels[pool], digits.target[pool], classifier_steps, seed)
    real_features = features(judge, test_images)

    def accuracy(model: Classifier) -> dict:
        correct = predict(model, test_images) == test_labels
        return {"accuracy": float(correct.mean()), "accuracy_rare": float(correct[rare].mean())}

    arms = {"judge": accuracy(judge), "real": accuracy(train_classifier(images, labels, classifier_steps, seed))}
    asked = np.repeat(np.arange(10), per_class)
    missing = np.repeat(np.arange(10), [LARGEST - count for count in counts])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for arm in ("prompts", "scratch", "start", "adapter"):
            start = time.process_time()
            row = make_generator(arm, images, labels, seed, budget, Path(folder))
            cpu_s = time.process_time() - start
            pipeline = load_pipeline(row, "cpu")
            generated = generate(pipeline, row, asked, seed)
            fill = generate(pipeline, row, missing, seed + 1000)
            both = np.concatenate([images, fill]), np.concatenate([labels, missing])
            found = features(judge, generated)
            arms[arm] = {
                "frechet_distance": frechet_distance(real_features, found),
                "coverage": coverage(real_features, found),
                "read_as_asked": float((predict(judge, generated) == asked).mean()),
                **accuracy(train_classifier(*both, classifier_steps, seed)),
                "training_cpu_s": round(cpu_s, 1),
            }
            rows.append(np.concatenate(list(generated[:: max(1, per_class // 2)][:20]), axis=1))
    if sheet:
        Image.fromarray(np.concatenate(rows)).save(sheet)
    print(json.dumps({"seed": seed, **arms}), flush=True)
    return arms


def make_generator(arm: str, images: np.ndarray, labels: np.ndarray, seed: int, budget: dict, folder: Path) -> dict:
    """Train the generator of `arm`. Returns what a row of the plan says of it."""
    model, adapters = BASE, ""
    if arm in ("scratch", "start"):
        model = folder / arm
        train_generator(
            images, labels, CAPTIONS, model, folder / f"{arm}.work", size=SIZE, autoencoder_steps=budget["steps"],
            denoiser_steps=budget["steps"], batch_size=budget["batch_size"], seed=seed,
            image_probabilities=image_probabilities(labels, "square_root"), start=BASE if arm == "start" else None,
        )  # fmt: skip
    elif arm == "adapter":
        weights = folder / "adapter" / "pytorch_lora_weights.safetensors"
        adapt(images, labels, seed, budget, weights, folder / "adapter.work")
        adapters = adapters_json([Adapter(kind="lora", model=str(weights))])
    return {
        "pipeline": "text-to-image", "model": str(model), "model_version": model_version(str(model), None),
        "adapters": adapters, "scheduler": "", "variant": "", "dtype": "float32",
    }  # fmt: skip


def adapt(images: np.ndarray, labels: np.ndarray, seed: int, budget: dict, weights: Path, work: Path) -> None:
    """Train an adapter of the base and write it to `weights`."""
    settings = Adaptation(
        output=str(weights.parent), text_encoder=True, rank=16, learning_rate=3e-3, precision="float32", flip=False,
        layers="all", snr_gamma=None,  # the base is small, the domain far away, and few of its layers are attention
        **budget,
    )  # fmt: skip
    pipeline = load_pipeline(make_generator("prompts", images, labels, seed, budget, weights.parent), "cpu")
    adapter = LoraAdapter(pipeline, SIZE, settings, seed)
    # Here the latents are not read from files, as `encode_images` does.
    mean, std = encode(pipeline.vae, torch.from_numpy(images)[:, None])
    train_adapter(
        adapter, (mean[None], std[None]), torch.from_numpy(labels), CAPTIONS,
        image_probabilities(labels, settings.sampling), seed=seed, work=work, data=[],
    )  # fmt: skip
    adapter.save(weights)


def scale_up(image: np.ndarray) -> np.ndarray:
    """An image of scikit-learn (8 x 8, 0 to 16) as uint8, SIZE x SIZE."""
    enlarged = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(enlarged)


def generate(pipeline, row: dict, labels: np.ndarray, seed: int) -> np.ndarray:
    """One image for each label, uint8, N x SIZE x SIZE; the captions take turns."""
    rows = pd.DataFrame(
        {
            "prompt": [CAPTIONS[label][i % len(CAPTIONS[label])] for i, label in enumerate(labels)],
            "seed": seed * 100_000 + np.arange(len(labels)),
            "negative_prompt": "", "strength": None, "source_image": None, "original_size": 0, "truncate": False,
            **SAMPLING, **row,
        }
    )  # fmt: skip
    images = np.empty((len(rows), SIZE, SIZE), np.uint8)
    for batch, pixels in sample(pipeline, rows, 50):
        images[batch["seed"].to_numpy(int) - seed * 100_000] = pixels[..., 0]
    return images


def train_classifier(images: np.ndarray, labels: np.ndarray, steps: int, seed: int) -> Classifier:
    """A small residual network trained on images (uint8, N x SIZE x SIZE) by stage 1 of the workflow."""
    data = TrainingSet(
        torch.from_numpy(np.ascontiguousarray(images))[:, None],
        torch.from_numpy(np.asarray(labels, np.int64)),
        torch.zeros(len(labels), dtype=torch.bool),
        torch.ones(len(labels)),
    )
    # Four times the width are the features: fewer than images, as the Frechet distance needs.
    return train_stage1(data, NAMES, Stage1(width=8, steps=steps, batch_size=64, flip=False), seed)[0]


def predict(model: Classifier, images: np.ndarray) -> np.ndarray:
    """The most likely label of each image (uint8, N x SIZE x SIZE)."""
    return model.probabilities(torch.as_tensor(images)[:, None]).argmax(1)


@torch.inference_mode()
def features(model: Classifier, images: np.ndarray) -> np.ndarray:
    """The features of the classifier, N x D."""
    return model.features(torch.as_tensor(images)[:, None]).numpy()


def interval(values: list[float | None]) -> dict:
    """Mean of the values and half of its 95 % interval (null with one value, or where a value is missing)."""
    if None in values:
        return {"mean": None, "half_width": None, "values": values}
    mean, low, _ = mean_interval(np.array(values))
    return {"mean": mean, "half_width": mean - low if len(values) > 1 else None, "values": values}


if __name__ == "__main__":
    main()
