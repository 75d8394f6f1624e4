"""Small training sets whose classes a small network learns in a few steps."""

import numpy as np
import torch

from synaug.training.data import TrainingSet

# Three classes of `brightness_classes`.
CLASSES = ["dark", "middle", "light"]
# Two classes and their four cells, of `spurious_brightness`.
SIDES = ["left", "right"]
CELLS = ["left, dark", "left, light", "right, dark", "right, light"]


def brightness_classes(counts=(30, 20, 6), synthetic: float = 0.0, side: int = 12, seed: int = 0) -> TrainingSet:
    """Noise whose brightness is its class: easy to learn. synthetic: share of synthetic images."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 60, (len(labels), 1, side, side)) + 90 * labels[:, None, None, None]
    return TrainingSet(
        torch.from_numpy(images.astype(np.uint8)),
        torch.from_numpy(labels),
        torch.from_numpy(rng.random(len(labels)) < synthetic),
        torch.ones(len(labels)),
    )


def spurious_brightness(counts=(95, 5, 5, 95), seed: int = 0) -> TrainingSet:
    """The class is the side on which a faint bar stands. The brightness is correlated with it: images per cell."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(4), counts)
    labels, light = cells // 2, cells % 2
    images = rng.integers(0, 60, (len(cells), 1, 12, 12)) + 100 * light[:, None, None, None]
    for image, label in zip(images, labels, strict=True):
        image[0, :, 2 + 6 * label : 4 + 6 * label] += 20
    return TrainingSet(
        torch.from_numpy(images.astype(np.uint8)),
        torch.from_numpy(labels),
        torch.zeros(len(cells), dtype=torch.bool),
        torch.ones(len(cells)),
        torch.from_numpy(cells),
        CELLS,
    )


def worst_cell_accuracy(model) -> float:
    """Accuracy of a classifier of `spurious_brightness` on the cell where it is lowest; 60 new images of each cell."""
    test = spurious_brightness((60, 60, 60, 60), seed=1)
    right = torch.from_numpy(model.probabilities(test.images).argmax(1)) == test.labels
    return min(right[test.cells == cell].float().mean().item() for cell in range(4))


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal, bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
