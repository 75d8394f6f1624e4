"""Long-tailed cuts of balanced data sets."""

import numpy as np


def exponential_counts(largest: int, factor: float, classes: int) -> list[int]:
    """Images per class, `largest` down to largest/factor: n_c = int(largest * (1/factor)^(c/(classes-1))).

    The profile of Cui et al. (2019) and Cao et al. (2019, LDAM-DRW).
    """
    return [int(largest * (1 / factor) ** (c / (classes - 1))) for c in range(classes)]


def draw_as_ldam_drw(labels: np.ndarray, counts: list[int], seed: int) -> np.ndarray:
    """Positions (int64) of the cut of `labels` (int, N) that the code of LDAM-DRW makes, in its order.

    Cao et al. (2019), imbalance_cifar.py: class by class in ascending order, the ascending positions are shuffled and
    the first counts[c] are kept; one stream of numpy's legacy generator, whose numbers never change, for all classes.
    """
    rng = np.random.RandomState(seed)
    kept = []
    for label, count in zip(np.unique(labels), counts, strict=True):
        positions = np.flatnonzero(labels == label)
        rng.shuffle(positions)
        kept.append(positions[:count])
    return np.concatenate(kept)


def draw(labels: np.ndarray, counts: list[int], seed: int) -> np.ndarray:
    """Positions of a random cut of `labels` (int, N) with counts[c] images of class c, class by class, each sorted.

    Raises ValueError if a class has fewer images than are asked for.
    """
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [np.sort(rng.choice(np.flatnonzero(labels == c), n, replace=False)) for c, n in enumerate(counts)]
    )
