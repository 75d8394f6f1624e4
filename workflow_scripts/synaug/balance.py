"""The balanced manifest: all usable real training images, and the best accepted synthetic images."""

import hashlib
import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from synaug.config import Balance, Fill
from synaug.manifests import read_manifest, read_with_local_paths, with_fill, with_group
from synaug.plan.targets import wanted_of_fills
from synaug.runtime.errors import UserError
from synaug.screening.features import Features, covering

log = logging.getLogger(__name__)

_CELL = ["label_name", "group"]
_CELL_OF_FILL = ["fill", *_CELL]
_COLUMNS = ["image_id", "label", *_CELL, "source", "fill", "index", "weight", "sha256", "path", "row", "column"]


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

    real, synthetic, imbalance, gate: the manifests of these names. `wanted_of_fills` gives the number of synthetic
    images of a cell, `balance.keep` which of the accepted ones they are. features: of the manifest of this name, for
    `keep: coverage`. Each fill completes the cells. A real image has weight 1, a synthetic one the weight from the
    screening. A cell with fewer accepted images than wanted is logged. Raises UserError instead if `balance.shortfall`
    is `error`, or if no synthetic image of a fill is left in any cell. fill_may_be_empty: the latter is only logged,
    because a recipe is chosen later and can be one without synthetic images.
    """
    real, synthetic, imbalance = with_group(real), with_fill(with_group(synthetic)), with_group(imbalance)
    fills = sorted(synthetic["fill"].unique()) or [""]
    wanted = wanted_of_fills(imbalance[imbalance["kind"] == "cell"], fills, balance, gate)
    accepted = synthetic[synthetic["accepted"]]
    if balance.keep == "coverage":
        kept = _covering(accepted, wanted, features)
    else:
        ranked = best_first(accepted, balance.keep)
        limits = wanted.reindex(pd.MultiIndex.from_frame(ranked[_CELL_OF_FILL]), fill_value=0).to_numpy()
        kept = ranked[ranked.groupby(_CELL_OF_FILL).cumcount().to_numpy() < limits]
    if gate is not None and not fill_may_be_empty:
        _refuse_an_empty_fill(gate)
    for fill in fills:
        kept_of_fill = kept[kept["fill"] == fill]
        is_error = balance.shortfall == "error" or (kept_of_fill.empty and not fill_may_be_empty)
        _report_shortfall(wanted.loc[[fill]], kept_of_fill, synthetic, is_error)
    kept = kept.assign(source="synthetic")
    train = real_training_rows(real, train_split)
    return pd.concat([train, kept], ignore_index=True).reindex(columns=_COLUMNS).astype({"index": "Int32"})


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


def best_first(accepted: pd.DataFrame, keep: str = "score") -> pd.DataFrame:
    """Rows of the manifest `synthetic`, sorted with the best first.

    keep: score or uncertain, see `Balance`. score: by text-image score if they have one, else by classifier confidence
    if they have one. uncertain: by the entropy of the classifier's prediction, the highest first. Ties, or rows without
    scores, in the order of the plan. Raises UserError if classified rows have no entropy.
    """
    scores = {"score": ["text_image_score", "classifier_confidence"], "uncertain": ["classifier_entropy"]}[keep]
    is_classified = accepted["classifier_confidence"].notna()
    if keep == "uncertain" and accepted.loc[is_classified, "classifier_entropy"].isna().any():
        raise UserError(
            "synthetic.parquet: has images without classifier_entropy, because an older version scored them",
            advice="delete the folder scores beside it and run again",
        )
    score = next((name for name in scores if accepted[name].notna().any()), None)
    by = [score, "index"] if score else ["index"]
    return accepted.sort_values([*by, "image_id"], ascending=[name != score for name in [*by, "image_id"]])


def _refuse_an_empty_fill(gate: pd.DataFrame) -> None:
    """Raise UserError if no class gets images of a fill: a recipe with this fill would have real images only."""
    for fill, share in gate.groupby("fill")["share"].max().items():
        if share == 0:
            raise UserError(
                "screening.classifier.gate: no class gets synthetic images" + (f" of fill {fill!r}" if fill else ""),
                advice="see gate.parquet; improve the generator, leave the fill out, or set evaluation.choose_by, "
                "which goes on without it",
            )


def _covering(accepted: pd.DataFrame, wanted: pd.Series, features: Features) -> pd.DataFrame:
    """The rows of `accepted` (of the manifest `synthetic`) that cover the features of their cell best.

    wanted: number of images of each cell of each fill. Raises UserError if an image has no features.
    """
    ordered = accepted.sort_values(["index", "image_id"])
    ids = ordered["image_id"].to_numpy(object)
    keys = pd.MultiIndex.from_arrays([["synthetic"] * len(ids), ids], names=features.positions.index.names)
    rows = features.positions.reindex(keys, fill_value=-1).to_numpy()
    if (rows < 0).any():
        problem = f"features.parquet: has no image {ids[rows < 0][0]}"
        raise UserError(problem, advice="delete it and run again")
    kept = [np.empty(0, np.int64)]
    for cell, positions in ordered.groupby(_CELL_OF_FILL, observed=True).indices.items():
        count = min(wanted.get(cell, 0), len(positions))
        kept.append(positions[covering(features.matrix[rows[positions]], count)])
    return ordered.iloc[np.concatenate(kept)]


def _report_shortfall(wanted: pd.Series, kept: pd.DataFrame, synthetic: pd.DataFrame, is_error: bool) -> None:
    """Log the cells with fewer synthetic images than wanted, and why. is_error: raise UserError instead."""
    has = kept.groupby(_CELL_OF_FILL).size().reindex(wanted.index, fill_value=0)
    rejected = synthetic.loc[~synthetic["accepted"], [*_CELL_OF_FILL, "rejected_by", "reason"]]
    rows_of = rejected.groupby(_CELL_OF_FILL).indices
    shortfalls = []
    for key in wanted.index[has < wanted]:
        of_cell = rejected.iloc[rows_of.get(key, [])]
        fill, name, group = key
        cell = f"class {name!r}" + (f", group {group!r}" if group else "") + (f", fill {fill!r}" if fill else "")
        reasons = f"{len(of_cell)}"
        if len(of_cell):
            check = of_cell["rejected_by"].mode()[0]
            example = of_cell.loc[of_cell["rejected_by"] == check, "reason"].iloc[0]
            reasons += f", most often by {check} (for example, one {example})"
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
    limits = np.ceil(fill.share * synthetic.groupby(_CELL).size().reindex(cells)).to_numpy()
    if fill.per_real is not None:
        real_images = balanced[~is_synthetic].groupby(_CELL).size().reindex(cells, fill_value=0)
        limits = np.minimum(limits, np.ceil(fill.per_real * real_images.to_numpy()))
    used = synthetic.index[synthetic.groupby(_CELL).cumcount().to_numpy() < limits]
    return balanced[~is_synthetic | balanced.index.isin(used)]


def images_digest(rows: pd.DataFrame) -> str:
    """Hash of the images of `rows` (of the manifest `balanced` or `real`) with their class, source and weight.

    The order of the rows and the location of the images do not count: an image may move to another shard.
    """
    columns = [name for name in ("split", "sha256", "label", *_CELL, "source", "weight") if name in rows]
    ordered = rows[columns].sort_values(columns)
    return hashlib.sha256(pd.util.hash_pandas_object(ordered, index=False).to_numpy().tobytes()).hexdigest()


@lru_cache
def manifests_hash(
    results: str, data: str, fill: Fill | None, train_split: str, held_out: tuple[str, ...], changed_ns: tuple[int, ...]
) -> list[str]:
    """Digests of the training images of a recipe, and of its evaluation images: those of the splits `held_out`.

    results: folder of the manifest `real`, and of `balanced` if the recipe has synthetic images. data, fill: see
    `rows_of_recipe`. changed_ns: modification times of the manifests, so that the cache notices a change.
    """
    real = read_manifest("real", Path(results, "real.parquet"))
    evaluated = real[real["split"].isin(held_out) & real["usable"]]
    balanced = Path(results, "balanced.parquet")
    rows = read_manifest("balanced", balanced) if data == "balanced" else real_training_rows(real, train_split)
    return [images_digest(rows_of_recipe(rows, data, fill)), images_digest(evaluated)]
