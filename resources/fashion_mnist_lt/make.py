"""Make the embedded data again: a long-tailed cut of Fashion-MNIST, and the pool of what is left.

    python resources/fashion_mnist_lt/make.py FOLDER [--pool pool.parquet] [--study FOLDER] [--colored FOLDER]

FOLDER holds the four official files (train-images-idx3-ubyte.gz ...): Debian's package `dataset-fashion-mnist` puts
them into /usr/share/datasets/fashion-mnist, and torchvision.datasets.FashionMNIST(root, download=True) into
<root>/FashionMNIST/raw. The pool is the training images that are not in the cut; the embedded generator is trained
on it. The options write the data sets of docs/results.md, which are not part of the repository:

--study: two data sets with the training images of the cut. <study>/test is tested on all 10,000 official test images,
<study>/validation on 500 images per class of the pool, to choose settings by.
--colored: two grey data sets for resources/fashion_mnist_colored/make.py. <colored>/data has 500 official training
images per class, 500 other training images per class for validation, and all official test images. <colored>/pool has
the 50,000 training images that are left, to train a generator on.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synaug.datasets.fashion_mnist import CLASSES, read
from synaug.datasets.long_tail import draw, exponential_counts
from synaug.images.codec import encode_image
from synaug.manifests.schemas import IMAGE
from synaug.runtime.files import atomic_path

LARGEST, FACTOR, TEST_PER_CLASS, SEED = 500, 100, 200, 0
VALIDATION_PER_CLASS, VALIDATION_SEED = 500, 1
COLORED_PER_CLASS, COLORED_SEED = 500, 2


def write_images(path: Path, images: np.ndarray, labels: np.ndarray, positions: np.ndarray, split: str) -> None:
    """Write the images at `positions` as Parquet that Hugging Face `datasets` reads as images and class labels."""
    chosen = labels[positions]
    encoded = [{"bytes": encode_image(images[i]), "path": f"{split}-{i:05}.png"} for i in positions]
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": CLASSES},
        "label_name": {"_type": "Value", "dtype": "string"},
        "split": {"_type": "Value", "dtype": "string"},
        "source_index": {"_type": "Value", "dtype": "int32"},
    }
    table = pa.table(
        {
            "image": pa.array(encoded, IMAGE),
            "label": pa.array(chosen, pa.int64()),
            "label_name": pa.array([CLASSES[label] for label in chosen]),
            "split": pa.array([split] * len(positions)),
            "source_index": pa.array(positions, pa.int32()),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, use_dictionary=["label_name", "split"], compression="NONE")
    print(f"{path}: {table.num_rows} images")


def main() -> None:
    """Read the command line, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pool", type=Path, help="also write the training images that are not in the cut")
    parser.add_argument("--study", type=Path, help="also write the data sets of docs/results.md on classes")
    parser.add_argument("--colored", type=Path, help="also write the grey data sets of docs/results.md on groups")
    arguments = parser.parse_args()
    here = Path(__file__).parent
    images, labels, _ = read(arguments.folder, "fashion_mnist", "train")
    cut = draw(labels, exponential_counts(LARGEST, FACTOR, len(CLASSES)), SEED)
    write_images(here / "train.parquet", images, labels, cut, "train")
    if arguments.pool:
        rest = np.setdiff1d(np.arange(len(labels)), cut)
        write_images(arguments.pool, images, labels, rest, "pool")
    test_images, test_labels, _ = read(arguments.folder, "fashion_mnist", "test")
    if arguments.study:
        write_images(arguments.study / "test/train.parquet", images, labels, cut, "train")
        write_images(arguments.study / "test/test.parquet", test_images, test_labels, np.arange(10_000), "test")
        rest = np.setdiff1d(np.arange(len(labels)), cut)
        validation = rest[draw(labels[rest], [VALIDATION_PER_CLASS] * len(CLASSES), VALIDATION_SEED)]
        write_images(arguments.study / "validation/train.parquet", images, labels, cut, "train")
        write_images(arguments.study / "validation/test.parquet", images, labels, validation, "test")
    if arguments.colored:
        both = draw(labels, [COLORED_PER_CLASS + VALIDATION_PER_CLASS] * len(CLASSES), COLORED_SEED)
        train = both[draw(labels[both], [COLORED_PER_CLASS] * len(CLASSES), COLORED_SEED)]
        validation, rest = np.setdiff1d(both, train), np.setdiff1d(np.arange(len(labels)), both)
        write_images(arguments.colored / "data/train.parquet", images, labels, train, "train")
        write_images(arguments.colored / "data/validation.parquet", images, labels, validation, "validation")
        write_images(arguments.colored / "data/test.parquet", test_images, test_labels, np.arange(10_000), "test")
        write_images(arguments.colored / "pool/train.parquet", images, labels, rest, "train")
        # Every data set needs test images: here the validation images.
        write_images(arguments.colored / "pool/test.parquet", images, labels, validation, "test")
    chosen = draw(test_labels, [TEST_PER_CLASS] * len(CLASSES), SEED)
    write_images(here / "test.parquet", test_images, test_labels, chosen, "test")
    indices = {"train": cut.tolist(), "test": chosen.tolist()}
    (here / "indices.json").write_text(json.dumps(indices, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
