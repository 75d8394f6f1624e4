"""`synaug predict`: classes and probabilities of images, from a trained network."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from synaug.commands.terminal import line_text, number_of, progress
from synaug.config import Dataset
from synaug.datasets.folder import looks_like_image
from synaug.datasets.tree import is_skipped
from synaug.images.codec import CHANNELS, decode_image, inspect_image
from synaug.runtime.devices import available_devices
from synaug.runtime.errors import UserError
from synaug.runtime.files import file_hash
from synaug.runtime.machine import usable_cores
from synaug.runtime.shown_text import csv_cell

if TYPE_CHECKING:
    from synaug.networks.classifier import Classifier

_BATCH = 256  # images; of 224 pixels they take 40 MB
_MAX_MEGAPIXELS = Dataset.model_fields["max_megapixels"].default


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image.

    classes: (name, probability from 0 to 1), the most probable first; empty if the image cannot be used. fault: why.
    """

    path: Path
    classes: list[tuple[str, float]]
    fault: str | None = None


def find_images(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    """The files among `paths`, and all image files below the folders among them, sorted by name; and the other files.

    A file is an image by its name or by its header. Hidden files, and folders that a system has added, are left out as
    in a data set. Linked folders are followed. Raises UserError if a path does not exist, or if a folder holds no image
    or cannot be read.
    """
    images, others = [], []
    for path in paths:
        if path.is_dir():
            files = sorted(_files_below(path))
            inside = [file for file in files if looks_like_image(file)]
            others += sorted(set(files) - set(inside))
            if not inside:
                raise UserError(f"{path}: holds no image of a known format", advice="name another folder")
            images += inside
        elif path.exists():
            images.append(path)
        else:
            raise UserError(f"{path}: no such file or folder", advice="correct the path")
    return images, others


def _files_below(folder: Path) -> Iterator[Path]:
    """The files in `folder` and in the folders below it, each folder once. Raises UserError for an unreadable folder.

    Hidden files, and folders that are hidden or that a system has added, are left out.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror})", advice="make it readable, or move it away"
        )

    seen = set()
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        if os.path.realpath(place) in seen:  # reached by a link
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not is_skipped(name)]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def find_weights(model: Path | None) -> Path:
    """The file model.safetensors: `model` itself, or in the folder `model`; of an experiment, its first final network.

    Raises UserError if there is none, or if the final networks do not belong to the present choice. None: raises
    UserError with an example of a folder, if results/ holds one.
    """
    if model is None:
        results = Path("results")
        examples = sorted(results.glob("*/finetune/*/0/model.safetensors"))
        examples = examples or sorted(results.glob("*/train/*/0/model.safetensors"))
        raise UserError(
            "no network given",
            advice=f"for example --model {examples[0].parent}"
            if examples
            else "add --model results/<experiment>/finetune/<recipe>/<seed>, which the workflow writes",
        )
    if _chooses_recipe(model):
        model = first_final_network(model)
    elif (model / "summary.parquet").is_file():
        networks = sorted(model.glob("finetune/*/0")) or sorted(model.glob("train/*/0"))
        example = networks[0] if networks else model / "finetune/<recipe>/<seed>"
        raise UserError(f"{model}: this experiment chooses no recipe", advice=f"name a network, such as {example}")
    path = model / "model.safetensors" if model.is_dir() else model
    if not path.is_file():
        raise UserError(f"{path}: no such file", advice="name a folder such as results/mine/finetune/synaug/0")
    return path


def _chooses_recipe(experiment: Path) -> bool:
    """Whether it is a folder of an experiment with a choice. What an earlier config chose does not count."""
    if not ((experiment / "chosen.parquet").is_file() or (experiment / "final").is_dir()):
        return False
    from synaug.report.page import config_on_page  # imports matplotlib

    page = experiment / "report.html"
    config = config_on_page(page) if page.is_file() else None
    return config is None or config.get("evaluation", {}).get("choose_by") is not None


def first_final_network(experiment: Path) -> Path:
    """The folder of the final network with the lowest seed. Raises UserError as `check_final_network`."""
    seeds = [int(Path(file).parent.name) for file in _files_of_report(experiment) if file.startswith("final/")]
    folder = experiment / "final" / str(min(seeds, default=0))
    check_final_network(folder)
    return folder


def check_final_network(folder: Path) -> None:
    """Raise UserError unless `folder`, <experiment>/final/<seed>, holds a network of the recipe that is chosen now.

    The report says so: it is written last, from the choice and the final networks. (A report of an earlier version of
    synaug does not; the next run writes it again.) Without this check, after changed settings a network of the earlier
    run would pass for one of the new choice until it is trained again.
    """
    experiment, files = folder.parents[1], _files_of_report(folder.parents[1])

    def is_shown(file: Path) -> bool:
        return file.is_file() and file_hash(file) == files.get(file.relative_to(experiment).as_posix())

    if not files:
        problem = f"{experiment}: report.html, which says which final networks belong to the choice, is missing or old"
        raise UserError(problem, advice="run the workflow again")
    if not is_shown(experiment / "chosen.parquet"):
        raise UserError(
            f"{experiment}: report.html shows an earlier choice of the recipe, and final/ may hold its networks",
            advice="run the workflow again",
        )
    if f"final/{folder.name}/predictions.parquet" not in files:
        raise UserError(f"{folder}: the config has no such seed", advice=f"name {experiment}")
    if not is_shown(folder / "predictions.parquet"):
        raise UserError(f"{folder}: is not the network that the report shows", advice="run the workflow again")


def _files_of_report(experiment: Path) -> dict[str, str]:
    from synaug.report.page import final_networks_on_page

    page = experiment / "report.html"
    return final_networks_on_page(page) if page.is_file() else {}


def load_network(weights: Path) -> "Classifier":
    """The network of the file `weights`, on the first device. Raises UserError if the file holds no network."""
    from synaug.commands.timm_files import load_from_timm
    from synaug.networks.classifier import load_classifier

    try:
        network = load_from_timm(weights) or load_classifier(weights)
    except UserError as error:
        # Not with its advice to delete the file and run again: this file may be a copy.
        raise UserError(error.problem, advice="name a model.safetensors that the workflow wrote") from None
    return network.to(available_devices()[0])


def classify(network: "Classifier", images: list[Path], top: int) -> Iterator[Prediction]:
    """The `top` most probable classes of each of `images`, in their order, some hundred images at a time.

    Images are decoded in the same way as the training images.
    """
    import torch

    size, classes = network.config["size"], network.config["classes"]
    color = {channels: color for color, channels in CHANNELS.items()}[network.config["channels"]]
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(images), _BATCH):
            paths = images[start : start + _BATCH]
            decoded = list(pool.map(lambda path: _decode(path, size, color), paths))
            usable = [pixels for pixels in decoded if not isinstance(pixels, str)]
            probabilities = iter(())
            if usable:
                probabilities = iter(network.probabilities(torch.from_numpy(np.stack(usable)).permute(0, 3, 1, 2)))
            for path, pixels in zip(paths, decoded, strict=True):
                if isinstance(pixels, str):
                    yield Prediction(path, [], fault=pixels)
                else:
                    row = next(probabilities)
                    best = np.argsort(-row, kind="stable")[:top]
                    yield Prediction(path, [(classes[i], float(row[i])) for i in best])


def _decode(path: Path, size: int, color: str) -> np.ndarray | str:
    """The pixels of an image file; a text: why it cannot be used."""
    if path.exists() and not path.is_file():
        return "is not a regular file"  # to open a named pipe would wait for a writer
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    fault = inspect_image(data, _MAX_MEGAPIXELS, color)[2]
    return fault or decode_image(data, size, color)


class Format(StrEnum):
    """Format of the output."""

    text = "text"
    csv = "csv"
    json = "json"


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of images.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="results/<experiment> (its chosen network), the folder of a trained network or of `export-model`, or "
            "its file model.safetensors. Required."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 1,
    format_: Annotated[
        Format, typer.Option("--format", help="Text, CSV, or JSON lines (one object per image).")
    ] = Format.text,
) -> None:
    """Classify images with a trained network.

    Prints the most probable class of each image and its probability. Images that cannot be read are listed on standard
    error; the exit status is then 1.

    \b
    Example:
      synaug predict photos/ --model results/mine/finetune/synaug/0 --top 3
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are not UTF-8, as they are
    weights = find_weights(model)
    paths, others = find_images(images)
    network = load_network(weights)
    if others:
        which = f", such as {others[0]}" if len(others) > 1 else f": {others[0]}"
        print(f"{number_of(len(others), 'file')} of no known image format skipped{which}", file=sys.stderr)
    top = min(top, len(network.config["classes"]))
    table = csv.writer(sys.stdout, lineterminator="\n")
    if format_ is Format.csv:
        heads = [(f"class_{i}", f"probability_{i}") if i > 1 else ("class", "probability") for i in range(1, top + 1)]
        table.writerow(["image", *(name for pair in heads for name in pair)])
    unusable = 0
    with progress("classifying", len(paths)) as advance:
        for prediction in classify(network, paths, top):
            if prediction.fault:
                unusable += 1
                print(f"{prediction.path}: {prediction.fault}", file=sys.stderr, flush=True)
            elif format_ is Format.csv:
                values = [value for name, p in prediction.classes for value in (name, f"{p:.6f}")]
                table.writerow(map(csv_cell, [str(prediction.path), *values]))
            else:
                print(_json_line(prediction) if format_ is Format.json else _text_line(prediction))
            advance(1)
    if unusable and len(paths) > 1:
        print(f"{number_of(unusable, 'image')} of {len(paths):,} cannot be used", file=sys.stderr)
    raise typer.Exit(1 if unusable else 0)


def _text_line(prediction: Prediction) -> str:
    return f"{prediction.path}: " + ", ".join(f"{line_text(name)} {value:.3f}" for name, value in prediction.classes)


def _json_line(prediction: Prediction) -> str:
    classes = [{"class": name, "probability": round(value, 6)} for name, value in prediction.classes]
    return json.dumps({"image": str(prediction.path), "classes": classes}, ensure_ascii=False)
