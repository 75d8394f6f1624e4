"""Training images: small ones in memory on the device, large ones decoded when they are needed."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from synaug.config import Stage1, Stage2
from synaug.evaluation.predictions import predict, predict_from_features
from synaug.images.codec import CHANNELS, LARGE
from synaug.images.packing import PixelCache, packed_rows
from synaug.images.store import batches_in_order, iterate_pixels
from synaug.manifests import with_group
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError
from synaug.training.augmentation import augment
from synaug.training.features import extract_features, read_features, select_features
from synaug.training.packed import PackedImages, Prefetcher
from synaug.training.parallel import Process
from synaug.training.sampling import Sampler, TwoPhaseSampler, subsample_per_class
from synaug.training.transfer import to_device

_VALUES = 1000 * 3 * 224**2  # of the images for statistics: 0.6 GB as float32


@dataclass(frozen=True)
class TrainingSet:
    """The images that a network is trained on, and what the training needs to know of each.

    images: uint8, N x C x H x W, on the device; or the images of a packed file; or features of the images by a frozen
    body, float32, N x D (see `Classifier.features`), and image_shape: C, H, W of these images. labels: class of each
    image, int64, N. synthetic: bool, N. weights: weight in the loss, float32, N. cells: class in a group of each image,
    int64, N, and cell_names: their names; both None in a data set without groups.
    """

    images: torch.Tensor | PackedImages
    labels: torch.Tensor
    synthetic: torch.Tensor
    weights: torch.Tensor
    cells: torch.Tensor | None = None
    cell_names: list[str] | None = None
    image_shape: tuple[int, int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, positions: np.ndarray) -> "TrainingSet":
        """The images at `positions` (int64)."""
        on_device = torch.from_numpy(positions).to(self.labels.device)
        packed = isinstance(self.images, PackedImages)
        images = self.images.subset(positions) if packed else self.images[on_device]
        cells = None if self.cells is None else self.cells[on_device]
        labels, synthetic, weights = (values[on_device] for values in (self.labels, self.synthetic, self.weights))
        return TrainingSet(images, labels, synthetic, weights, cells, self.cell_names, self.image_shape)

    def strata(self, sampling: str) -> np.ndarray:
        """What `sampling` balances: the cell of each image for group_balanced, else its class; int64, N."""
        by_cell = sampling == "group_balanced" and self.cells is not None
        return (self.cells if by_cell else self.labels).cpu().numpy()

    def few_of_every_class(self, classes: list[str], count: int | str | None, rng: np.random.Generator) -> np.ndarray:
        """Positions of real images for stage 2: see `subsample_per_class`. count: `stage2.images_per_class`."""
        labels = self.labels.cpu().numpy()
        if missing := set(range(len(classes))) - set(labels.tolist()):
            raise UserError(
                f"stage2: class {classes[min(missing)]!r} has no usable image in the split of stage 2",
                advice="leave stage2.split out, so that it is the training split",
            )
        if self.cells is None:
            return subsample_per_class(labels, np.arange(len(classes)), classes, count, rng)
        cells = self.cells.cpu().numpy()
        class_of_cell = np.zeros(len(self.cell_names), np.int64)
        class_of_cell[cells] = labels
        return subsample_per_class(cells, class_of_cell, self.cell_names, count, rng)

    def images_for_statistics(self) -> torch.Tensor:
        """Evenly spaced images, from which mean and standard deviation are estimated: uint8, n x C x H x W."""
        count = 1000 if isinstance(self.images, PackedImages) else 10_000
        count = max(1, min(count, _VALUES // math.prod(self.images.shape[1:])))
        return self.images[torch.arange(0, len(self), -(-len(self) // count))]

    def make_sampler(
        self,
        settings: Stage1 | Stage2,
        crop_area: float,
        seed: int,
        rng: np.random.Generator,
        process: Process | None = None,
    ) -> Sampler | TwoPhaseSampler | Prefetcher:
        """The sampler of a stage. crop_area: smallest area of the random crops of its augmentation.

        It draws from `rng`. In two cases it has a random generator of its own: for packed images, because it draws
        batches in advance, and with several processes, because all of them must draw the same batches.
        """
        process = process or Process(str(self.labels.device))
        packed = isinstance(self.images, PackedImages)
        if packed or process.world_size > 1:
            rng = np.random.default_rng([seed, len(self)])
        strata = self.strata(settings.sampling)
        if isinstance(settings, Stage1) and settings.synthetic_first:
            synthetic = self.synthetic.cpu().numpy()
            phases = [
                (Sampler(strata[positions], settings.batch_size, settings.sampling, rng), positions)
                for positions in (np.flatnonzero(synthetic), np.flatnonzero(~synthetic))
            ]
            sampler = TwoPhaseSampler(*phases, round(settings.synthetic_first * settings.steps))
        else:
            sampler = Sampler(strata, settings.batch_size, settings.sampling, rng)
        return Prefetcher(sampler, self.images, crop_area, process.part_of) if packed else sampler

    def augmented(self, positions: torch.Tensor, settings: Stage1, rng: np.random.Generator) -> torch.Tensor:
        """The images at `positions` (on the CPU), augmented according to `settings`: uint8, n x C x H x W."""
        if isinstance(self.images, PackedImages):
            return augment(self.images[positions], settings, rng, cropped=True)
        return augment(self.images[to_device(positions, self.images.device)], settings, rng)


def _images_of_batches(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], count: int, size: int, color: str
) -> torch.Tensor:
    """`count` images from `batches`, which are as those of `iterate_pixels`: uint8, count x C x size x size.

    They are in memory only once.
    """
    if color == "grey":
        # The pixels are in the same order, but the strides of a channel differ. torch chooses algorithms by the
        # strides, so with others the last bits of a network could change.
        images = np.empty((count, size, size, 1), np.uint8).transpose(0, 3, 1, 2)
    else:
        images = np.empty((count, CHANNELS[color], size, size), np.uint8)
    for positions, pixels in batches:
        images[positions] = pixels.transpose(0, 3, 1, 2)
    return torch.from_numpy(images)


@dataclass(frozen=True)
class SmallImages:
    """Images of up to LARGE pixels, from the cache of an experiment, which decodes what it does not hold yet."""

    cache: PixelCache

    def images(self, rows: pd.DataFrame, device: str) -> torch.Tensor:
        """The images of `rows` (sha256, path, row, column): uint8, N x C x H x W, on the device."""
        return _images_of_batches(self.iterate(rows), len(rows), self.cache.size, self.cache.color).to(device)

    def iterate(self, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the images of `rows` as `iterate_pixels` does, and in the same batches."""
        pixels = self.cache.pixels(rows)
        for batch in batches_in_order(rows):
            yield batch, pixels[batch]


