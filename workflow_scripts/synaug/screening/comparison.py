"""The images of an experiment compared with each other: the nearest neighbours of every synthetic image.

The scores and features come from the rules score_shard and score_real. No image is opened.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from synaug.images.perceptual_hash import FURTHEST, nearest_earlier_hashes, nearest_hashes
from synaug.manifests import read_table, with_fill, with_group
from synaug.manifests.schemas import SCHEMAS
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)
_COMPARED_BY = ["perceptual_hash", "features", "extractor"]


@dataclass
class ScoredImages:
    """Images, and what they are compared by.

    rows: of the manifest `shard_scores` or `real_scores`, without perceptual_hash, features and extractor. readable:
    bool, N; other images have neither hash nor features. hashes: uint64, N. features: float32, M x D, of the readable
    images; None: no network made any. feature_rows: int64, N, the row of each readable image in `features`.
    extractor: the network that made the features, and its version; empty: none.
    """

    rows: pd.DataFrame
    readable: np.ndarray
    hashes: np.ndarray
    features: np.ndarray | None
    feature_rows: np.ndarray
    extractor: str

    def take(self, positions: np.ndarray) -> "ScoredImages":
        """The images at `positions`, in this order. The features are not copied."""
        return ScoredImages(
            self.rows.iloc[positions].reset_index(drop=True),
            self.readable[positions],
            self.hashes[positions],
            self.features,
            self.feature_rows[positions],
            self.extractor,
        )

    def features_of(self, positions: np.ndarray) -> np.ndarray:
        """The features of the readable images at `positions`: float32, n x D."""
        return self.features[self.feature_rows[positions]]


def read_scored_images(kind: str, paths: Iterable[str]) -> ScoredImages:
    """Read files of the manifest `kind`, shard_scores or real_scores, one after the other.

    Raises UserError if their features come from more than one network.
    """
    readable, hashes, features, extractors = [np.empty(0, bool)], [np.empty(0, np.uint64)], [], {}
    rows = [SCHEMAS[kind].empty_table().drop_columns(_COMPARED_BY)]
    for path in paths:
        table = read_table(kind, path)
        column = table.column("perceptual_hash")
        readable.append(column.is_valid().to_numpy())
        hashes.append(column.fill_null(0).to_numpy())
        parts = [part for part in table.column("features").chunks if len(part) > part.null_count]
        features += [part.flatten().to_numpy().reshape(len(part) - part.null_count, -1) for part in parts]
        extractors |= {name: path for name in table.column("extractor").unique().to_pylist() if name}
        rows.append(table.drop_columns(_COMPARED_BY))
    if len(extractors) > 1:
        problem = f"{list(extractors.values())[-1]}: has features of another network than the other files"
        raise UserError(problem, advice="delete it and run again")
    is_readable = np.concatenate(readable)
    return ScoredImages(
        _plain(pa.concat_tables(rows)),
        is_readable,
        np.concatenate(hashes),
        np.concatenate(features) if features else None,
        np.cumsum(is_readable) - 1,
        next(iter(extractors), ""),
    )


def _plain(table: pa.Table) -> pd.DataFrame:
    """`table` as a data frame, with plain strings instead of dictionaries."""
    fields = [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).to_pandas()


def compare_images(
    plan: pd.DataFrame,
    shards: str,
    synthetic: ScoredImages,
    real: ScoredImages | None,
    train_split: str,
    *,
    duplicates: bool,
    leakage: bool,
    device: str = "cpu",
) -> tuple[pd.DataFrame, pa.Table | None]:
    """Rows of the manifests `scores` (one per planned image) and `features` (None without features).

    plan: columns image_id, label, label_name, group, fill, index and shard of the manifest `plan`. shards: logical path
    of the folder of the shards. real: of the training split and of the held-out splits, needed for features and
    `leakage` only. duplicates: whether the nearest earlier images of the same class and fill are searched. leakage:
    whether the nearest training and held-out images are. Validation images count as test images: they decide results
    too. `features` has one row per readable synthetic image, and per training image.
    Raises UserError if a planned image has no scores, or if synthetic and real features come from different networks.
    """
    plan = with_fill(with_group(plan)).sort_values(["label", "group", "fill", "index"], ignore_index=True)
    positions = pd.Index(synthetic.rows["image_id"]).get_indexer(plan["image_id"])
    if (positions < 0).any():
        missing = plan[positions < 0].iloc[0]
        problem = f"scores/{missing['shard']}.parquet: has no image {missing['image_id']}"
        raise UserError(problem, advice="delete it and run again")
    synthetic = synthetic.take(positions)
    if real and synthetic.features is not None and real.extractor != synthetic.extractor:
        problem = "real_scores.parquet: has features of another network than scores/*.parquet"
        raise UserError(problem, advice="delete both and run again")
    in_shard = synthetic.rows["row"].notna()
    table = plan[["image_id", "label", "label_name", "group", "fill", "index"]].join(
        synthetic.rows.drop(columns="image_id")
    )
    table = table.assign(
        path=(f"{shards}/" + plan["shard"].astype(object) + ".parquet").where(in_shard, None),
        column=np.where(in_shard, "image", None),
    )
    start = time.monotonic()
    if duplicates:
        neighbours = [
            _nearest_earlier(synthetic, of_class.to_numpy()[synthetic.readable[of_class]], device)
            for of_class in plan.groupby(["label", "fill"]).groups.values()
        ]
        table = table.join(pd.concat(neighbours)) if neighbours else table
    if leakage:
        is_train = (real.rows["split"] == train_split).to_numpy()
        for name, compared in (("train", is_train), ("test", ~is_train)):
            table = table.join(_nearest_real(name, synthetic, real, np.flatnonzero(compared), device))
    log.info("neighbours of %d images found, %.0f s", len(plan), time.monotonic() - start)
    if synthetic.features is None:
        return table, None
    train = np.flatnonzero(real.rows["split"] == train_split)
    kept, columns = np.flatnonzero(synthetic.readable), ["image_id", "label", "label_name", "group"]
    rows = [plan.loc[kept, columns].assign(source="synthetic"), real.rows.loc[train, columns].assign(source="real")]
    matrix = np.concatenate([synthetic.features_of(kept), real.features_of(train)])
    return table, _features_table(pd.concat(rows), matrix, synthetic.extractor)


def _nearest_earlier(images: ScoredImages, positions: np.ndarray, device: str) -> pd.DataFrame:
    """The nearest earlier image of each of the images at `positions`: the readable ones of a class, in plan order."""
    by_hash = nearest_earlier_hashes(images.hashes[positions])
    by_features = None
    if images.features is not None:
        from synaug.screening.neighbours import nearest_earlier_features, normalise

        by_features = nearest_earlier_features(normalise(images.features_of(positions), device))
    ids = images.rows["image_id"].to_numpy(object)[positions]
    return _neighbour_columns("earlier", positions, ids, by_hash, by_features)


def _nearest_real(
    name: str, images: ScoredImages, real: ScoredImages, real_positions: np.ndarray, device: str
) -> pd.DataFrame:
    """The nearest real image of each readable one of `images`, among those at `real_positions`."""
    positions = np.flatnonzero(images.readable)
    by_hash = nearest_hashes(images.hashes[positions], real.hashes[real_positions])
    by_features = None
    if images.features is not None:
        from synaug.screening.neighbours import nearest_features, normalise

        features = normalise(images.features_of(positions), device)
        by_features = nearest_features(features, normalise(real.features_of(real_positions), device))
    ids = real.rows["image_id"].to_numpy(object)[real_positions]
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
