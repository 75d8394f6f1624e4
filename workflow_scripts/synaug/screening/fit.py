"""The classifier of the screening: trained on the real images alone, every class seen equally often."""

from synaug.config import Stage1
from synaug.networks.classifier import Classifier
from synaug.training.data import TrainingSet
from synaug.training.stage1 import train_stage1


def fit_screener(data: TrainingSet, classes: list[str], steps: int, seed: int) -> Classifier:
    """A small network that knows the classes from the real images in `data`.

    Each image of a batch is of a class drawn at random: or it would hardly ever say a rare class, and images of rare
    classes would be rejected wholesale. The same seed on the same device and number of threads gives the same network.
    Raises UserError if a class has no image.
    """
    return train_stage1(data, classes, Stage1(width=24, steps=steps, sampling="class_balanced"), seed)[0]
