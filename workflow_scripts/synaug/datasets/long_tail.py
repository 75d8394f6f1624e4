"""Long-tailed cuts of balanced data sets."""

import numpy as np

from synaug.runtime.errors import UserError


def exponential_counts(largest: int, factor: float, classes: int) -> list[int]:
    """Images per class, `largest` down to largest/factor: n_c = int(largest * (1/factor)^(c/(classes-1))).

    The profile of Cui et al. (2019) and Cao et al. (2019, LDAM-DRW).
    """
    return [int(largest * (1 / factor) ** (c / (classes - 1))) for c in range(classes)]


def draw_as_ldam_drw(labels: np.ndarray, counts: list[int], seed: int) -> np.ndarray:
    """Positions (int64) of the cut of `labels` (int, N) that the code of LDAM-DRW makes, in the same order.

    Cao et al. (2019), imbalance_cifar.py: for each class in ascending order, the ascending positions are shuffled and
    the first counts[c] are kept. All classes draw from one stream of numpy's legacy generator, whose numbers never
    change.
    """
    rng = np.random.RandomState(seed)
    kept = []
    for label, count in zip(np.unique(labels), counts, strict=True):
        positions = np.flatnonzero(labels == label)
        rng.shuffle(positions)
        kept.append(positions[:count])
    return np.concatenate(kept)


def draw(labels: np.ndarray, counts: list[int], seed: int) -> np.ndarray:
    """Positions of a random cut of `labels` (int, N) with counts[c] images of class c; sorted within each class.

    Raises ValueError if class c has fewer than counts[c] images.
    """
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [np.sort(rng.choice(np.flatnonzero(labels == c), n, replace=False)) for c, n in enumerate(counts)]
    )


def cut_rows(rows: list[dict], factor: float, largest: int | None, seed: int) -> list[dict]:
    """The training images `rows` (label_name, sha256, usable) that a cut keeps, in their order, and all unusable ones.

    The largest class keeps `largest` images (None: all), the smallest `factor` times fewer, and those between by their
    rank. The contents of the images and `seed` decide which images are kept; their names and order do not.
    Raises UserError if a class has too few images, or would keep none.
    """
    by_class: dict[str, list[dict]] = {}
    for row in rows:
        if row["usable"]:
            by_class.setdefault(row["label_name"], []).append(row)
    order = sorted(by_class, key=lambda name: (-len(by_class[name]), name))
    counts = exponential_counts(largest or len(by_class[order[0]]), factor, len(order))
    rng = np.random.default_rng(seed)
    kept = set()
    for name, count in zip(order, counts, strict=True):
        members = sorted(by_class[name], key=lambda row: row["sha256"])
        if not 0 < count <= len(members):
            raise UserError(
                f"dataset.imbalance_factor: {factor:g}, largest class {counts[0]}: class {name!r} should keep {count} "
                f"of its {len(members)} images; change imbalance_factor or largest_class"
            )
        kept |= {id(members[i]) for i in rng.choice(len(members), count, replace=False)}
    return [row for row in rows if not row["usable"] or id(row) in kept]
