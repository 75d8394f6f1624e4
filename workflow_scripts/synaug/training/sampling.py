"""Sampling: which images a batch consists of."""

import numpy as np
import torch

from synaug.runtime.errors import UserError

# Exponent q: class j is drawn with probability n_j^q / sum_i n_i^q (Kang et al. 2020, eq. 1).
EXPONENTS = {"class_balanced": 0.0, "square_root": 0.5, "group_balanced": 0.0}


def class_probabilities(class_counts: np.ndarray, sampling: str) -> np.ndarray:
    """Probability that each class is drawn (float, C); 0 for a class without images."""
    probabilities = np.where(class_counts > 0, class_counts.astype(float) ** EXPONENTS[sampling], 0)
    return probabilities / probabilities.sum()


def image_probabilities(labels: np.ndarray, sampling: str) -> torch.Tensor | None:
    """Probability that each image is drawn (float64, N); None: uniform. labels: int, N."""
    if sampling == "uniform":
        return None
    class_counts = np.bincount(labels)
    return torch.from_numpy((class_probabilities(class_counts, sampling) / class_counts.clip(1))[labels])


class Sampler:
    """An endless series of batches, as positions of images.

    uniform: each image once, in random order, before any image comes again. class_balanced, square_root: for each
    image of the batch a class is drawn, then any image of this class. group_balanced: as class_balanced, but with cells
    (a class in a group) in place of classes.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, sampling: str, rng: np.random.Generator):
        """labels: class of each image, int, N; for group_balanced its cell. Classes without images are never drawn."""
        # A batch is never larger than the data, or it would contain images twice.
        self.batch_size = min(batch_size, len(labels))
        self.image_count = len(labels)
        self.sampling = sampling
        self.rng = rng
        self.epoch_rest = np.empty(0, np.int64)  # uniform: positions of the current epoch that have not been drawn
        if sampling != "uniform":
            self.class_counts = np.bincount(labels)
            self.class_probabilities = class_probabilities(self.class_counts, sampling)
            self.by_class = np.argsort(labels, kind="stable")  # positions of the images, sorted by class
            self.class_starts = np.cumsum(self.class_counts) - self.class_counts  # first image of each class therein

    def draw(self) -> torch.Tensor:
        """Positions of the images of the next batch, int64, batch size."""
        if self.sampling == "uniform":
            while len(self.epoch_rest) < self.batch_size:
                self.epoch_rest = np.concatenate([self.epoch_rest, self.rng.permutation(self.image_count)])
            positions, self.epoch_rest = self.epoch_rest[: self.batch_size], self.epoch_rest[self.batch_size :]
        else:
            classes = self.rng.choice(len(self.class_counts), self.batch_size, p=self.class_probabilities)
            number_in_class = self.rng.integers(self.class_counts[classes])
            positions = self.by_class[self.class_starts[classes] + number_in_class]
        return torch.from_numpy(positions)

    def state_dict(self) -> dict:
        """Everything that decides the next batches. `load_state_dict` continues with exactly these."""
        # No copy, because a `Prefetcher` asks for the state at every batch. The array itself is never changed.
        return {"rng": self.rng.bit_generator.state, "epoch_rest": torch.from_numpy(self.epoch_rest)}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict`."""
        self.rng.bit_generator.state = state["rng"]
        self.epoch_rest = state["epoch_rest"].numpy()


class TwoPhaseSampler:
    """Draws the first batches from one part of the images, and all later ones from another part.

    first, second: a sampler and the positions of its images in the whole training set, int64. first_steps: batches of
    the first phase. Both samplers share one random generator.
    """

    def __init__(self, first: tuple[Sampler, np.ndarray], second: tuple[Sampler, np.ndarray], first_steps: int):
        self.phases = [(sampler, torch.from_numpy(positions)) for sampler, positions in (first, second)]
        self.first_steps, self.steps_drawn = first_steps, 0
        self.batch_size = first[0].batch_size
        self.image_count = sum(len(positions) for _, positions in self.phases)
        self.rng = first[0].rng

    def draw(self) -> torch.Tensor:
        """Positions of the images of the next batch, int64, batch size."""
        sampler, positions = self.phases[0 if self.steps_drawn < self.first_steps else 1]
        self.steps_drawn += 1
        return positions[sampler.draw()]

    def state_dict(self) -> dict:
        """Everything that decides the next batches."""
        return {"steps_drawn": self.steps_drawn, "samplers": [sampler.state_dict() for sampler, _ in self.phases]}

    def load_state_dict(self, state: dict) -> None:
        """Continue from `state_dict`."""
        self.steps_drawn = state["steps_drawn"]
        for (sampler, _), sampler_state in zip(self.phases, state["samplers"], strict=True):
            sampler.load_state_dict(sampler_state)


def subsample_per_class(
    cells: np.ndarray,
    class_of_cell: np.ndarray,
    names: list[str],
    count: int | str | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Positions of random images, equally many of every class, spread evenly over its cells: int64.

    cells: position of each image's cell in `names`, int, N. Without groups the classes are the cells. class_of_cell:
    int, one per cell. count: images of a cell, in the classes with the most cells; a class without images in a group
    has more images in its other cells. None: as many as possible; "all": all images.
    Raises UserError if a cell has fewer images than are wanted of it.
    """
    if count == "all":
        return np.arange(len(cells))
    sizes = np.bincount(cells, minlength=len(names))
    cells_of_class = [np.flatnonzero(class_of_cell == label) for label in range(class_of_cell.max() + 1)]
    most_cells = max(len(members) for members in cells_of_class)
    if count is None:
        of_class = min(len(members) * int(sizes[members].min()) for members in cells_of_class)
    else:
        of_class = count * most_cells
    wanted = np.zeros(len(names), np.int64)
    for members in cells_of_class:
        # What cannot be spread evenly comes from the largest cells.
        largest_first = members[np.argsort(-sizes[members], kind="stable")]
        wanted[largest_first] = of_class // len(members) + (np.arange(len(members)) < of_class % len(members))
    lacking = np.flatnonzero(wanted > sizes)
    if len(lacking):
        cell = lacking[sizes[lacking].argmin()]
        raise UserError(
            f"stage2.images_per_class: {wanted[cell]} real images of class {names[cell]!r} are wanted, but it "
            f"has {sizes[cell]}",
            advice="lower it, or set null for as many as the smallest class has",
        )
    return np.concatenate([rng.choice(np.flatnonzero(cells == i), wanted[i], replace=False) for i in range(len(names))])