@dataclass(frozen=True)
class DecodedImages:
    """Images of any size, decoded anew each time."""

    size: int
    color: str

    def images(self, rows: pd.DataFrame, device: str) -> torch.Tensor:
        """The images of `rows` (path, row, column): uint8, N x C x H x W, on the device."""
        return _images_of_batches(self.iterate(rows), len(rows), self.size, self.color).to(device)

    def iterate(self, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the images of `rows` as `iterate_pixels` does."""
        return iterate_pixels(rows, self.size, self.color)


@dataclass(frozen=True)
class LargeImages:
    """Images of more than LARGE pixels, from the packed file, decoded by `threads` threads when they are needed.

    path: of the file. index: of the manifest `packed`.
    """

    path: str
    index: str
    size: int
    color: str
    threads: int = 1

    def images(self, rows: pd.DataFrame, device: str) -> PackedImages:
        """The images of `rows` (image_id)."""
        offsets, lengths = packed_rows(self.index, rows["image_id"])
        return PackedImages(self.path, offsets, lengths, self.size, self.color, device, self.threads)

    def iterate(self, rows: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the images of `rows` as `iterate_pixels` does, and in the same batches."""
        packed = self.images(rows, "cpu")
        for positions in batches_in_order(rows):
            yield positions, packed.start_decoding(torch.from_numpy(positions), None).wait().numpy()


@dataclass(frozen=True)
class BackboneFeatures:
    """The features of images by a frozen backbone, in place of the images.

    path: of the manifest `backbone_features`. size, color: form of the images that they were computed from.
    """

    path: str
    size: int
    color: str

    def images(self, rows: pd.DataFrame, device: str) -> torch.Tensor:
        """The features of `rows` (image_id): float32, N x D, on the device. Raises UserError if one is missing."""
        return torch.from_numpy(read_features(self.path, rows["image_id"])).to(device)


ImageSource = SmallImages | DecodedImages | LargeImages | BackboneFeatures


def images_of_rule(inputs, experiment: Path, settings: dict, threads: int, devices: int = 1) -> ImageSource:
    """Where the networks of `experiment` (a folder) read images. inputs: of a rule. settings: image_size and color.

    threads: of the job, which its processes share, one for each of the `devices`.
    """
    size, color = settings["image_size"], settings["color"]
    if inputs.features:  # nothing, if the recipe uses none
        return BackboneFeatures(str(inputs.features), size, color)
    if size > LARGE:
        return LargeImages(str(inputs.packed), str(inputs.index), size, color, max(1, threads // devices))
    return images_of_experiment(experiment, size, color)


def images_of_experiment(experiment: Path, size: int, color: str) -> SmallImages | DecodedImages:
    """The images of `experiment` (a folder), for jobs that read each once, or that run before images are packed."""
    if size > LARGE:
        return DecodedImages(size, color)
    return SmallImages(PixelCache(experiment / "pixels", size, color))


def open_training_set(balanced: pd.DataFrame, images: ImageSource, device: str) -> TrainingSet:
    """The images of (rows of) the manifest `balanced`. Raises UserError if one is gone."""
    rows = _training_order(balanced)
    data = training_set(images.images(rows, device), rows, device)
    if isinstance(images, BackboneFeatures):
        return dataclasses.replace(data, image_shape=(CHANNELS[images.color], images.size, images.size))
    return data


def predict_rows(model: Classifier, rows: pd.DataFrame, images: ImageSource) -> pd.DataFrame:
    """Rows of the manifest `predictions` for `rows` of the manifest `real`."""
    if isinstance(images, BackboneFeatures):
        return predict_from_features(model, rows, read_features(images.path, rows["image_id"]))
    return predict(model, rows, images.iterate(rows))


def load_training_set(balanced: pd.DataFrame, size: int, color: str, device: str) -> TrainingSet:
    """The images of (rows of) the manifest `balanced`, decoded now. Raises UserError if one is gone."""
    return open_training_set(balanced, DecodedImages(size, color), device)


def compute_feature_set(
    balanced: pd.DataFrame,
    backbone: str,
    pretrained: bool | str,
    size: int,
    color: str,
    device: str,
    threads: int,
    images: ImageSource | None = None,
) -> TrainingSet:
    """The features of the images of (rows of) the manifest `balanced`. The other arguments: of `extract_features`.

    images: where they are read; None: they are decoded from their files.
    """
    rows = _training_order(balanced)
    iterate = images.iterate if images else None
    table = extract_features(rows, backbone, pretrained, size, color, device, threads, iterate)
    features = torch.from_numpy(select_features(table, rows["image_id"])).to(device)
    return dataclasses.replace(training_set(features, rows, device), image_shape=(CHANNELS[color], size, size))


def _training_order(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` sorted by content, so that it does not matter where an image is stored."""
    return with_group(rows).sort_values(["image_id", "label"], ignore_index=True)


def training_set(images: torch.Tensor | PackedImages, rows: pd.DataFrame, device: str) -> TrainingSet:
    """`images` with what `rows`, of the manifest `balanced`, say of them."""
    rows = with_group(rows)
    cells = cell_names = None
    if (rows["group"] != "").any():
        codes, names = pd.factorize(rows["label_name"] + ", " + rows["group"], sort=True)
        cells, cell_names = torch.tensor(codes, device=device), names.tolist()
    return TrainingSet(
        images,
        torch.tensor(rows["label"].to_numpy(), dtype=torch.int64, device=device),
        torch.tensor((rows["source"] == "synthetic").to_numpy(), device=device),
        torch.tensor(rows["weight"].to_numpy(), dtype=torch.float32, device=device),
        cells,
        cell_names,
    )
