"""Grey images in colours that go with the class in training and not in the test: a spurious cue made to measure."""

import numpy as np
import pyarrow as pa

from synaug.config import Dataset
from synaug.datasets import table
from synaug.images.codec import decode_image, encode_image, inspect_image
from synaug.manifests.schemas import IMAGE

# As far apart as names for them allow. The first two are those of Colored-MNIST. The background stays black.
COLORS = {
    "red": (230, 20, 20),
    "green": (20, 170, 40),
    "blue": (30, 60, 255),
    "yellow": (255, 235, 20),
    "orange": (255, 135, 0),
    "purple": (130, 20, 170),
    "pink": (255, 140, 200),
    "cyan": (20, 225, 235),
    "brown": (120, 70, 25),
    "white": (255, 255, 255),
}


def color_images(
    images: np.ndarray,
    labels: np.ndarray,
    strength: float | None,
    colors: dict[str, tuple[int, int, int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """`images` (uint8, N x H x W) in colour (uint8, N x H x W x 3), and which colour each has (int64, N).

    After Colored-MNIST (Arjovsky et al. 2019, Invariant Risk Minimization, arXiv 1907.02893), for C classes (`labels`,
    int, N, 0 to C - 1) and K colours (name -> red, green, blue). Unlike there, no label is changed.

    Training: with probability `strength` an image has the colour of its class c, number c * K // C (so of two colours
    the first half of the classes has the first), and otherwise one of the others, all alike. `strength` of 1 / K makes
    colour and class independent. Test (`strength` None): every class has every colour equally often, but for one image
    where the numbers do not divide. The last class must be there in training, as C is its number + 1.

    An image is multiplied by its colour: black stays black, white becomes the colour.
    Raises ValueError for images of another form, labels that do not fit them, less than two colours, or a `strength`
    that is no probability.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images should be uint8, N x H x W, not {images.dtype}, {images.shape}")
    if labels.shape != images.shape[:1] or labels.min(initial=0) < 0:
        raise ValueError("labels should be one number for each image, 0 or more")
    if len(colors) < 2:
        raise ValueError("at least two colours are needed")
    chosen = _balanced(labels, len(colors), rng) if strength is None else _biased(labels, strength, len(colors), rng)
    # Every grey value in every colour, rounded.
    grey, color = np.arange(256)[None, :, None], np.array(list(colors.values()))[:, None, :]
    table = ((grey * color + 127) // 255).astype(np.uint8)
    return table[chosen[:, None, None], images], chosen


def own_colors(classes: int, colors: int) -> np.ndarray:
    """The colour (int64) of every class."""
    return np.arange(classes) * colors // classes


def _biased(labels: np.ndarray, strength: float, colors: int, rng: np.random.Generator) -> np.ndarray:
    if not 0 <= strength <= 1:
        raise ValueError(f"strength should be between 0 and 1, or None, not {strength}")
    own = own_colors(int(labels.max(initial=0)) + 1, colors)[labels]
    other = (own + rng.integers(1, colors, len(labels))) % colors
    return np.where(rng.random(len(labels)) < strength, own, other)


def _balanced(labels: np.ndarray, colors: int, rng: np.random.Generator) -> np.ndarray:
    """Within every class the colours in turns, beginning with any, on the images in any order."""
    chosen = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        images = rng.permutation(np.flatnonzero(labels == label))
        chosen[images] = rng.permutation(colors)[np.arange(len(images)) % colors]
    return chosen


def paint(dataset: Dataset) -> pa.Table:
    """The images of the table `dataset`, painted: image, label_name, split, color, source_path, source_row.

    Of the training split the colour goes with the class as `dataset.painted` says; of all others it does not. Images
    are scaled to `dataset.image_size` first. One that cannot be used stays as it is, to be listed with its reason.
    """
    rows = list(table.find(dataset.model_copy(update={"group_columns": [], "painted": None})))
    names = sorted({row["label_name"] for row in rows})
    colors = dict(list(COLORS.items())[: dataset.painted.colors])
    usable = [inspect_image(row["data"], dataset.max_megapixels)[2] is None for row in rows]
    rng = np.random.default_rng(dataset.painted.seed)
    encoded, chosen = [row["data"] for row in rows], [""] * len(rows)
    for split in sorted({row["split"] for row in rows}):
        where = [i for i, row in enumerate(rows) if row["split"] == split and usable[i]]
        labels = np.array([names.index(rows[i]["label_name"]) for i in where])
        grey = np.stack([decode_image(encoded[i], dataset.image_size, "grey")[..., 0] for i in where])
        strength = dataset.painted.strength if split == dataset.train_split else None
        images, which = color_images(grey, labels, strength, colors, rng)
        for i, image, color in zip(where, images, which, strict=True):
            encoded[i], chosen[i] = encode_image(image), list(colors)[color]
    return pa.table(
        {
            "image": pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(encoded)], IMAGE),
            "label_name": pa.array([row["label_name"] for row in rows]),
            "split": pa.array([row["split"] for row in rows]),
            # Of an image that cannot be used any one: it has none.
            "color": pa.array([color or next(iter(colors)) for color in chosen]),
            "source_path": pa.array([row["path"] for row in rows]),
            "source_row": pa.array([row["row"] for row in rows], pa.int64()),
        }
    )
