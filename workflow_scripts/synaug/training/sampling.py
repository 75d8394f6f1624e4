"""Which images a step sees."""

import numpy as np
import torch

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
