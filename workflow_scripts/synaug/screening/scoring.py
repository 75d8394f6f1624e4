"""Scores and features of single images, shard by shard: what the networks say about an image, and its perceptual hash.

What depends on other images too, the nearest neighbours, is in `comparison`. The filters decide what the scores mean
for an image.
"""

import io
import logging
import os
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from synaug.config import Screening
from synaug.images.codec import CHANNELS, FORMATS, decode_image, inspect_image
from synaug.images.perceptual_hash import perceptual_hashes
from synaug.images.store import encoded_image, read_encoded, read_tables
from synaug.images.tables import ImageTable
from synaug.manifests import with_group
from synaug.runtime.devices import WHOLE_DEVICE, leased_device
from synaug.runtime.errors import UserError
from synaug.screening.features import check_size

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 26  # of decoded images in memory at a time
_STORED = ["sha256", "row"]  # where a synthetic image is


@dataclass
class ImageForm:
    """Size (side in pixels) and colour (grey or rgb) of the images that networks see."""

    image_size: int
    color: str

    @property
    def chunk_size(self) -> int:
        """Number of images that are decoded at a time."""
        return int(np.clip(CHUNK_BYTES // (self.image_size**2 * CHANNELS[self.color]), 16, 4096))


@dataclass
class Scorers:
    """The networks that score images; None: not used. See `load_scorers`.

    feature_space: the name of the network whose features are kept; None: there are no features.
    extractor: name and version of this network.
    """

    feature_space: str | None = None
    extractor: str = ""
    classifier: object = None
    text_image: object = None
    safety: object = None

    def score(self, pixels: np.ndarray, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Scores (column -> N values) and features (float32, N x D) of synthetic images.

        pixels: uint8, N x S x S x C. rows: columns label_name and prompt of these images.
        """
        scores, features = self._classify(pixels, rows)
        if self.text_image:
            features["text_image"], scores["text_image_score"] = self.text_image.score(pixels, rows["prompt"].tolist())
        if self.safety:
            scores["safety_score"] = self.safety.score(pixels)
        return scores, features.get(self.feature_space)

    def score_real(self, pixels: np.ndarray, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """As `score` for real images, which have no prompt and need not be safe. rows: column label_name."""
        scores, features = self._classify(pixels, rows)
        if self.feature_space == "text_image":
            features["text_image"] = self.text_image.features(pixels)
        return scores, features.get(self.feature_space)

    def _classify(self, pixels: np.ndarray, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Scores and features of the classifier, if there is one."""
        if not self.classifier:
            return {}, {}
        features, confidence, prediction, entropy = self.classifier.score(pixels, rows["label_name"].tolist())
        scores = {
            "classifier_confidence": confidence,
            "classifier_prediction": prediction,
            "classifier_entropy": entropy,
        }
        return scores, {"classifier": features}


@contextmanager
def open_scorers(
    screening: Screening,
    form: ImageForm,
    classes: list[str],
    classifier: str | None,
    threads: int,
    gpu_share: int = WHOLE_DEVICE,
) -> Generator[Scorers | None]:
    """The networks of `screening` on a leased device; None if there are none. The rest as for `load_scorers`.

    gpu_share: see `leased_device`.

    Without networks nothing is imported for them, which takes seconds.
    """
    if not (screening.classifier or screening.text_image or screening.safety):
        yield None
        return
    import torch

    from synaug.screening.scorers import load_scorers

    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with leased_device(gpu_share) as device:
        yield load_scorers(screening, form, classes, classifier, device)


class _Fingerprints:
    """What images are compared by: perceptual hashes (uint64, N) and features (float32, N x D, or None).

    readable: bool, N; images that cannot be read have neither.
    """

    def __init__(self, count: int):
        self.readable = np.zeros(count, bool)
        self.hashes = np.zeros(count, np.uint64)
        self.features: np.ndarray | None = None

    def add(self, positions: np.ndarray, pixels: np.ndarray, features: np.ndarray | None) -> None:
        """Set the hashes and features of the images at `positions`. pixels: uint8, n x S x S x C."""
        self.readable[positions] = True
        self.hashes[positions] = perceptual_hashes(pixels)
        if features is not None:
            if self.features is None:
                check_size(len(self.readable), features.shape[1])
                self.features = np.zeros((len(self.readable), features.shape[1]), np.float32)
            self.features[positions] = features

    def joined_to(self, rows: pd.DataFrame, extractor: str) -> pa.Table:
        """`rows`, one per image, with the columns perceptual_hash, features and extractor."""
        table = pa.Table.from_pandas(rows, preserve_index=False)
        table = table.append_column("perceptual_hash", pa.array(self.hashes, mask=~self.readable))
        if self.features is None:
            return table
        values = self.features[self.readable]
        ends = np.cumsum(self.readable) * values.shape[1]
        lists = pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], ends]), pa.int32()), values.ravel(), mask=pa.array(~self.readable)
        )
        names = pa.array(np.where(self.readable, extractor, None), pa.string())
        return table.append_column("features", lists).append_column("extractor", names)


