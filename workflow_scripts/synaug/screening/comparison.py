"""The images of an experiment compared with each other: the nearest neighbours of every synthetic image.

The scores and features come from the rules score_shard and score_real. No image is opened.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.images.perceptual_hash import FURTHEST, nearest_earlier_hashes, nearest_hashes
from synaug.manifests import read_table, to_frame
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError
from synaug.screening.features import check_size
from synaug.screening.planned import Planned

log = logging.getLogger(__name__)
_COMPARED_BY = ["perceptual_hash", "features", "extractor"]
_OF_PLAN = ["image_id", "label", "label_name", "group", "fill", "index"]


@dataclass
class ScoredImages:
    """What images are compared by.

    readable: bool, N; other images have neither hash nor features. hashes: uint64, N. features: float32, M x D, of the
    readable images; None: no network made any. feature_rows: int64, N, the row of each readable image in `features`.
    extractor: the network that made the features, and its version; empty: none.
    """

    readable: np.ndarray
    hashes: np.ndarray
    features: np.ndarray | None
    feature_rows: np.ndarray
    extractor: str

    def features_of(self, positions: np.ndarray) -> np.ndarray:
        """The features of the readable images at `positions`: float32, n x D."""
        return self.features[self.feature_rows[positions]]


def read_planned_images(planned: Planned, scored: Iterable[str]) -> ScoredImages:
    """The images of the plan, in its order. scored: files of the manifest `shard_scores`, scores/<shard>.parquet.

    Raises UserError if a planned image has no scores, or if the features come from more than one network.
    """
    return _scored_images(len(planned), planned.in_files(scored, ["image_id", *_COMPARED_BY]))


def read_real_images(path: str) -> tuple[pd.DataFrame, ScoredImages]:
    """The rows of the manifest `real_scores` at `path`, and what these images are compared by."""
    table = read_table("real_scores", path)
    rows = to_frame(table.drop_columns(_COMPARED_BY))
    return rows, _scored_images(len(rows), [(path, table, np.arange(len(rows)))])


def _scored_images(count: int, parts: Iterable[tuple[str, pa.Table, np.ndarray]]) -> ScoredImages:
    """Images by what files say of them. parts: path, rows of the file, and the positions of these images."""
    readable, hashes = np.zeros(count, bool), np.zeros(count, np.uint64)
    feature_rows, with_features = np.zeros(count, np.int64), 0
    features, extractors = [], {}
    for path, table, positions in parts:
        column = table.column("perceptual_hash")
        is_readable = column.is_valid().to_numpy()
        readable[positions] = is_readable
        hashes[positions] = column.fill_null(0).to_numpy()
        feature_rows[positions] = with_features + np.cumsum(is_readable) - 1
        with_features += int(is_readable.sum())
        chunks = [part for part in table.column("features").chunks if len(part) > part.null_count]
        features += [part.flatten().to_numpy().reshape(len(part) - part.null_count, -1) for part in chunks]
        extractors |= {name: path for name in table.column("extractor").unique().to_pylist() if name}
        if len(extractors) > 1:
            problem = f"{path}: has features of another network than the other files"
            raise UserError(problem, advice="delete it and run again")
    matrix = np.concatenate(features) if features else None
    return ScoredImages(readable, hashes, matrix, feature_rows, next(iter(extractors), ""))


class Neighbours:
    """The nearest images of N images. As arrays of N numbers: texts of millions of images would not fit into memory.

    by_hash: position of the neighbour (-1: none). distance: differing bits, FURTHEST without a neighbour. by_features:
    position of the neighbour, and similarity: of it, NaN without one; both empty without features.
    """

    def __init__(self, count: int, with_features: bool) -> None:
        self.by_hash, self.distance = np.full(count, -1, np.int32), np.full(count, FURTHEST, np.int8)
        self.by_features = np.full(count if with_features else 0, -1, np.int32)
        self.similarity = np.full(len(self.by_features), np.nan, np.float32)

    def columns(self, name: str, positions: np.ndarray, ids: pa.ChunkedArray) -> dict[str, pa.Array]:
        """Those of the manifest `scores` about the nearest `name` image, of the images at `positions`.

        ids: of the images that the neighbours are among.
        """
        distance = self.distance[positions]
        columns = {
            f"hash_nearest_{name}": _taken(ids, self.by_hash[positions]),
            f"nearest_{name}_distance": pa.array(distance.astype(np.int32), mask=distance == FURTHEST),
        }
        if len(self.by_features):
            columns[f"nearest_{name}"] = _taken(ids, self.by_features[positions])
            columns[f"nearest_{name}_similarity"] = pa.array(self.similarity[positions], from_pandas=True)
        return columns


def _taken(ids: pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """`ids` at `positions`; null at -1."""
    return ids.take(pa.array(positions, mask=positions < 0))


def compare_images(
    planned: Planned,
    scored: Sequence[str],
    shards: str,
    real: tuple[pd.DataFrame, ScoredImages] | None,
    train_split: str,
    *,
    duplicates: bool,
    leakage: bool,
    device: str = "cpu",
) -> tuple[Iterator[pa.Table], pa.Table | None]:
    """Rows of the manifests `scores` (one per planned image; in tables, shard by shard) and `features` (None without).

    scored: files of the manifest `shard_scores` of all shards, scores/<shard>.parquet. They are read twice: first only
    what images are compared by. shards: logical path of the folder of the shards. real: of the training split and of
    the held-out splits, from `read_real_images`, needed for features and `leakage` only. duplicates: whether the
    nearest earlier images of the same class and fill are searched. leakage: whether the nearest training and held-out
    images are. Validation images count as test images: they decide results too. `features` has one row per readable
    synthetic image, and per training image.
    Raises UserError as `read_planned_images`, and if synthetic and real features come from different networks.
    """
    synthetic = read_planned_images(planned, scored)
    if real and synthetic.features is not None and real[1].extractor != synthetic.extractor:
        problem = "real_scores.parquet: has features of another network than scores/*.parquet"
        raise UserError(problem, advice="delete both and run again")
    if synthetic.features is not None:  # before the search, which takes long
        images = synthetic.readable.sum() + (real[0]["split"] == train_split).sum()
        check_size(int(images), synthetic.features.shape[1])
    start = time.monotonic()
    # Name in the columns -> the neighbours, and the ids of the images that they are among.
    found: dict[str, tuple[Neighbours, pa.ChunkedArray]] = {}
    if duplicates:
        found["earlier"] = _nearest_earlier(planned, synthetic, device), planned.rows.column("image_id")
    if leakage:
        rows, images = real
        is_train = (rows["split"] == train_split).to_numpy()
        for name, compared in (("train", is_train), ("test", ~is_train)):
            ids = pa.chunked_array([pa.array(rows.loc[compared, "image_id"], pa.string())])
            found[name] = _nearest_real(synthetic, images, np.flatnonzero(compared), device), ids
    log.info("neighbours of %d images found, %.0f s", len(planned), time.monotonic() - start)
    scores = _scores(planned, scored, shards, found)
    if synthetic.features is None:
        return scores, None
    kept, columns = np.flatnonzero(synthetic.readable), ["image_id", "label", "label_name", "group"]
    kept_rows = to_frame(planned.rows.select(columns).take(pa.array(kept))).assign(source="synthetic")
    train = np.flatnonzero(real[0]["split"] == train_split)
    rows = pd.concat([kept_rows, real[0].loc[train, columns].assign(source="real")])
    matrix = np.concatenate([synthetic.features_of(kept), real[1].features_of(train)])
    return scores, _features_table(rows, matrix, synthetic.extractor)


def _scores(
    planned: Planned, scored: Sequence[str], shards: str, found: dict[str, tuple[Neighbours, pa.ChunkedArray]]
) -> Iterator[pa.Table]:
    """The rows of the manifest `scores`, in tables, shard by shard."""
    schema = SCHEMAS["scores"]
    kept = [name for name in SCHEMAS["shard_scores"].names if name not in _COMPARED_BY]
    for path, table, positions in planned.in_files(scored, kept):
        at, in_shard = pa.array(positions), table.column("row").is_valid().to_numpy()
        columns = {name: planned.rows.column(name).take(at) for name in _OF_PLAN}
        for name in kept[1:]:
            column = table.column(name)
            is_float = pa.types.is_floating(column.type)  # not a number is no score
            columns[name] = pa.array(column.to_numpy(), from_pandas=True) if is_float else column
        for name, value in (("path", f"{shards}/{Path(path).name}"), ("column", "image")):
            columns[name] = pa.array(np.where(in_shard, value, None), pa.string())
        for name, (neighbours, ids) in found.items():
            columns |= neighbours.columns(name, positions, ids)
        arrays = [columns.get(field.name, pa.nulls(len(positions), field.type)) for field in schema]
        yield pa.Table.from_arrays(arrays, names=schema.names)


def _nearest_earlier(planned: Planned, images: ScoredImages, device: str) -> Neighbours:
    """The nearest earlier image of each of `images`: among the readable ones of its class and fill, in plan order."""
    found = Neighbours(len(planned), images.features is not None)
    for of_class in planned.classes():
        positions = of_class[images.readable[of_class]]
        nearest, found.distance[positions] = nearest_earlier_hashes(images.hashes[positions])
        found.by_hash[positions] = _at(positions, nearest)
        if images.features is not None:
            from synaug.screening.neighbours import nearest_earlier_features, normalise

            features = normalise(images.features_of(positions), device)
            nearest, found.similarity[positions] = nearest_earlier_features(features)
            found.by_features[positions] = _at(positions, nearest)
    return found


def _at(positions: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """`positions` at the places `nearest`; -1 where that is -1."""
    return np.append(positions, -1)[nearest]


def _nearest_real(images: ScoredImages, real: ScoredImages, real_positions: np.ndarray, device: str) -> Neighbours:
    """The nearest real image of each readable one of `images`, as a place in `real_positions`."""
    found, positions = Neighbours(len(images.readable), images.features is not None), np.flatnonzero(images.readable)
    nearest = nearest_hashes(images.hashes[positions], real.hashes[real_positions])
    found.by_hash[positions], found.distance[positions] = nearest
    if images.features is not None:
        from synaug.screening.neighbours import nearest_features, normalise

        features = normalise(images.features_of(positions), device)
        nearest = nearest_features(features, normalise(real.features_of(real_positions), device))
        found.by_features[positions], found.similarity[positions] = nearest
    return found


def _features_table(rows: pd.DataFrame, matrix: np.ndarray, extractor: str) -> pa.Table:
    """The manifest `features`. rows: image_id, label, label_name, source. matrix: their features, float32, N x D."""
    lists = pa.ListArray.from_arrays(np.arange(len(matrix) + 1) * matrix.shape[1], matrix.ravel())
    table = pa.Table.from_pandas(rows, preserve_index=False).append_column("features", lists)
    return table.append_column("extractor", pa.array([extractor] * len(matrix)))
