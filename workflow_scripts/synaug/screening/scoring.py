"""Scores of synthetic images: everything that takes long. What they mean for an image is decided in `judge`."""

import io
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from synaug.config import Screening
from synaug.images.codec import CHANNELS, FORMATS, decode_image, inspect_image
from synaug.images.perceptual_hash import FURTHEST, nearest_earlier_hashes, nearest_hashes, perceptual_hashes
from synaug.images.store import read_encoded
from synaug.manifests import read_table, with_group
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 26  # of decoded images held at a time


@dataclass
class Form:
    """How the experiment sees images (side in pixels; grey or rgb), and the names of its splits."""

    image_size: int
    color: str
    train_split: str
    test_split: str
    validation_split: str | None = None

    @property
    def splits(self) -> dict[str, list[str | None]]:
        """What synthetic images are compared with. Validation images count as test images: both decide results."""
        return {"train": [self.train_split], "test": [self.test_split, self.validation_split]}

    @property
    def chunk(self) -> int:
        """Images that are decoded at a time."""
        return int(np.clip(CHUNK_BYTES // (self.image_size**2 * CHANNELS[self.color]), 16, 4096))


@dataclass
class Scorers:
    """The networks that are on, which of them makes the features, its name, and the device that they are on."""

    device: str = "cpu"
    space: str | None = None
    extractor: str = ""
    classifier: object = None
    text_image: object = None
    safety: object = None

    def read(self, pixels: np.ndarray, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Scores (column -> float32, N) and features of synthetic images. rows: columns label_name and prompt."""
        scores, features = {}, {}
        if self.classifier:
            names = rows["label_name"].tolist()
            features["classifier"], scores["classifier_confidence"] = self.classifier.read(pixels, names)
        if self.text_image:
            features["text_image"], scores["text_image_score"] = self.text_image.read(pixels, rows["prompt"].tolist())
        if self.safety:
            scores["safety_score"] = self.safety.read(pixels)
        return scores, features.get(self.space)

    def features(self, pixels: np.ndarray) -> np.ndarray | None:
        """Features of real images, float32, N x D; None if no network makes any."""
        return getattr(self, self.space).features(pixels) if self.space else None


class Compared:
    """What comparisons need of a set of images: whether they could be read, 64-bit hashes, and features (N x D)."""

    def __init__(self, count: int, hashing: bool):
        self.hashing = hashing
        self.known = np.zeros(count, bool)
        self.hashes = np.zeros(count, np.uint64)
        self.features: np.ndarray | None = None

    def put(self, where: np.ndarray, pixels: np.ndarray, features: np.ndarray | None) -> None:
        """Take in the images at the positions `where`."""
        self.known[where] = True
        if self.hashing:
            self.hashes[where] = perceptual_hashes(pixels)
        if features is not None:
            if self.features is None:
                self.features = np.zeros((len(self.known), features.shape[1]), np.float32)
            self.features[where] = features


def score_synthetic(
    plan: pd.DataFrame,
    shards: dict[str, str],
    real: pd.DataFrame | None,
    screening: Screening,
    form: Form,
    scorers: Scorers | None = None,
) -> tuple[pd.DataFrame, pa.Table | None]:
    """Rows of the manifests `scores` (one per planned image) and `features` (None if no network makes any).

    plan: columns image_id, label, label_name, group, index, prompt, stored_size, shard of the manifest `plan`. shards:
    shard name -> path. real: the manifest `real`; only needed for features and `screening.leakage`. scorers: of
    `load_scorers`; None: no network is on.
    `features` has one row per synthetic image that could be read, and per usable real training image.
    Raises UserError if a shard or a real image is gone.
    """
    scorers = scorers or Scorers()
    plan = with_group(plan).sort_values(["label", "group", "index"], ignore_index=True)
    made = Compared(len(plan), hashing=bool(screening.duplicates or screening.leakage))
    parts, start, done = [], time.monotonic(), 0
    for rows, pixels in _read_shards(plan, shards, form):
        read = rows.index[rows["contrast"].notna()]
        if len(read):
            scores, features = scorers.read(pixels, plan.loc[read])
            made.put(read.to_numpy(), pixels, features)
            rows = rows.join(pd.DataFrame(scores, read))
        parts.append(rows)
        done += len(rows)
        log.info("%d/%d images, %.0f images/s", done, len(plan), done / (time.monotonic() - start))
    table = plan[["image_id", "label", "label_name", "group", "index"]]
    table = table.join(pd.concat(parts)) if parts else table.assign(sha256="")
    splits = [form.train_split] if scorers.space or screening.leakage else []
    splits += form.splits["test"] if screening.leakage else []
    if splits:
        real = real[real["usable"] & real["split"].isin(splits)].reset_index(drop=True)
        seen = Compared(len(real), hashing=bool(screening.leakage))
        for positions, pixels in _read_real(real, form):
            seen.put(positions, pixels, scorers.features(pixels))
        log.info("%d real images read, %.0f s", len(real), time.monotonic() - start)
    if screening.duplicates:
        for _, places in plan.groupby("label").groups.items():
            among = places.to_numpy()[made.known[places]]
            table = _compare(table, "earlier", made, among, made, among, plan["image_id"], scorers.device, earlier=True)
    if screening.leakage:
        among = np.flatnonzero(made.known)
        for name, kinds in form.splits.items():
            others = np.flatnonzero(real["split"].isin(kinds))
            table = _compare(table, name, made, among, seen, others, real["image_id"], scorers.device)
    log.info("neighbours found, %.0f s", time.monotonic() - start)
    if made.features is None:
        return table, None
    train = np.flatnonzero(real["split"] == form.train_split)
    columns = ["image_id", "label", "label_name"]
    rows = [plan.loc[made.known, columns].assign(source="synthetic"), real.loc[train, columns].assign(source="real")]
    matrix = np.concatenate([made.features[made.known], seen.features[train]])
    lists = pa.ListArray.from_arrays(np.arange(len(matrix) + 1) * matrix.shape[1], matrix.ravel())
    features = pa.Table.from_pandas(pd.concat(rows), preserve_index=False).append_column("features", lists)
    return table, features.append_column("extractor", pa.array([scorers.extractor] * len(matrix)))


def _compare(table, name, images, among, others, against, ids, device, earlier=False) -> pd.DataFrame:
    """Write the nearest of the `others` at `against` into the columns `nearest_<name>` ... of the rows `among`.

    earlier: both are the same images, and each is compared with those before it. ids: image_ids of the others.
    """
    table = table.copy(deep=False)

    def write(column: str, values: np.ndarray, empty) -> None:
        whole = table[column].to_numpy(copy=True) if column in table else np.full(len(table), empty)
        whole[among] = values
        table[column] = whole

    def names(where: np.ndarray) -> np.ndarray:
        chosen = ids.to_numpy(object)[against]
        return np.array([chosen[i] if i >= 0 else None for i in where], object)

    if earlier:
        where, distance = nearest_earlier_hashes(images.hashes[among])
    else:
        where, distance = nearest_hashes(images.hashes[among], others.hashes[against])
    write(f"hash_nearest_{name}", names(where), None)
    write(f"nearest_{name}_distance", np.where(distance < FURTHEST, distance, np.nan), np.nan)
    if images.features is not None:
        from synaug.screening.neighbours import nearest_earlier_similar, nearest_similar, normalised

        features = normalised(images.features[among], device)
        if earlier:
            where, similarity = nearest_earlier_similar(features)
        else:
            where, similarity = nearest_similar(features, normalised(others.features[against], device))
        write(f"nearest_{name}", names(where), None)
        write(f"nearest_{name}_similarity", similarity, np.float32(np.nan))
    return table


def _read_shards(plan: pd.DataFrame, shards: dict[str, str], form: Form) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield rows (index: positions in `plan`) with place, size, sha256, contrast and fault, and the readable pixels.

    Pixels: uint8, N x S x S x C, of those rows that have a contrast, in their order.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, wanted in plan.groupby("shard", sort=True):
            shard = read_table("shard", shards[name], ["image", "image_id", "sha256"])
            place = {image_id: row for row, image_id in enumerate(shard.column("image_id").to_pylist())}
            data = shard.column("image").combine_chunks().field("bytes")
            sums = shard.column("sha256")
            rows = wanted["image_id"].map(place)
            for begin in range(0, len(wanted), form.chunk):
                some = rows.iloc[begin : begin + form.chunk]
                encoded = [None if pd.isna(row) else data[int(row)].as_py() for row in some]
                sizes = wanted["stored_size"].iloc[begin : begin + form.chunk]
                found = list(pool.map(read_image, encoded, sizes, [form] * len(some)))
                table = pd.DataFrame([facts for facts, _ in found], some.index)
                there = some.notna()
                table["row"] = some.astype("Int64")
                table["path"] = np.where(there, shards[name], None)
                table["column"] = np.where(there, "image", None)
                table["sha256"] = ["" if pd.isna(row) else sums[int(row)].as_py() for row in some]
                pixels = [pixels for _, pixels in found if pixels is not None]
                yield table, np.stack(pixels) if pixels else np.empty((0, 0, 0, 0), np.uint8)


def _read_real(real: pd.DataFrame, form: Form) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions in `real` and their pixels (uint8, N x S x S x C); every file is read once."""

    def decode(position: int, data: bytes) -> np.ndarray:
        try:
            return decode_image(data, form.image_size, form.color)
        except Exception as error:
            raise UserError(
                f"{real['path'].iloc[position]}: cannot be decoded: {error}; index the data again"
            ) from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for positions, encoded in read_encoded(real):
            for begin in range(0, len(positions), form.chunk):
                some = slice(begin, begin + form.chunk)
                yield positions[some], np.stack(list(pool.map(decode, positions[some], encoded[some])))


def read_image(data: bytes | None, stored_size: int, form: Form) -> tuple[dict, np.ndarray | None]:
    """width, height, contrast (standard deviation, 0 to 255) and fault of an encoded image, and its pixels.

    fault: why it can't be used, or None. Pixels: uint8, S x S x C, scaled to the experiment's size if need be.
    """
    if data is None:
        return {"width": None, "height": None, "contrast": None, "fault": "is not in its shard"}, None
    try:
        width, height = Image.open(io.BytesIO(data), formats=FORMATS).size
        pixels = decode_image(data, form.image_size, form.color)
    except Exception as error:
        width, height, fault = inspect_image(data, max_megapixels=float("inf"))
        fault = fault or f"cannot be decoded ({error})"
        return {"width": width, "height": height, "contrast": None, "fault": fault}, None
    wrong = (width, height) != (stored_size, stored_size)
    fault = f"is {width} x {height} pixels, not {stored_size} x {stored_size}" if wrong else None
    return {"width": width, "height": height, "contrast": float(np.std(pixels)), "fault": fault}, pixels
