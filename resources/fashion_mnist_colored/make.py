"""Make Colored Fashion-MNIST: grey images in colours that depend on the class in training, but not in the test.

    python resources/fashion_mnist_colored/make.py SOURCE OUT --strength 0.95 [--colors 2] [--seed 0] [--size 32]

SOURCE: a Parquet table of grey images with the columns image, label_name and split, a folder of such tables, or the
folder of the four official files of Fashion-MNIST. Writes OUT/images.parquet, which an experiment reads with `source:
table` and `group_columns: [color]`. README.md describes the data set.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.config import Dataset
from synaug.datasets import convert, fashion_mnist
from synaug.images.codec import decode_image, encode_image, inspect_image
from synaug.images.tables import encoded_images
from synaug.manifests.schemas import IMAGE
from synaug.runtime.errors import UserError
from synaug.runtime.files import atomic_path

# Red, green and blue of each colour, 0 to 255: as different as colours with common names can be. The first two are
# those of Colored-MNIST.
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
TRAIN = "train"  # the split in which the colour depends on the class
COLUMNS = ["image", "label_name", "split"]


def color_images(
    images: np.ndarray,
    labels: np.ndarray,
    strength: float | None,
    colors: dict[str, tuple[int, int, int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Colour grey `images` (uint8, N x H x W). Returns uint8, N x H x W x 3, and the colour of each image (int64, N).

    After Colored-MNIST (Arjovsky et al. 2019, Invariant Risk Minimization, arXiv 1907.02893), for C classes (`labels`,
    int, N, 0 to C - 1) and K colours (name -> red, green, blue). Unlike there, no label is changed.

    Training: with probability `strength` an image gets the colour of its class (see `class_colors`), otherwise one of
    the other colours with equal probability. With a `strength` of 1 / K, colour and class are independent. C is the
    largest label + 1, so the last class must have a training image.
    Test (`strength` None): in every class, the numbers of images of two colours differ by one at most.

    Pixels are multiplied by the colour: black stays black, white becomes the colour.
    Raises ValueError for images of another shape or type, labels that do not fit the images, fewer than two colours, or
    a `strength` outside 0 to 1.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images should be uint8, N x H x W, not {images.dtype}, {images.shape}")
    if labels.shape != images.shape[:1] or labels.min(initial=0) < 0:
        raise ValueError("labels should be one number for each image, 0 or more")
    if len(colors) < 2:
        raise ValueError("at least two colours are needed")
    if strength is None:
        chosen = _draw_evenly(labels, len(colors), rng)
    else:
        chosen = _draw_by_class(labels, strength, len(colors), rng)
    # Each grey value in each colour, rounded to the nearest integer: K x 256 x 3.
    grey, color = np.arange(256)[None, :, None], np.array(list(colors.values()))[:, None, :]
    table = ((grey * color + 127) // 255).astype(np.uint8)
    return table[chosen[:, None, None], images], chosen


def class_colors(classes: int, colors: int) -> np.ndarray:
    """The colour of each class c, number c * K // C (int64): of two colours, half of the classes have the first."""
    return np.arange(classes) * colors // classes


def _draw_by_class(labels: np.ndarray, strength: float, colors: int, rng: np.random.Generator) -> np.ndarray:
    if not 0 <= strength <= 1:
        raise ValueError(f"strength should be between 0 and 1, not {strength}")
    of_class = class_colors(int(labels.max(initial=0)) + 1, colors)[labels]
    other = (of_class + rng.integers(1, colors, len(labels))) % colors
    return np.where(rng.random(len(labels)) < strength, of_class, other)


def _draw_evenly(labels: np.ndarray, colors: int, rng: np.random.Generator) -> np.ndarray:
    """In each class the images in random order get the colours, also in random order, one after the other."""
    chosen = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        images = rng.permutation(np.flatnonzero(labels == label))
        chosen[images] = rng.permutation(colors)[np.arange(len(images)) % colors]
    return chosen


def color_table(table: pa.Table, strength: float, colors: int = 2, seed: int = 0, size: int = 32) -> pa.Table:
    """Colour the images of `table` (columns image, label_name, split). Returns image, label_name, split and color.

    The images are first scaled to `size` x `size` pixels. The split `train` is coloured by `strength`, every other
    split evenly. An image that cannot be decoded is kept unchanged, so that the workflow lists it with the reason; its
    color is the first one. The same arguments give the same bytes.
    """
    encoded = encoded_images(table.column("image"))
    label_names, splits = table.column("label_name").to_pylist(), table.column("split").to_pylist()
    names = sorted(set(label_names))
    palette = dict(list(COLORS.items())[:colors])
    usable = [inspect_image(data or b"", Dataset.model_fields["max_megapixels"].default)[2] is None for data in encoded]
    rng = np.random.default_rng(seed)
    color_names = [next(iter(palette))] * len(encoded)
    for split in sorted(set(splits)):
        positions = [i for i in range(len(encoded)) if splits[i] == split and usable[i]]
        labels = np.array([names.index(label_names[i]) for i in positions])
        grey = np.stack([decode_image(encoded[i], size, "grey")[..., 0] for i in positions])
        images, chosen = color_images(grey, labels, strength if split == TRAIN else None, palette, rng)
        for i, image, color in zip(positions, images, chosen, strict=True):
            encoded[i], color_names[i] = encode_image(image), list(palette)[color]
    image = pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(encoded)], IMAGE)
    return pa.table({"image": image, "label_name": label_names, "split": splits, "color": color_names})


def read_grey_images(source: Path) -> pa.Table:
    """The columns image, label_name and split of the images in `source`. Raises UserError if it holds none."""
    tables = [source] if source.is_file() else sorted(source.glob("*.parquet"))
    if tables:
        return pa.concat_tables(pq.read_table(table, columns=COLUMNS, partitioning=None) for table in tables)
    if not all(file.is_file() for file in fashion_mnist.files(source, "fashion_mnist")):
        raise UserError(f"{source}: is neither a Parquet table nor a folder of such tables or of Fashion-MNIST's files")
    return convert(Dataset(source="fashion_mnist", path=str(source), image_size=32)).select(COLUMNS)


def main() -> None:
    """Read the command line, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--strength", type=float, required=True, help="share of a class's training images in its colour"
    )
    parser.add_argument("--colors", type=int, default=2, choices=range(2, len(COLORS) + 1), metavar="2..10")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other images the colour of their class")
    parser.add_argument("--size", type=int, default=32, help="side of the coloured images, pixels")
    arguments = parser.parse_args()
    try:
        grey = read_grey_images(arguments.source)
        table = color_table(grey, arguments.strength, arguments.colors, arguments.seed, arguments.size)
    except (UserError, ValueError) as error:
        parser.error(str(error))
    with atomic_path(arguments.out / "images.parquet") as temporary:
        pq.write_table(table, temporary, compression="NONE")
    print(f"{arguments.out / 'images.parquet'}: {table.num_rows} images")


if __name__ == "__main__":
    main()
