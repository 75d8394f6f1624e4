"""Which images a step sees."""

import numpy as np
import torch

from synaug.runtime.errors import UserError

# Share of class j among the images that are drawn: n_j^q over the sum of them (Kang et al. 2020, eq. 1).
EXPONENTS = {"class_balanced": 0.0, "square_root": 0.5, "group_balanced": 0.0}


def class_shares(sizes: np.ndarray, kind: str) -> np.ndarray:
    """Share of every class among the images that are drawn (float, C); a class without images has none."""
    shares = np.where(sizes > 0, sizes.astype(float) ** EXPONENTS[kind], 0)
    return shares / shares.sum()


def image_shares(labels: np.ndarray, kind: str) -> torch.Tensor | None:
    """How often each image is drawn (float64, N); None: all alike. labels: int, N."""
    if kind == "uniform":
        return None
    sizes = np.bincount(labels)
    return torch.from_numpy((class_shares(sizes, kind) / sizes.clip(1))[labels])


class Sampler:
    """Positions of the images of every step, without end.

    uniform: every image once, in a new order, before any comes again. class_balanced, square_root: a class, all alike
    or by the square root of its size, then any image of it. group_balanced: the same as class_balanced, of cells. What
    `state` gives can be set again, to go on exactly.
    """

    def __init__(self, labels: np.ndarray, batch_size: int, kind: str, rng: np.random.Generator):
        """labels: int, N, of group_balanced the cells; those without images are never drawn."""
        # A batch is never larger than the data: a few images would stand in it twice.
        self.batch_size = min(batch_size, len(labels))
        self.kind = kind
        self.rng = rng
        self.order = np.empty(0, np.int64)
        self.count = len(labels)
        if kind != "uniform":
            self.sizes = np.bincount(labels)
            self.by_class = np.argsort(labels, kind="stable")
            self.first = np.cumsum(self.sizes) - self.sizes
            self.shares = class_shares(self.sizes, kind)

    def draw(self) -> torch.Tensor:
        """Positions of the next step, int64, batch size."""
        if self.kind == "uniform":
            while len(self.order) < self.batch_size:
                self.order = np.concatenate([self.order, self.rng.permutation(self.count)])
            positions, self.order = self.order[: self.batch_size], self.order[self.batch_size :]
        else:
            classes = self.rng.choice(len(self.sizes), self.batch_size, p=self.shares)
            positions = self.by_class[self.first[classes] + self.rng.integers(self.sizes[classes])]
        return torch.from_numpy(positions)

    @property
    def state(self) -> dict:
        """What decides all that comes: the generator's state and what is left of the current order."""
        return {"rng": self.rng.bit_generator.state, "order": torch.from_numpy(self.order.copy())}

    @state.setter
    def state(self, state: dict) -> None:
        self.rng.bit_generator.state = state["rng"]
        self.order = state["order"].numpy()


class Halves:
    """A sampler that draws from `first` for some steps and from `second` after them, each with its own positions.

    first, second: (sampler, positions of its images in the whole, int64). steps: that the first one has.
    """

    def __init__(self, first: tuple[Sampler, np.ndarray], second: tuple[Sampler, np.ndarray], steps: int):
        self.parts = [(sampler, torch.from_numpy(positions)) for sampler, positions in (first, second)]
        self.steps, self.drawn = steps, 0
        self.batch_size, self.count = first[0].batch_size, sum(len(positions) for _, positions in self.parts)
        self.rng = first[0].rng

    def draw(self) -> torch.Tensor:
        """Positions of the next step, int64, batch size."""
        sampler, positions = self.parts[self.drawn >= self.steps]
        self.drawn += 1
        return positions[sampler.draw()]

    @property
    def state(self) -> dict:
        """What decides all that comes."""
        return {"drawn": self.drawn, "parts": [sampler.state for sampler, _ in self.parts]}

    @state.setter
    def state(self, state: dict) -> None:
        self.drawn = state["drawn"]
        for (sampler, _), own in zip(self.parts, state["parts"], strict=True):
            sampler.state = own


def choose_few(labels: np.ndarray, names: list[str], count: int | str | None, rng: np.random.Generator) -> np.ndarray:
    """Positions of `count` images of every class or cell, drawn by `rng` (None: as many as the smallest has; all: all).

    labels: int, N, positions in `names`. Raises UserError if one has fewer.
    """
    if count == "all":
        return np.arange(len(labels))
    sizes = np.bincount(labels, minlength=len(names))
    smallest = int(sizes.argmin())
    count = int(sizes[smallest]) if count is None else count
    if not 0 < count <= sizes[smallest]:
        raise UserError(
            f"stage2.images_per_class: {count} real images of every class are wanted, but class {names[smallest]!r} "
            f"has {sizes[smallest]}; lower it, or set null for as many as the smallest class has"
        )
    return np.concatenate([rng.choice(np.flatnonzero(labels == c), count, replace=False) for c in range(len(names))])
