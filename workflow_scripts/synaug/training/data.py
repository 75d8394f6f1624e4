"""Training images: small ones decoded in memory on the device, large ones read from a packed file."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Fill, Stage1, Stage2
from synaug.images.codec import CHANNELS
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, read_with_local_paths, with_group
from synaug.training.augmentation import augment
from synaug.training.features import read_features
from synaug.training.packed import PackedImages, Prefetcher
from synaug.training.parallel import Process
from synaug.training.sampling import Sampler, TwoPhaseSampler, subsample_per_class


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
        if self.cells is None:
            return subsample_per_class(labels, np.arange(len(classes)), classes, count, rng)
        cells = self.cells.cpu().numpy()
        class_of_cell = np.zeros(len(self.cell_names), np.int64)
        class_of_cell[cells] = labels
        return subsample_per_class(cells, class_of_cell, self.cell_names, count, rng)

    def images_for_statistics(self) -> torch.Tensor:
        """Evenly spaced images, from which mean and standard deviation are estimated: uint8, n x C x H x W."""
        count = 1000 if isinstance(self.images, PackedImages) else 10_000
        return self.images[torch.arange(0, len(self), max(1, len(self) // count))]

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
        """The images at `positions`, augmented according to `settings`: uint8, n x C x H x W."""
        return augment(self.images[positions], settings, rng, cropped=isinstance(self.images, PackedImages))


def load_recipe_images(
    table: str, packed: str | None, data: str, fill: Fill | None, settings: dict, threads: int, device: str
) -> TrainingSet:
    """The images of a recipe with these values of `data` and `fill` (see `rows_of_recipe`).

    table: the manifest `balanced`, whose images are decoded now; or, if the file `packed` is given, the manifest
    `packed`, whose images `threads` threads decode during the training. settings: image_size and color.
    """
    rows = read_manifest("packed", table) if packed else read_with_local_paths("balanced", table)
    rows = rows_of_recipe(rows, data, fill)
    size, color = settings["image_size"], settings["color"]
    if packed:
        return open_packed_training_set(rows, packed, size, color, device, threads)
    return load_training_set(rows, size, color, device)


def load_features(balanced: pd.DataFrame, features: str, size: int, color: str, device: str) -> TrainingSet:
    """The features of the images of (rows of) the manifest `balanced`, on the device. Raises UserError if one lacks.

    features: the manifest `backbone_features`. size, color: form of the images that they were computed from.
    """
    rows = _training_order(balanced)
    of_rows = torch.from_numpy(read_features(features, rows["image_id"])).to(device)
    return dataclasses.replace(training_set(of_rows, rows, device), image_shape=(CHANNELS[color], size, size))


def load_training_set(balanced: pd.DataFrame, size: int, color: str, device: str) -> TrainingSet:
    """Decode the images of (rows of) the manifest `balanced` on to the device. Raises UserError if one is gone."""
    rows = _training_order(balanced)
    images = torch.from_numpy(load_pixels(rows, size, color)).permute(0, 3, 1, 2).contiguous().to(device)
    return training_set(images, rows, device)


def open_packed_training_set(
    packed: pd.DataFrame, path: str, size: int, color: str, device: str, threads: int
) -> TrainingSet:
    """The images of (rows of) the manifest `packed` in the file `path`, decoded by threads during the training."""
    rows = _training_order(packed)
    offsets, lengths = rows["offset"].to_numpy(), rows["length"].to_numpy()
    return training_set(PackedImages(path, offsets, lengths, size, color, device, threads), rows, device)


def _training_order(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` sorted by content, so that it does not matter where an image is stored."""
    return with_group(rows).sort_values(["image_id", "label"], ignore_index=True)


def training_set(images: torch.Tensor | PackedImages, rows: pd.DataFrame, device: str) -> TrainingSet:
    """`images` with what `rows`, of the manifest `balanced` or `packed`, say of them."""
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
