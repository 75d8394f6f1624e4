"""The balanced manifest: all usable real training images, and the best accepted synthetic images."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from heapq import merge
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from synaug.config import Balance, Fill
from synaug.manifests import count_rows, read_manifest, read_with_local_paths, runs, stream_table, with_fill, with_group
from synaug.plan.targets import wanted_of_fills
from synaug.runtime.errors import UserError
from synaug.screening.features import Features, covering

log = logging.getLogger(__name__)

_CELL = ["label_name", "group"]
_CELL_OF_FILL = ["fill", *_CELL]
# What decides which images are kept, beside their number.
_DECIDES = {
    "score": ["text_image_score", "classifier_confidence"],
    "uncertain": ["classifier_confidence", "classifier_entropy"],
    "coverage": ["image_id"],
}
_COLUMNS = ["image_id", "label", *_CELL, "source", "fill", "index", "weight", "sha256", "path", "row", "column"]
_OF_BOTH = ["image_id", "label", *_CELL, "sha256", "path", "row", "column"]

# What of an image is part of the hash of a recipe's images, or decides whether the recipe uses it.
_HASHED = ["image_id", "sha256", "label", *_CELL]
_HASHED_AT_ONCE = 1 << 16  # rows

# Rows of the manifest `synthetic` in parts, one after the other: a function of the columns that are needed.
Parts = Callable[[list[str]], Iterable[pd.DataFrame]]
# Why images of a cell were rejected: check -> how many, and the reason of one of them.
_Rejected = dict[str, tuple[int, str]]


def build_balanced_manifest(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    imbalance: pd.DataFrame,
    train_split: str,
    balance: Balance,
    fill_may_be_empty: bool = False,
    gate: pd.DataFrame | None = None,
    features: Features | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `balanced`: for each cell all usable real images and, to fill it, the best synthetic images.

    real, synthetic: the manifests of these names. The others: see `kept_images`. A real image has weight 1, a synthetic
    one the weight from the screening. Raises UserError as `kept_images`.
    """
    synthetic = synthetic.sort_values("label", kind="stable")
    is_kept = kept_images(lambda columns: [synthetic], imbalance, balance, fill_may_be_empty, gate, features)
    kept = with_fill(with_group(synthetic))[is_kept].assign(source="synthetic")
    train = real_training_rows(real, train_split)
    return pd.concat([train, kept], ignore_index=True).reindex(columns=_COLUMNS).astype({"index": "Int32"})


def kept_images(
    parts: Parts,
    imbalance: pd.DataFrame,
    balance: Balance,
    fill_may_be_empty: bool = False,
    gate: pd.DataFrame | None = None,
    features: Features | None = None,
) -> np.ndarray:
    """Which rows of the manifest `synthetic` fill the cells: bool, N.

    parts: these rows, sorted by label. imbalance, gate: the manifests of these names. `wanted_of_fills` gives the
    number of synthetic images of a cell, `balance.keep` which of the accepted ones they are. features: of the manifest
    of this name, for `keep: coverage`. Each fill completes the cells. A cell with fewer accepted images than wanted is
    logged. Raises UserError instead if `balance.shortfall` is `error`, or if no synthetic image of a fill is left in
    any cell. fill_may_be_empty: the latter is only logged, because a recipe is chosen later and can be one without
    synthetic images.
    """
    fills, count = set(), 0
    for rows in parts(["fill"]):
        fills |= set(with_fill(rows)["fill"].unique())
        count += len(rows)
    # A fill of which the gate leaves nothing has no image here.
    fills = sorted(fills.union([] if gate is None else gate["fill"])) or [""]
    wanted = wanted_of_fills(with_group(imbalance)[imbalance["kind"] == "cell"], fills, balance, gate)
    limits = wanted.to_dict()
    cells: dict[tuple, int] = {}  # (fill, label_name, group) -> its number
    rejected: dict[tuple, _Rejected] = {}
    has: Counter[int] = Counter()  # number of a cell -> images that are kept
    is_kept = np.zeros(count, bool)
    for accepted in _whole_classes(_accepted(parts, balance.keep, cells, rejected)):
        of_cell = np.array([limits.get(cell, 0) for cell in cells], int)
        if balance.keep == "coverage":
            positions = _covering(accepted, of_cell, features)
        else:
            order = best_first(accepted, balance.keep)
            cell = accepted["cell"].to_numpy()[order]
            first = np.searchsorted(cell, cell)
            positions = accepted["position"].to_numpy()[order[np.arange(len(order)) - first < of_cell[cell]]]
        is_kept[positions] = True
        has.update(accepted["cell"][is_kept[accepted["position"].to_numpy()]].value_counts().to_dict())
    kept = pd.Series({cell: has[number] for cell, number in cells.items()}, dtype=int).reindex(
        wanted.index, fill_value=0
    )
    if gate is not None and not fill_may_be_empty:
        _refuse_an_empty_fill(gate)
    for fill in fills:
        of_fill = kept.loc[[fill]]
        is_error = balance.shortfall == "error" or (not of_fill.any() and not fill_may_be_empty)
        _report_shortfall(wanted.loc[[fill]], of_fill, rejected, is_error)
    return is_kept


