"""Data sets of torchvision by the name of their class: those of images with one class each.

Their images come decoded, so they are stored as PNG. Splits go by what the class can be asked for: `split` with the
names of the config, `train` (true for the training split, false for the test split), or nothing, with make_splits.
"""

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from synaug.config import Dataset
from synaug.images.codec import encode_image
from synaug.runtime.errors import UserError


def files(dataset: Dataset) -> list[Path]:
    """None to be declared, since only the class knows them. Raises UserError if the folder is missing."""
    if not dataset.download and not Path(dataset.path).is_dir():
        raise UserError(
            f"dataset.path: {dataset.path} is not a folder; give the `root` that holds {dataset.name}, "
            "or set dataset.download: true where there is a network"
        )
    return []


def find(dataset: Dataset) -> Iterator[dict]:
    """Yield `split, label_name, attributes` (none) and `data` (PNG) of every image.

    Raises UserError for a class that torchvision does not have, that is of another kind or lacks a split, and for files
    that are missing.
    """
    kind = _class(dataset.name)
    asked = inspect.signature(kind.__init__).parameters
    given = [split for split in dataset.splits if split not in dataset.make_splits]
    if "split" in asked:
        settings = {split: {"split": split} for split in given}
    elif "train" in asked:
        unknown = set(given) - {dataset.train_split, dataset.test_split}
        if unknown:
            raise UserError(f"dataset.validation_split: {dataset.name} has none; have one made: dataset.make_splits")
        settings = {split: {"train": split == dataset.train_split} for split in given}
    elif dataset.unsplit:
        settings = {dataset.train_split: {}}
    else:
        raise UserError(
            f"dataset.name: {dataset.name} has no splits; have them made: dataset.make_splits: {{test: 0.2}}"
        )
    for split, choice in settings.items():
        try:
            images = kind(dataset.path, download=True, **choice) if dataset.download else kind(dataset.path, **choice)
        except (OSError, RuntimeError, ValueError, TypeError, ImportError) as error:
            why = " ".join(str(error).split())
            raise UserError(f"dataset.name: {dataset.name} cannot be read from {dataset.path} ({why})") from None
        names = getattr(images, "classes", None) or getattr(images, "categories", None)
        for number in range(len(images)):
            image, label = images[number]
            if not isinstance(label, int | np.integer):
                raise UserError(
                    f"dataset.name: {dataset.name} has no class for an image but {label!r:.40}; use another"
                )
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            name = names[label] if names else label
            name = name if isinstance(name, str | int | np.integer) else name[0]  # some have several words for a class
            yield {"split": split, "label_name": str(name), "attributes": [], "data": encode_image(pixels)}


def _class(name: str) -> type:
    """The class of torchvision. Raises UserError with the likely one if there is none."""
    from torchvision import datasets  # only here: all else does without torch

    if name not in datasets.__all__:
        likely = get_close_matches(name, datasets.__all__, 3, 0.3)
        raise UserError(f"dataset.name: torchvision has no {name!r}; the closest: {', '.join(likely) or 'none'}")
    return getattr(datasets, name)