def score_shard(
    plan: pd.DataFrame, shard: str, form: ImageForm, scorers: Scorers | None = None, threads: int = 1
) -> pa.Table:
    """Rows of the manifest `shard_scores`: one for each image that the plan has in a shard, readable or not.

    plan: columns image_id, label, label_name, group, index, prompt and stored_size of the manifest `plan`, the rows of
    the shard. shard: path of its file. scorers: from `load_scorers`; None: no networks. threads: that decode images.
    Raises UserError if the file is gone or is not Parquet.
    """
    scorers = scorers or Scorers()
    # The last bits of what a network computes depend on the images that it gets together.
    plan = with_group(plan).sort_values(["label", "group", "index"], ignore_index=True)
    fingerprints, parts = _Fingerprints(len(plan)), []
    start, done = time.monotonic(), 0
    for rows, pixels in _read_shard(plan, shard, form, threads):
        readable = rows.index[rows["contrast"].notna()]
        if len(readable):
            scores, features = scorers.score(pixels, plan.loc[readable])
            fingerprints.add(readable.to_numpy(), pixels, features)
            rows = rows.join(pd.DataFrame(scores, readable))
        parts.append(rows)
        done += len(rows)
        log.info("%d/%d images, %.0f images/s", done, len(plan), done / (time.monotonic() - start))
    return fingerprints.joined_to(plan[["image_id"]].join(pd.concat(parts)), scorers.extractor)


def score_real(real: pd.DataFrame, form: ImageForm, scorers: Scorers | None = None, threads: int = 1) -> pa.Table:
    """Rows of the manifest `real_scores`: one for each image of `real`.

    real: usable rows of the manifest `real`, with local paths. scorers: from `load_scorers`; None: no networks.
    threads: that decode images.
    Raises UserError if an image is gone or cannot be decoded.
    """
    scorers, real = scorers or Scorers(), with_group(real).reset_index(drop=True)
    fingerprints, parts = _Fingerprints(len(real)), []
    start, done = time.monotonic(), 0
    for positions, pixels in _read_real(real, form, threads):
        scores, features = scorers.score_real(pixels, real.loc[positions])
        fingerprints.add(positions, pixels, features)
        parts.append(pd.DataFrame(scores, positions))
        done += len(positions)
        log.info("%d/%d images, %.0f images/s", done, len(real), done / (time.monotonic() - start))
    rows = real[["image_id", "split", "label", "label_name", "group"]]
    return fingerprints.joined_to(rows.join(pd.concat(parts)) if parts else rows, scorers.extractor)


