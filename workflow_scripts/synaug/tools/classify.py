"""What a trained network says of any images."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from synaug.config import Dataset
from synaug.images.codec import CHANNELS, decode_image, inspect_image
from synaug.networks.classifier import Classifier, load_classifier
from synaug.runtime.devices import available_devices
from synaug.runtime.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_AT_ONCE = 256  # images; of 224 pixels they take 40 MB
_MOST_MEGAPIXELS = Dataset.model_fields["max_megapixels"].default


@dataclass(frozen=True)
class Answer:
    """Of one image: its classes and their probabilities (0 to 1), the best first; or what is wrong with it."""

    path: Path
    classes: list[tuple[str, float]]
    fault: str | None = None


def find_images(paths: list[Path]) -> list[Path]:
    """Files as they are named, and all image files below folders, sorted. Raises UserError if there are none."""
    found = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
            if not inside:
                raise UserError(f"{path}: holds no image (files that end in {', '.join(ENDINGS)})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return found


def find_model(model: Path | None) -> Path:
    """The weights in a folder of a trained network, or the file itself. Raises UserError, which names some, if none."""
    if model is None:
        there = sorted(Path("results").glob("*/finetune/*/0/model.safetensors")) or sorted(
            Path("results").glob("*/train/*/0/model.safetensors")
        )
        hint = f"; here is for instance --model {there[0].parent}" if there else "; the workflow makes them in results/"
        raise UserError(f"say by --model which network: results/<experiment>/finetune/<recipe>/<seed>{hint}")
    path = model / "model.safetensors" if model.is_dir() else model
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a folder like results/mine/finetune/synaug/0")
    return path


def load_network(path: Path) -> Classifier:
    """The network of `find_model`, on the first device there is. Raises UserError if the file holds none."""
    try:
        network = load_classifier(path)
    except UserError as error:
        # Its advice is for files of a run, and this may be a copy.
        raise UserError(str(error).rsplit(";", 1)[0]) from None
    return network.to(available_devices()[0])


def classify(network: Classifier, images: list[Path], top: int) -> Iterator[Answer]:
    """The `top` classes of each of `images`, in their order, some hundred at a time.

    Images are decoded as those that the network was trained on. One that cannot be used is an answer with its fault.
    """
    size, classes = network.config["size"], network.config["classes"]
    color = {channels: color for color, channels in CHANNELS.items()}[network.config["channels"]]
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), _AT_ONCE):
            some = images[start : start + _AT_ONCE]
            decoded = list(pool.map(lambda path: _decode(path, size, color), some))
            good = [pixels for pixels in decoded if not isinstance(pixels, str)]
            found = iter(network.probabilities(torch.from_numpy(np.stack(good)).permute(0, 3, 1, 2)) if good else ())
            for path, pixels in zip(some, decoded, strict=True):
                if isinstance(pixels, str):
                    yield Answer(path, [], pixels)
                else:
                    own = next(found)
                    best = np.argsort(-own, kind="stable")[:top]
                    yield Answer(path, [(classes[i], float(own[i])) for i in best])


def _decode(path: Path, size: int, color: str) -> np.ndarray | str:
    """Pixels, or why there are none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    fault = inspect_image(data, _MOST_MEGAPIXELS)[2]
    return fault or decode_image(data, size, color)