def _accepted(
    parts: Parts, keep: str, cells: dict[tuple, int], rejected: dict[tuple, _Rejected]
) -> Iterator[pd.DataFrame]:
    """The accepted images of each of `parts`: label, index, cell (its number), position and what `keep` decides by.

    Adds cells to `cells`, and rejected images to `rejected`.
    """
    count = 0
    for rows in parts(["label", *_CELL_OF_FILL, "index", "accepted", "rejected_by", "reason", *_DECIDES[keep]]):
        rows = with_fill(with_group(rows)).reset_index(drop=True)
        number = np.empty(len(rows), np.int32)
        for cell, positions in rows.groupby(_CELL_OF_FILL, sort=False).indices.items():
            number[positions] = cells.setdefault(cell, len(cells))
        is_accepted = rows["accepted"].to_numpy(bool)
        _count_rejected(rows[~is_accepted], rejected)
        # Numbers alone: ids and texts of all images of a large class would not fit into memory.
        kept_columns = rows.loc[is_accepted, ["label", "index", *_DECIDES[keep]]]
        yield kept_columns.assign(cell=number[is_accepted], position=count + np.flatnonzero(is_accepted))
        count += len(rows)


def _whole_classes(parts: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The rows of `parts`, which are sorted by label, in parts that have all rows of their classes."""
    pending: list[pd.DataFrame] = []
    for rows in parts:
        labels = rows["label"].to_numpy()
        before = pending[-1]["label"].to_numpy()[-1:] if pending else labels[:1]
        starts = np.flatnonzero(np.diff(labels, prepend=before)) if len(labels) else []
        if len(starts):
            yield pd.concat([*pending, rows[: starts[-1]]], ignore_index=True)
            pending, rows = [], rows[starts[-1] :]
        if len(rows):
            pending.append(rows)
    if pending:
        yield pd.concat(pending, ignore_index=True)


def _count_rejected(rows: pd.DataFrame, rejected: dict[tuple, _Rejected]) -> None:
    """Add the rejected `rows` to `rejected`."""
    if rows.empty:
        return
    counts = rows.groupby([*_CELL_OF_FILL, "rejected_by"], sort=False)["reason"].agg(["size", "first"])
    for (*cell, check), (size, reason) in zip(counts.index, counts.itertuples(index=False), strict=True):
        of_cell = rejected.setdefault(tuple(cell), {})
        before, example = of_cell.get(check, (0, reason))
        of_cell[check] = (before + size, example)


def balanced_rows(real: str, synthetic: str, train_split: str, is_kept: np.ndarray) -> Iterator[pa.Table]:
    """The rows of the manifest `balanced`, in its order: usable training images of `real`, kept images of `synthetic`.

    real, synthetic: paths of these manifests. is_kept: of `kept_images`.
    """
    # Both are sorted by label and id, and of equal labels the first stream comes first: nothing is left to sort.
    by_class = merge(
        runs(_real_rows(real, train_split), "label"), runs(_kept_rows(synthetic, is_kept), "label"), key=itemgetter(0)
    )
    return (rows for _, rows in by_class)


def _real_rows(real: str, train_split: str) -> Iterator[pa.Table]:
    for rows in stream_table("real", real, [*_OF_BOTH, "usable"], only=("split", train_split)):
        rows = rows.filter(rows.column("usable")).drop_columns("usable")
        new = {"source": "real", "fill": "", "index": pa.scalar(None, pa.int32()), "weight": 1.0}
        yield _with_columns(rows, new)


def _kept_rows(synthetic: str, is_kept: np.ndarray) -> Iterator[pa.Table]:
    start = 0
    for rows in stream_table("synthetic", synthetic, [*_OF_BOTH, "fill", "index", "weight"]):
        part = is_kept[start : start + len(rows)]
        start += len(rows)
        yield _with_columns(rows.filter(pa.array(part)), {"source": "synthetic"})


def _with_columns(rows: pa.Table, values: dict) -> pa.Table:
    for name, value in values.items():
        rows = rows.append_column(name, pa.repeat(value, len(rows)))
    return rows


def real_training_rows(real: pd.DataFrame, train_split: str) -> pd.DataFrame:
    """The rows of the manifest `balanced` with real images, from the manifest `real`: every usable training image."""
    train = with_group(real[(real["split"] == train_split) & real["usable"]]).assign(source="real", fill="", weight=1.0)
    return train.reset_index(drop=True).reindex(columns=_COLUMNS).astype({"index": "Int32"})


def training_rows(balanced: str | None, real: pd.DataFrame, train_split: str) -> pd.DataFrame:
    """The images that recipes choose from (`rows_of_recipe`), with local paths.

    balanced: path of the manifest of this name; None: for recipes without synthetic images, which need only rows of the
    manifest `real`, read with local paths.
    """
    return read_with_local_paths("balanced", balanced) if balanced else real_training_rows(real, train_split)


def best_first(accepted: pd.DataFrame, keep: str = "score") -> np.ndarray:
    """Positions of the rows of `accepted`, cell by cell, those of a cell with the best first.

    accepted: column cell (a number), and index and scores of the manifest `synthetic`. keep: score or uncertain, see
    `Balance`. score: by text-image score if they have one, else by classifier confidence if they have one. uncertain:
    by the entropy of the classifier's prediction, the highest first. Ties, or rows without scores, in the order of the
    plan. Raises UserError if classified rows have no entropy.
    """
    is_classified = accepted["classifier_confidence"].notna()
    if keep == "uncertain" and accepted.loc[is_classified, "classifier_entropy"].isna().any():
        raise UserError(
            "synthetic.parquet: has images without classifier_entropy, because an older version scored them",
            advice="delete the folder scores beside it and run again",
        )
    names = ["classifier_entropy"] if keep == "uncertain" else ["text_image_score", "classifier_confidence"]
    scores = [-accepted[name].to_numpy(float) for name in names if accepted[name].notna().any()][:1]
    return np.lexsort([accepted["index"].to_numpy(), *scores, accepted["cell"].to_numpy()])


def _refuse_an_empty_fill(gate: pd.DataFrame) -> None:
    """Raise UserError if no class gets images of a fill: a recipe with this fill would have real images only."""
    for fill, share in gate.groupby("fill")["share"].max().items():
        if share == 0:
            raise UserError(
                "screening.classifier.gate: no class gets synthetic images" + (f" of fill {fill!r}" if fill else ""),
                advice="see gate.parquet; improve the generator, leave the fill out, or set evaluation.choose_by, "
                "which goes on without it",
            )


def _covering(accepted: pd.DataFrame, limits: np.ndarray, features: Features) -> np.ndarray:
    """The positions of the rows of `accepted` that cover the features of their cell best.

    accepted: columns image_id, index, cell and position. limits: number of images of each cell. Raises UserError if an
    image has no features.
    """
    ordered = accepted.sort_values(["index", "image_id"])
    ids = ordered["image_id"].to_numpy(object)
    keys = pd.MultiIndex.from_arrays([["synthetic"] * len(ids), ids], names=features.positions.index.names)
    rows = features.positions.reindex(keys, fill_value=-1).to_numpy()
    if (rows < 0).any():
        problem = f"features.parquet: has no image {ids[rows < 0][0]}"
        raise UserError(problem, advice="delete it and run again")
    kept = [np.empty(0, np.int64)]
    for cell, positions in ordered.groupby("cell").indices.items():
        chosen = covering(features.matrix[rows[positions]], min(limits[cell], len(positions)))
        kept.append(ordered["position"].to_numpy()[positions[chosen]])
    return np.concatenate(kept)


def _report_shortfall(wanted: pd.Series, has: pd.Series, rejected: Mapping[tuple, _Rejected], is_error: bool) -> None:
    """Log the cells with fewer synthetic images than wanted, and why. is_error: raise UserError instead."""
    shortfalls = []
    for key in wanted.index[has < wanted]:
        fill, name, group = key
        cell = f"class {name!r}" + (f", group {group!r}" if group else "") + (f", fill {fill!r}" if fill else "")
        of_cell = rejected.get(key, {})
        reasons = f"{sum(count for count, _ in of_cell.values())}"
        if of_cell:
            check = min(of_cell, key=lambda name: (-of_cell[name][0], name))
            reasons += f", most often by {check} (for example, one {of_cell[check][1]})"
        shortfalls.append((cell, has[key], wanted[key], reasons))
    if shortfalls and is_error:
        cell, count, number, reasons = shortfalls[0]
        cells = "cells" if any(wanted.index.get_level_values("group")) else "classes"
        others = f" (and {len(shortfalls) - 1} more {cells})" if shortfalls[1:] else ""
        raise UserError(
            f"{cell}: {count} of {number} wanted synthetic images; rejected: {reasons}{others}",
            advice="look at synthetic.parquet, then raise balance.oversample, or change the model, prompts or "
            "screening",
        )
    for shortfall in shortfalls:
        log.warning("%s: %d of %d wanted synthetic images; rejected: %s", *shortfall)


def rows_of_recipe(balanced: pd.DataFrame, data: str, fill: Fill | None = None) -> pd.DataFrame:
    """The rows of the manifest `balanced` that a recipe trains on. Recipes on real images need its real rows only.

    data: `real`, the rows with this source; `balanced`, all rows; `subsampled`, as many real images of every cell
    as the smallest cell has: the first by image_id, which is a hash, so the choice is effectively random. fill: the
    synthetic images of each cell that are used, the first in the order of the plan; None: all.
    """
    if data == "balanced":
        return balanced if fill is None else _part_of_fill(with_group(balanced), fill)
    real = with_group(balanced[balanced["source"] == "real"])
    if data == "real":
        return real
    sizes = real.groupby(_CELL).size()
    return real.sort_values("image_id").groupby(_CELL).head(sizes.min()).sort_index()


def _part_of_fill(balanced: pd.DataFrame, fill: Fill) -> pd.DataFrame:
    """All real rows of `balanced`, and the part of the synthetic ones that `fill` describes."""
    is_synthetic = balanced["source"] == "synthetic"
    of_fill = is_synthetic & (balanced["fill"] == fill.name) if fill.name else is_synthetic
    synthetic = balanced[of_fill].sort_values(["index", "image_id"])
    cells = pd.MultiIndex.from_frame(synthetic[_CELL])
    # Rounded first: 0.07 * 100 is 7.000000000000001.
    limits = np.ceil((fill.share * synthetic.groupby(_CELL).size().reindex(cells)).round(6)).to_numpy()
    if fill.per_real is not None:
        real_images = balanced[~is_synthetic].groupby(_CELL).size().reindex(cells, fill_value=0)
        limits = np.minimum(limits, np.floor((fill.per_real * real_images.to_numpy()).round(6)))
    used = synthetic.index[synthetic.groupby(_CELL).cumcount().to_numpy() < limits]
    return balanced[~is_synthetic | balanced.index.isin(used)]


def images_digest(rows: pd.DataFrame) -> str:
    """Hash of the images of `rows` (of the manifest `balanced` or `real`) with their class, source and weight.

    The order of the rows and the location of the images do not count: an image may move to another shard.
    """
    columns = [name for name in ("split", "sha256", "label", *_CELL, "source", "weight") if name in rows]
    rows, digest = rows[columns], hashlib.sha256()
    # Sorted by Arrow and hashed in parts: pandas makes Python objects of all texts for both.
    order = pc.sort_indices(pa.Table.from_pandas(rows, preserve_index=False), [(name, "ascending") for name in columns])
    for start in range(0, len(rows), _HASHED_AT_ONCE):
        part = rows.take(order[start : start + _HASHED_AT_ONCE].to_numpy())
        digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def recipes_with_images(images: dict[str, dict], balanced: str) -> list[str]:
    """The recipes that train on synthetic images: those whose fill has some in the manifest `balanced`.

    images: recipe -> its keys `data` and `fill`. balanced: path; empty: not known, then a fill has some. It is not read
    if no recipe has synthetic images.
    """
    filled = [name for name, recipe in images.items() if recipe["data"] == "balanced"]
    if not (filled and balanced):
        return filled
    rows = with_fill(count_rows("balanced", balanced, ["source", "fill"]))
    there = set(rows.loc[rows["source"] == "synthetic", "fill"])
    fill_of = {name: (images[name]["fill"] or {}).get("name") for name in filled}
    return [name for name in filled if (fill_of[name] in there if fill_of[name] else there)]


@lru_cache
def manifests_hash(
    results: str, data: str, fill: Fill | None, train_split: str, held_out: tuple[str, ...], changed_ns: tuple[int, ...]
) -> list[str]:
    """Digests of the training images of a recipe, and of its evaluation images: those of the splits `held_out`.

    results: folder of the manifest `real`, and of `balanced` if the recipe has synthetic images. data, fill: see
    `rows_of_recipe`. changed_ns: modification times of the manifests, so that the cache notices a change.
    """
    real = read_manifest("real", Path(results, "real.parquet"), ["split", "usable", *_HASHED])
    evaluated = real[real["split"].isin(held_out) & real["usable"]]
    balanced = Path(results, "balanced.parquet")
    if data == "balanced":
        rows = read_manifest("balanced", balanced, [*_HASHED, "source", "fill", "index", "weight"])
    else:
        rows = real_training_rows(real, train_split)
    return [images_digest(rows_of_recipe(rows, data, fill)), images_digest(evaluated)]
