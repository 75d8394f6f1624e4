"""Features of a frozen backbone: computed once for each image, and used by all networks that have this backbone."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import torch

from synaug.images.codec import CHANNELS
from synaug.images.store import iterate_pixels
from synaug.images.tables import ImageTable
from synaug.manifests import read_table
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier
from synaug.runtime.errors import UserError

_BATCH = 32  # images: with more, a CPU is not faster


@gpu_arithmetic()
def extract_features(
    images: pd.DataFrame,
    backbone: str,
    pretrained: bool | str,
    size: int,
    color: str,
    device: str,
    threads: int,
    iterate: Callable[[pd.DataFrame], Iterator[tuple[np.ndarray, np.ndarray]]] | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `backbone_features`, one for each image_id of `images` (image_id, path, row, column).

    backbone, pretrained: keys of the config block `training`. size: side of the images, pixels. color: grey or rgb.
    threads: batches that a CPU computes at the same time. They do not change the features: each batch has one thread.
    iterate: reads the images, as `ImageSource.iterate`; None: they are decoded from their files.
    """
    iterate = iterate or partial(iterate_pixels, size=size, color=color)
    images = images.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)
    model = Classifier(backbone, None, ["any"], size, CHANNELS[color])
    model.load_pretrained(pretrained)
    model.to(device, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def compute(batch: torch.Tensor) -> np.ndarray:
        return model.features(batch.to(device)).float().cpu().numpy()

    features = np.empty((len(images), model.head.in_features), np.float32)
    workers = threads if device == "cpu" else 1
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for positions, pixels in iterate(images):
            batches = torch.from_numpy(pixels).permute(0, 3, 1, 2).split(_BATCH)
            features[positions] = np.concatenate(list(pool.map(compute, batches)))
    return pd.DataFrame({"image_id": images["image_id"], "features": list(features)})


def read_features(path: str | os.PathLike, image_ids: pd.Series) -> np.ndarray:
    """Features of the images with these ids, in this order, from the manifest `backbone_features`: float32, N x D.

    Only one copy is held in memory. Raises UserError if an image is not in the table, or if the table is damaged.
    """
    stored = read_table("backbone_features", path, ["image_id"]).column("image_id")
    rows = pd.Index(stored.to_pandas()).get_indexer(image_ids)
    if (rows < 0).any():
        raise UserError(f"{path}: lacks image {min(image_ids[rows < 0])}", advice="delete it and run again")
    order, done = np.argsort(rows, kind="stable"), 0
    damaged: dict[int, str] = {}
    with ImageTable(path) as table:
        group = table.file.metadata.row_group(0)
        features = np.empty((len(rows), group.column(1).num_values // group.num_rows), np.float32)
        for found, batch in table.stream(["features"], rows[order], damaged):
            positions = order[done : done + len(found)]
            features[positions] = batch.column("features").flatten().to_numpy().reshape(len(found), -1)
            done += len(found)
    if damaged:
        raise UserError(f"{path}: is damaged ({min(damaged.values())})", advice="delete it and run again")
    return features


def select_features(table: pd.DataFrame, image_ids: pd.Series) -> np.ndarray:
    """Features of the images with these ids, in this order, from the rows of `extract_features`: float32, N x D."""
    return np.stack(table["features"].to_numpy()[pd.Index(table["image_id"]).get_indexer(image_ids)])
