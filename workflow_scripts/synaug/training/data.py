"""Training images: small ones all decoded on the device, large ones streamed from a packed file."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from synaug.balance import rows_of_recipe
from synaug.config import Stage1, Stage2
from synaug.images.store import load_pixels
from synaug.manifests import read_manifest, read_with_local_paths, with_group
from synaug.training.augmentation import augment, shift_and_flip
from synaug.training.parallel import Process
from synaug.training.sampling import Halves, Sampler
from synaug.training.stream import Ahead, StreamedImages


@dataclass(frozen=True)
class TrainingSet:
    """images: uint8, N x C x H x W, or streamed. labels: int64, N. synthetic: bool, N. weights: float32, N.

    cells: class in a group of each image, int64, N; None: there are no groups. cell_names: of them.
    """

    images: torch.Tensor | StreamedImages
    labels: torch.Tensor
    synthetic: torch.Tensor
    weights: torch.Tensor
    cells: torch.Tensor | None = None
    cell_names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, positions: np.ndarray) -> "TrainingSet":
        """The images at `positions` (int64)."""
        where = torch.from_numpy(positions).to(self.labels.device)
        streamed = isinstance(self.images, StreamedImages)
        images = self.images.subset(positions) if streamed else self.images[where]
        cells = None if self.cells is None else self.cells[where]
        return TrainingSet(
            images, self.labels[where], self.synthetic[where], self.weights[where], cells, self.cell_names
        )

    def cells_or_classes(self, classes: list[str]) -> tuple[np.ndarray, list[str]]:
        """The class in a group of each image, int64, N, and their names; where there are no groups, the class."""
        if self.cells is None:
            return self.labels.cpu().numpy(), classes
        assert self.cell_names is not None  # cells come with their names
        return self.cells.cpu().numpy(), self.cell_names

    def sample(self) -> torch.Tensor:
        """Some of the images, evenly spread, to take mean and variance from: uint8, n x C x H x W."""
        most = 1000 if isinstance(self.images, StreamedImages) else 10_000
        return self.images[torch.arange(0, len(self), max(1, len(self) // most))]

    def sampler(
        self,
        settings: Stage1 | Stage2,
        training: Stage1,
        seed: int,
        rng: np.random.Generator,
        process: Process | None = None,
    ) -> Sampler | Halves | Ahead:
        """What gives the positions of each step. settings: of the stage. training: those of augmentation.

        Draws from `rng`; from numbers of its own for streamed images, which it draws ahead, and if several processes
        have to draw the same.
        """
        drawn = self.labels if settings.sampling != "group_balanced" or self.cells is None else self.cells
        labels = drawn.cpu().numpy()
        alone = process is None or process.count == 1
        streamed = isinstance(self.images, StreamedImages)
        if streamed or not alone:
            rng = np.random.default_rng([seed, len(self)])
        if getattr(settings, "synthetic_first", 0):
            first, then = (np.flatnonzero(self.synthetic.cpu().numpy() == kind) for kind in (True, False))
            parts = [(Sampler(labels[p], settings.batch_size, settings.sampling, rng), p) for p in (first, then)]
            sampler = Halves(*parts, round(settings.synthetic_first * settings.steps))
        else:
            sampler = Sampler(labels, settings.batch_size, settings.sampling, rng)
        if not streamed:
            return sampler
        return Ahead(sampler, self.images, training.crop_area, process.share if process else None)

    def augmented(self, positions: torch.Tensor, settings: Stage1, rng: np.random.Generator) -> torch.Tensor:
        """The images at `positions`, changed at random as `settings` say: uint8, n x C x H x W."""
        if isinstance(self.images, StreamedImages):
            return shift_and_flip(self.images[positions], settings, rng)
        return augment(self.images[positions], settings, rng)


def load_images(table: str, packed: str | None, data: str, settings: dict, threads: int, device: str) -> TrainingSet:
    """The images of a recipe with this `data` (real or balanced).

    table: the manifest `balanced`, whose images are decoded; or, with the file `packed`, the one of that name, whose
    images are decoded by `threads` threads when they are wanted. settings: image_size, color.
    """
    rows = rows_of_recipe(read_manifest("packed", table) if packed else read_with_local_paths("balanced", table), data)
    form = (settings["image_size"], settings["color"], device)
    return stream_training_set(rows, packed, *form, threads) if packed else load_training_set(rows, *form)


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` (of the manifest `balanced`) in the order of training.

    Sorted by content, so that an image that moved to another shard changes nothing.
    """
    return rows.sort_values(["image_id", "label"], ignore_index=True)


def load_training_set(balanced: pd.DataFrame, size: int, color: str, device: str) -> TrainingSet:
    """Decode the images of (rows of) the manifest `balanced` on to the device. Raises UserError if one is gone."""
    rows = in_order(with_group(balanced))
    images = torch.from_numpy(load_pixels(rows, size, color)).permute(0, 3, 1, 2).contiguous().to(device)
    return TrainingSet(images, *_columns(rows, device))


def stream_training_set(
    packed: pd.DataFrame, path: str, size: int, color: str, device: str, threads: int
) -> TrainingSet:
    """Images of (rows of) the manifest `packed` in the file `path`, decoded by threads when they are wanted."""
    rows = in_order(with_group(packed))
    where = (rows["offset"].to_numpy(), rows["length"].to_numpy())
    return TrainingSet(StreamedImages(path, *where, size, color, device, threads), *_columns(rows, device))


def _columns(rows: pd.DataFrame, device: str) -> tuple:
    cells = cell_names = None
    if (rows["group"] != "").any():
        names = rows["label_name"] + ", " + rows["group"]
        codes, cell_names = pd.factorize(names, sort=True)
        cells, cell_names = torch.tensor(codes, device=device), cell_names.tolist()
    return (
        torch.tensor(rows["label"].to_numpy(), dtype=torch.int64, device=device),
        torch.tensor((rows["source"] == "synthetic").to_numpy(), device=device),
        torch.tensor(rows["weight"].to_numpy(), dtype=torch.float32, device=device),
        cells,
        cell_names,
    )
