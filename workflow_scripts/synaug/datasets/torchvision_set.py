"""Data sets of torchvision, by the name of their Python class: those with one class (label) per image.

Their images are decoded, so they are stored as PNG. The arguments of the Python class decide how a split is loaded: by
`split`, with the names of the config, or by `train`, which is true for the training and false for the test split. If it
has neither argument, the splits must be made (make_splits).
"""

import inspect
import re
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from synaug.config import Dataset
from synaug.datasets.tree import check_holds_no_results, files_below, is_skipped
from synaug.images.codec import encode_image
from synaug.runtime.errors import UserError, short_text

# Data sets whose files do not begin with their name -> how they begin; nothing: they lie in the root beside others.
_BEGINNINGS = {"CLEVRClassification": "clevr", "LFWPeople": "lfw-py"} | dict.fromkeys(
    ("ImageFolder", "ImageNet", "INaturalist", "Places365", "SVHN"), ""
)


def files(dataset: Dataset) -> list[Path]:
    """An empty list, since only torchvision knows the files.

    Raises UserError if the folder is missing, or if its files (see `image_files`) would include those of the results.
    """
    if not dataset.download and not Path(dataset.path).is_dir():
        raise UserError(
            f"dataset.path: {dataset.path} is not a folder; give the `root` that holds {dataset.name}, "
            "or set dataset.download: true where there is a network"
        )
    if not dataset.download and not _entries_of_name(dataset):
        check_holds_no_results(Path(dataset.path))
    return []


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` (none) and `data` (PNG) of every image.

    Raises UserError for a name that torchvision does not have, for a data set without classes or without one of the
    splits, for missing files, and for an image that cannot be read.
    """
    for split, images in _splits(dataset):
        names = getattr(images, "classes", None) or getattr(images, "categories", None)
        for number in range(len(images)):
            try:
                image, label = images[number]
            except Exception as error:  # a damaged file can raise nearly any exception
                raise UserError(
                    f"dataset.name: {dataset.name}: image {number} of split {split!r} cannot be read "
                    f"({short_text(error)})",
                    advice=f"restore or remove its file in {dataset.path}; the first image is number 0",
                ) from None
            if not isinstance(label, int | np.integer):
                raise UserError(
                    f"dataset.name: {dataset.name} has labels that are not classes, such as {label!r:.40}; use another"
                )
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            name = names[label] if names else label
            name = name if isinstance(name, str | int | np.integer) else name[0]  # a tuple of synonyms, as in ImageNet
            yield {"split": split, "label_name": str(name), "attributes": [], "data": encode_image(pixels)}


def download(dataset: Dataset) -> None:
    """Download the splits that are missing, if the config allows it. Raises UserError as `find`, if one is missing."""
    for _ in _splits(dataset):
        pass


def _splits(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Yield the name and the data set of torchvision of every split that is not made. Raises UserError as `find`."""
    load = _data_set(dataset.name)
    parameters = inspect.signature(load.__init__).parameters
    if "split" in parameters:
        arguments = {split: {"split": split} for split in dataset.given_splits}
    elif "train" in parameters:
        if set(dataset.given_splits) - {dataset.train_split, dataset.test_split}:
            raise UserError(
                f"dataset.validation_split: {dataset.name} has no validation split; have one made: dataset.make_splits"
            )
        arguments = {split: {"train": split == dataset.train_split} for split in dataset.given_splits}
    elif dataset.unsplit:
        arguments = {dataset.train_split: {}}
    else:
        raise UserError(
            f"dataset.name: {dataset.name} has no splits; have them made: dataset.make_splits: {{test: 0.2}}"
        )
    if dataset.download:
        arguments = {split: {"download": True, **settings} for split, settings in arguments.items()}
    for split, settings in arguments.items():
        try:
            images = load(dataset.path, **settings)
        except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
            why = " ".join(str(error).split())
            raise UserError(
                f"dataset.name: {dataset.name} cannot be read from {dataset.path} ({why})",
                advice="put its files there, or set dataset.download: true where there is a network",
            ) from None
        yield split, images


def image_files(dataset: Dataset) -> Iterator[str]:
    """Paths of the files of the data set: those in the entries of `path` that begin with its name, or else all of them.

    There are none if torchvision may download them: a download must not look like a changed input.
    Raises UserError as `files`.
    """
    files(dataset)
    if dataset.download:
        return
    for entry in _entries_of_name(dataset) or _entries(dataset):
        yield from [str(entry)] if entry.is_file() else map(str, files_below(entry, "*"))


def _entries(dataset: Dataset) -> list[Path]:
    return sorted(entry for entry in Path(dataset.path).iterdir() if not is_skipped(entry.name))


def _entries_of_name(dataset: Dataset) -> list[Path]:
    """The files and folders in `path` whose names begin with that of the data set: stanford_cars for StanfordCars."""
    beginning = _letters(_BEGINNINGS.get(dataset.name, dataset.name))
    return [entry for entry in _entries(dataset) if beginning and _letters(entry.name).startswith(beginning)]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _data_set(name: str) -> type:
    """The Python class of torchvision. Raises UserError with the closest names if there is no such class."""
    from torchvision import datasets  # here, because it imports torch, which no other source needs

    if name not in datasets.__all__:
        closest = get_close_matches(name, datasets.__all__, 3, 0.3)
        raise UserError(f"dataset.name: torchvision has no {name!r}; the closest: {', '.join(closest) or 'none'}")
    return getattr(datasets, name)
