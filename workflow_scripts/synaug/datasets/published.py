"""Data sets in the files that their authors publish: CIFAR-10, CIFAR-100, Fashion-MNIST; whole, or cut to a long tail.

They are converted to one table of PNG images, because a row of a manifest can point to a row of a table, but not into a
pickle. The table is then read like any other.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from synaug.config import Dataset
from synaug.datasets import cifar, fashion_mnist
from synaug.datasets.long_tail import draw_as_ldam_drw, exponential_counts
from synaug.images.codec import encode_image
from synaug.manifests.schemas import IMAGE
from synaug.runtime.errors import UserError

# Source -> module with its functions `files` and `read`; class of torchvision that downloads it.
PUBLISHED = {"cifar10": cifar, "cifar100": cifar, "fashion_mnist": fashion_mnist}
_TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "fashion_mnist": "FashionMNIST"}


def files(dataset: Dataset) -> list[Path]:
    """The authors' files. An empty list if the job may download them: a download must not look like a changed input.

    Raises UserError if a file is missing and may not be downloaded.
    """
    needed = PUBLISHED[dataset.source].files(Path(dataset.path), dataset.source)
    missing = [file for file in needed if not file.is_file()]
    if missing and not dataset.download:
        raise UserError(
            f"dataset.path: {dataset.path} holds no {missing[0].relative_to(dataset.path)}; put the files of "
            f"{dataset.source} there, or set dataset.download: true where there is a network"
        )
    return [] if dataset.download else needed


def as_table(dataset: Dataset, images: str) -> Dataset:
    """The config block of `dataset` after its conversion to the table at `images`."""
    same = {"image_size", "color", "train_split", "test_split", "validation_split", "make_splits", "max_megapixels"}
    settings = dataset.model_dump(include={*same, "group_columns", "unify_names", "faults"})
    if dataset.source not in PUBLISHED and dataset.imbalance_factor is not None:  # PUBLISHED: `convert` has cut them
        settings |= dataset.model_dump(include={"imbalance_factor", "largest_class", "cut_seed"})
    return Dataset(source="table", path=images, label_column="label_name", **settings)


def convert(dataset: Dataset) -> pa.Table:
    """All test images, and the training images that the cut keeps: image, label_name, split, source_index.

    `source_index` is the position in the authors' order. Downloads missing files if the config allows it.
    Raises UserError if files are missing or damaged, or if a class has too few images for the cut.
    """
    root = Path(dataset.path)
    if dataset.download:
        download(dataset)
    tables = []
    for part, split in (("train", dataset.train_split), ("test", dataset.test_split)):
        images, labels, names = PUBLISHED[dataset.source].read(root, dataset.source, part)
        kept = cut(labels, dataset) if part == "train" else np.arange(len(labels))
        encoded = [{"bytes": encode_image(images[i]), "path": f"{part}-{i:05}.png"} for i in kept]
        columns = {
            "image": pa.array(encoded, IMAGE),
            "label_name": pa.array([names[label] for label in labels[kept]]),
            "split": pa.array([split] * len(kept)),
            "source_index": pa.array(kept, pa.int32()),
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def cut(labels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Positions (int64) of the training images, class by class, that `imbalance_factor` keeps of `labels` (int, N).

    Raises UserError if a class has too few images, or would keep none.
    """
    if dataset.imbalance_factor is None:
        return np.arange(len(labels))
    sizes = np.unique(labels, return_counts=True)[1]
    largest = dataset.largest_class or int(sizes.max())
    counts = exponential_counts(largest, dataset.imbalance_factor, len(sizes))
    for label, (wanted, size) in enumerate(zip(counts, sizes, strict=True)):
        if wanted > size:
            raise UserError(
                f"dataset.largest_class: {largest}: class {label} of {dataset.source} has {size} images",
                advice="lower it",
            )
        if wanted == 0:
            raise UserError(
                f"dataset.imbalance_factor: {dataset.imbalance_factor:g} leaves class {label} of {dataset.source} "
                f"with no image; the largest class has {largest}, so the factor may be {largest} at most"
            )
    return draw_as_ldam_drw(labels, counts, dataset.cut_seed)


def download(dataset: Dataset) -> None:
    """Download the authors' files to `dataset.path`, unless all are there. Raises UserError if that is not possible."""
    root = Path(dataset.path)
    if all(file.is_file() for file in PUBLISHED[dataset.source].files(root, dataset.source)):
        return
    from torchvision import datasets  # here, because it imports torch, which no other source needs

    try:
        getattr(datasets, _TORCHVISION[dataset.source])(str(root), download=True)
    except (OSError, RuntimeError) as error:  # no network, a full disk, a wrong checksum
        raise UserError(
            f"dataset.download: {dataset.source} could not be downloaded to {root} ({error}); put its files there"
        ) from None
