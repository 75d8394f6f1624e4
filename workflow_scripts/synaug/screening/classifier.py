"""The screening classifier: it is trained on the real images only, with equally many images of every class."""

from synaug.config import Stage1
from synaug.networks.classifier import Classifier
from synaug.training.data import TrainingSet
from synaug.training.stage1 import train_stage1


def train_screening_classifier(
    data: TrainingSet,
    classes: list[str],
    steps: int,
    seed: int,
    network: dict | None = None,
    augmentation: dict | None = None,
) -> Classifier:
    """Train a small network on the real images in `data`; with `network`, only its last layer.

    network: of `screening_network`; `data` then has the features of the images. augmentation: of
    `screening_augmentation`; without it, images are mirrored and shifted as by default.
    Batches are class-balanced. Otherwise the network would hardly ever predict a rare class, and nearly all synthetic
    images of rare classes would be rejected. The same seed and number of threads give the same network; on a GPU up to
    the last bits of sums.
    Raises UserError if a class has no image.
    """
    settings = Stage1(steps=steps, sampling="class_balanced", **(network or {"width": 24}), **(augmentation or {}))
    model, _ = train_stage1(data, classes, settings, seed)
    return model
