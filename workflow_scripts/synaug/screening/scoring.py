"""Scores of the synthetic images: everything that takes long. The filters decide what the scores mean for an image."""

import io
import logging
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from synaug.config import Screening
from synaug.images.codec import CHANNELS, FORMATS, decode_image, inspect_image
from synaug.images.perceptual_hash import FURTHEST, nearest_earlier_hashes, nearest_hashes, perceptual_hashes
from synaug.images.store import read_encoded
from synaug.images.tables import ImageTable
from synaug.manifests import with_group
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)
CHUNK_BYTES = 1 << 26  # of decoded images in memory at a time
_STORED = ["sha256", "row", "path", "column"]  # where a synthetic image is


@dataclass
class DatasetSpec:
    """Size (side in pixels) and colour (grey or rgb) of the images that networks see, and the names of the splits."""

    image_size: int
    color: str
    train_split: str
    test_split: str
    validation_split: str | None = None

    @property
    def held_out_splits(self) -> list[str | None]:
        """Splits whose images count as test images. Validation images are among them: they decide results too."""
        return [self.test_split, self.validation_split]

    @property
    def chunk_size(self) -> int:
        """Number of images that are decoded at a time."""
        return int(np.clip(CHUNK_BYTES // (self.image_size**2 * CHANNELS[self.color]), 16, 4096))


@dataclass
class Scorers:
    """The networks that score images; None: not used. See `load_scorers`.

    feature_space: the name of the network whose features are used for comparisons; None: there are no features.
    extractor: name and version of this network.
    """

    device: str = "cpu"
    feature_space: str | None = None
    extractor: str = ""
    classifier: object = None
    text_image: object = None
    safety: object = None

    def score(self, pixels: np.ndarray, rows: pd.DataFrame) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Scores (column -> N values) and features (float32, N x D) of synthetic images.

        pixels: uint8, N x S x S x C. rows: columns label_name and prompt of these images.
        """
        scores, features = {}, {}
        if self.classifier:
            label_names = rows["label_name"].tolist()
            features["classifier"], scores["classifier_confidence"], scores["classifier_prediction"] = (
                self.classifier.score(pixels, label_names)
            )
        if self.text_image:
            features["text_image"], scores["text_image_score"] = self.text_image.score(pixels, rows["prompt"].tolist())
        if self.safety:
            scores["safety_score"] = self.safety.score(pixels)
        return scores, features.get(self.feature_space)

    def features(self, pixels: np.ndarray) -> np.ndarray | None:
        """Features of images, float32, N x D; None if there is no feature space."""
        return getattr(self, self.feature_space).features(pixels) if self.feature_space else None


class Fingerprints:
    """What a set of images is compared by: perceptual hashes (uint64, N) and features (float32, N x D, or None).

    readable: bool, N; images that cannot be read have neither.
    """

    def __init__(self, count: int, hashing: bool):
        self.hashing = hashing
        self.readable = np.zeros(count, bool)
        self.hashes = np.zeros(count, np.uint64)
        self.features: np.ndarray | None = None

    def add(self, positions: np.ndarray, pixels: np.ndarray, features: np.ndarray | None) -> None:
        """Set the hashes (if `hashing`) and features of the images at `positions`. pixels: uint8, n x S x S x C."""
        self.readable[positions] = True
        if self.hashing:
            self.hashes[positions] = perceptual_hashes(pixels)
        if features is not None:
            if self.features is None:
                self.features = np.zeros((len(self.readable), features.shape[1]), np.float32)
            self.features[positions] = features


def score_images(
    plan: pd.DataFrame,
    shards: dict[str, str],
    real: pd.DataFrame | None,
    screening: Screening,
    spec: DatasetSpec,
    scorers: Scorers | None = None,
) -> tuple[pd.DataFrame, pa.Table | None]:
    """Rows of the manifests `scores` (one per planned image) and `features` (None without a feature space).

    plan: columns image_id, label, label_name, group, index, prompt, stored_size, shard of the manifest `plan`. shards:
    shard name -> path. real: the manifest `real`, needed for features and `screening.leakage` only. scorers: from
    `load_scorers`; None: no networks.
    `features` has one row per readable synthetic image, and per usable real training image.
    Raises UserError if a shard or a real image is gone.
    """
    scorers = scorers or Scorers()
    plan = with_group(plan).sort_values(["label", "group", "index"], ignore_index=True)
    start = time.monotonic()
    table, synthetic = _score_shards(plan, shards, screening, spec, scorers)
    splits = [spec.train_split] if scorers.feature_space or screening.leakage else []
    splits += spec.held_out_splits if screening.leakage else []
    if splits:
        real = real[real["usable"] & real["split"].isin(splits)].reset_index(drop=True)
        real_fingerprints = _fingerprint_real(real, screening, spec, scorers)
        log.info("%d real images read, %.0f s", len(real), time.monotonic() - start)
    if screening.duplicates:
        neighbours = [
            _nearest_earlier(synthetic, positions.to_numpy()[synthetic.readable[positions]], plan, scorers.device)
            for positions in plan.groupby("label").groups.values()
        ]
        table = table.join(pd.concat(neighbours)) if neighbours else table
    if screening.leakage:
        for name, compared_splits in (("train", [spec.train_split]), ("test", spec.held_out_splits)):
            positions = np.flatnonzero(real["split"].isin(compared_splits))
            table = table.join(_nearest_real(name, synthetic, real_fingerprints, positions, real, scorers.device))
    log.info("neighbours found, %.0f s", time.monotonic() - start)
    if synthetic.features is None:
        return table, None
    train = np.flatnonzero(real["split"] == spec.train_split)
    columns = ["image_id", "label", "label_name"]
    synthetic_rows = plan.loc[synthetic.readable, columns].assign(source="synthetic")
    rows = pd.concat([synthetic_rows, real.loc[train, columns].assign(source="real")])
    matrix = np.concatenate([synthetic.features[synthetic.readable], real_fingerprints.features[train]])
    return table, _features_table(rows, matrix, scorers.extractor)


def _score_shards(
    plan: pd.DataFrame, shards: dict[str, str], screening: Screening, spec: DatasetSpec, scorers: Scorers
) -> tuple[pd.DataFrame, Fingerprints]:
    """Rows of the manifest `scores` without neighbours, and the fingerprints of the images, both in plan order."""
    fingerprints = Fingerprints(len(plan), hashing=bool(screening.duplicates or screening.leakage))
    parts, start, done = [], time.monotonic(), 0
    for rows, pixels in _read_shards(plan, shards, spec):
        readable = rows.index[rows["contrast"].notna()]
        if len(readable):
            scores, features = scorers.score(pixels, plan.loc[readable])
            fingerprints.add(readable.to_numpy(), pixels, features)
            rows = rows.join(pd.DataFrame(scores, readable))
        parts.append(rows)
        done += len(rows)
        log.info("%d/%d images, %.0f images/s", done, len(plan), done / (time.monotonic() - start))
    table = plan[["image_id", "label", "label_name", "group", "index"]]
    return table.join(pd.concat(parts)) if parts else table.assign(sha256=""), fingerprints


def _fingerprint_real(real: pd.DataFrame, screening: Screening, spec: DatasetSpec, scorers: Scorers) -> Fingerprints:
    fingerprints = Fingerprints(len(real), hashing=bool(screening.leakage))
    for positions, pixels in _read_real(real, spec):
        fingerprints.add(positions, pixels, scorers.features(pixels))
    return fingerprints


def _nearest_earlier(images: Fingerprints, positions: np.ndarray, plan: pd.DataFrame, device: str) -> pd.DataFrame:
    """The nearest earlier image of each of the images at `positions` (the readable ones of a class, in plan order)."""
    by_hash = nearest_earlier_hashes(images.hashes[positions])
    by_features = None
    if images.features is not None:
        from synaug.screening.neighbours import nearest_earlier_features, normalise

        by_features = nearest_earlier_features(normalise(images.features[positions], device))
    ids = plan["image_id"].to_numpy(object)[positions]
    return _neighbour_columns("earlier", positions, ids, by_hash, by_features)


def _nearest_real(
    name: str, images: Fingerprints, others: Fingerprints, other_positions: np.ndarray, real: pd.DataFrame, device: str
) -> pd.DataFrame:
    """The nearest real image of each readable one of `images`, among those at `other_positions`."""
    positions = np.flatnonzero(images.readable)
    by_hash = nearest_hashes(images.hashes[positions], others.hashes[other_positions])
    by_features = None
    if images.features is not None:
        from synaug.screening.neighbours import nearest_features, normalise

        features = normalise(images.features[positions], device)
        by_features = nearest_features(features, normalise(others.features[other_positions], device))
    ids = real["image_id"].to_numpy(object)[other_positions]
    return _neighbour_columns(name, positions, ids, by_hash, by_features)


def _neighbour_columns(
    name: str,
    positions: np.ndarray,
    other_ids: np.ndarray,
    by_hash: tuple[np.ndarray, np.ndarray],
    by_features: tuple[np.ndarray, np.ndarray] | None,
) -> pd.DataFrame:
    """The columns of the manifest `scores` about the nearest `name` image, for the images at `positions`.

    other_ids: ids of the images that were compared. by_hash: for each image the position of its neighbour among them
    (-1: none) and the distance. by_features: the same with the similarity; None without a feature space.
    """

    def ids_at(nearest: np.ndarray) -> list[str | None]:
        return [other_ids[i] if i >= 0 else None for i in nearest]

    nearest, distance = by_hash
    columns = {
        f"hash_nearest_{name}": pd.Series(ids_at(nearest), positions, object),
        f"nearest_{name}_distance": pd.Series(np.where(distance < FURTHEST, distance, np.nan), positions, float),
    }
    if by_features is not None:
        nearest, similarity = by_features
        columns[f"nearest_{name}"] = pd.Series(ids_at(nearest), positions, object)
        columns[f"nearest_{name}_similarity"] = pd.Series(similarity, positions)
    return pd.DataFrame(columns)


def _features_table(rows: pd.DataFrame, matrix: np.ndarray, extractor: str) -> pa.Table:
    """The manifest `features`. rows: image_id, label, label_name, source. matrix: their features, float32, N x D."""
    lists = pa.ListArray.from_arrays(np.arange(len(matrix) + 1) * matrix.shape[1], matrix.ravel())
    table = pa.Table.from_pandas(rows, preserve_index=False).append_column("features", lists)
    return table.append_column("extractor", pa.array([extractor] * len(matrix)))


def _read_shards(
    plan: pd.DataFrame, shards: dict[str, str], spec: DatasetSpec
) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Yield rows (index: positions in `plan`) with location, size, sha256, contrast and fault, and the pixels.

    Pixels: uint8, N x S x S x C, of the readable images (those that have a contrast), in the order of the rows.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, planned in plan.groupby("shard", sort=True):
            recorded, unread = _recorded_rows(shards[name])
            rows = planned[["image_id", "stored_size"]].join(recorded, on="image_id")
            in_shard = rows["row"].notna()
            rows = rows.assign(
                row=rows["row"].astype("Int64"),
                sha256=rows["sha256"].fillna(""),
                path=np.where(in_shard, shards[name], None),
                column=np.where(in_shard, "image", None),
            )
            absent, rows = rows[~in_shard], rows[in_shard]
            if len(absent):
                fault = f"is not in its shard{unread and f', whose {unread}'}"
                sizes = pd.DataFrame({"width": None, "height": None, "contrast": None, "fault": fault}, absent.index)
                yield absent[_STORED].join(sizes), np.empty((0, 0, 0, 0), np.uint8)
            damaged: dict[int, str] = {}
            for positions, encoded in read_encoded(rows, damaged):
                for start in range(0, len(positions), spec.chunk_size):
                    chunk = slice(start, start + spec.chunk_size)
                    table = rows.iloc[positions[chunk]]
                    inspected = list(pool.map(read_image, encoded[chunk], table["stored_size"], repeat(spec)))
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


def _read_real(real: pd.DataFrame, spec: DatasetSpec) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions in `real` and their pixels (uint8, N x S x S x C). Every file is read once."""

    def decode(position: int, encoded: bytes) -> np.ndarray:
        try:
            return decode_image(encoded, spec.image_size, spec.color)
        except Exception as error:
            path = real["path"].iloc[position]
            raise UserError(f"{path}: cannot be decoded: {error}", advice="index the data again") from None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for positions, encoded in read_encoded(real):
            for start in range(0, len(positions), spec.chunk_size):
                chunk = slice(start, start + spec.chunk_size)
                yield positions[chunk], np.stack(list(pool.map(decode, positions[chunk], encoded[chunk])))


def read_image(encoded: bytes | None, stored_size: int, spec: DatasetSpec) -> tuple[dict, np.ndarray | None]:
    """width, height, contrast (standard deviation, 0 to 255) and fault of an encoded image, and its pixels.

    fault: why the image cannot be used; None: it can. Pixels: uint8, S x S x C, scaled to `spec.image_size`.
    """
    if encoded is None:
        return {"width": None, "height": None, "contrast": None, "fault": "is not in its shard"}, None
    try:
        width, height = Image.open(io.BytesIO(encoded), formats=FORMATS).size
        pixels = decode_image(encoded, spec.image_size, spec.color)
    except Exception as error:
        width, height, fault = inspect_image(encoded, max_megapixels=float("inf"))
        fault = fault or f"cannot be decoded ({error})"
        return {"width": width, "height": height, "contrast": None, "fault": fault}, None
    wrong_size = (width, height) != (stored_size, stored_size)
    fault = f"is {width} x {height} pixels, not {stored_size} x {stored_size}" if wrong_size else None
    return {"width": width, "height": height, "contrast": float(np.std(pixels)), "fault": fault}, pixels