def _read_shard(
    plan: pd.DataFrame, shard: str, form: ImageForm, threads: int
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield rows (index: positions in `plan`) with row, sha256, size, contrast and fault, and the pixels.

    Pixels: uint8, N x S x S x C, of the readable images (those that have a contrast), in the order of the rows.
    """
    recorded, unread = _recorded_rows(shard)
    rows = plan[["image_id", "stored_size"]].join(recorded, on="image_id")
    in_shard = rows["row"].notna()
    rows = rows.assign(row=rows["row"].astype("Int64"), sha256=rows["sha256"].fillna(""), path=shard, column="image")
    absent, rows = rows[~in_shard], rows[in_shard]
    if len(absent):
        fault = f"is not in its shard{unread and f', whose {unread}'}"
        sizes = pd.DataFrame({"width": None, "height": None, "contrast": None, "fault": fault}, absent.index)
        yield absent[_STORED].join(sizes), np.empty((0, 0, 0, 0), np.uint8)
    damaged: dict[int, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        for positions, encoded in read_encoded(rows, damaged):
            for start in range(0, len(positions), form.chunk_size):
                chunk = slice(start, start + form.chunk_size)
                table = rows.iloc[positions[chunk]]
                inspected = list(pool.map(read_image, encoded[chunk], table["stored_size"], repeat(form)))
                sizes = pd.DataFrame([properties for properties, _ in inspected], table.index)
                for index, position in zip(table.index, positions[chunk].tolist(), strict=True):
                    if position in damaged:
                        sizes.loc[index, "fault"] = damaged[position]
                pixels = [pixels for _, pixels in inspected if pixels is not None]
                yield table[_STORED].join(sizes), np.stack(pixels) if pixels else np.empty((0, 0, 0, 0), np.uint8)


def _recorded_rows(shard: str) -> tuple[pd.DataFrame, str]:
    """Row and sha256 of each image of a shard (index: image_id), and which of its rows cannot be read, if any."""
    ids, numbers, hashes = [], [], []
    damaged: dict[int, str] = {}
    with ImageTable(shard) as table:
        for rows, batch in table.stream(["image_id", "sha256"], damaged=damaged):
            numbers += rows.tolist()
            ids += batch.column("image_id").to_pylist()
            hashes += batch.column("sha256").to_pylist()
    recorded = pd.DataFrame({"row": numbers, "sha256": hashes}, ids)
    return recorded[~recorded.index.duplicated(keep="last")], ", ".join(dict.fromkeys(damaged.values()))


def _read_real(real: pd.DataFrame, form: ImageForm, threads: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions in `real` and their pixels (uint8, N x S x S x C). Every file is read once."""

    def decode(position: int, data: bytes | str | None) -> np.ndarray:
        try:
            return decode_image(encoded_image(data), form.image_size, form.color)
        except UserError:
            raise
        except Exception as error:
            path = real["path"].iloc[position]
            raise UserError(f"{path}: cannot be decoded: {error}", advice="index the data again") from None

    with ThreadPoolExecutor(threads) as pool:
        for positions, encoded in read_tables(real):
            for start in range(0, len(positions), form.chunk_size):
                chunk = slice(start, start + form.chunk_size)
                yield positions[chunk], np.stack(list(pool.map(decode, positions[chunk], encoded[chunk])))


def read_image(encoded: bytes | None, stored_size: int, form: ImageForm) -> tuple[dict, np.ndarray | None]:
    """width, height, contrast (standard deviation, 0 to 255) and fault of an encoded image, and its pixels.

    fault: why the image cannot be used; None: it can. Pixels: uint8, S x S x C, scaled to `form.image_size`.
    """
    if encoded is None:
        return {"width": None, "height": None, "contrast": None, "fault": "is not in its shard"}, None
    try:
        width, height = Image.open(io.BytesIO(encoded), formats=FORMATS).size
        pixels = decode_image(encoded, form.image_size, form.color)
    except Exception as error:
        width, height, fault = inspect_image(encoded, max_megapixels=float("inf"))
        fault = fault or f"cannot be decoded ({error})"
        return {"width": width, "height": height, "contrast": None, "fault": fault}, None
    wrong_size = (width, height) != (stored_size, stored_size)
    fault = f"is {width} x {height} pixels, not {stored_size} x {stored_size}" if wrong_size else None
    return {"width": width, "height": height, "contrast": float(np.std(pixels)), "fault": fault}, pixels
