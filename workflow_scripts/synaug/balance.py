"""The balanced manifest: all usable real training images, and the best of the accepted synthetic ones."""

import hashlib
import logging
from functools import lru_cache
from pathlib import Path

import pandas as pd

from synaug.config import Balance
from synaug.manifests import read_manifest, with_group
from synaug.plan.targets import wanted_counts
from synaug.runtime.errors import UserError

log = logging.getLogger(__name__)

_CELL = ["label_name", "group"]
_COLUMNS = ["image_id", "label", *_CELL, "source", "weight", "sha256", "path", "row", "column"]


def build_balanced_manifest(
    real: pd.DataFrame, synthetic: pd.DataFrame, imbalance: pd.DataFrame, train_split: str, balance: Balance
) -> pd.DataFrame:
    """Rows of the manifest `balanced`: of each cell all usable real images, and the best of the accepted ones.

    real, synthetic, imbalance: the manifests of these names. Every image has weight 1. As many synthetic images are
    kept as the cell lacks: see `best_first`.
    Raises UserError if a cell has fewer and `balance.shortfall` is `error`, and if no synthetic image is left at
    all; otherwise a cell that has fewer is a line of the log.
    """
    real, synthetic, imbalance = with_group(real), with_group(synthetic), with_group(imbalance)
    cells = imbalance[imbalance["kind"] == "cell"]
    wanted = pd.Series(wanted_counts(cells, balance).to_numpy(), pd.MultiIndex.from_frame(cells[_CELL]))
    accepted = synthetic[synthetic["accepted"]]
    ranked = best_first(accepted)
    most = wanted.reindex(pd.MultiIndex.from_frame(ranked[_CELL]), fill_value=0).to_numpy()
    kept = ranked[ranked.groupby(_CELL).cumcount().to_numpy() < most]
    _report_shortfall(wanted, kept, synthetic, balance)
    train = real[(real["split"] == train_split) & real["usable"]].assign(source="real", weight=1.0)
    fill = kept.assign(source="synthetic", weight=1.0)
    return pd.concat([train, fill], ignore_index=True).reindex(columns=_COLUMNS)


def best_first(accepted: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest `synthetic`, the best first: by text-image score if they have one, else by the classifier's
    confidence if they have one, else as they come in the plan, which also decides between equals.
    """
    score = next((name for name in ("text_image_score", "classifier_confidence") if accepted[name].notna().any()), None)
    by = [score, "index"] if score else ["index"]
    return accepted.sort_values([*by, "image_id"], ascending=[name != score for name in [*by, "image_id"]])


def _report_shortfall(wanted: pd.Series, kept: pd.DataFrame, synthetic: pd.DataFrame, balance: Balance) -> None:
    """Log, or raise as UserError, which cells have fewer synthetic images than wanted, and why."""
    has = kept.groupby(_CELL).size().reindex(wanted.index, fill_value=0)
    rejected = synthetic.loc[~synthetic["accepted"], [*_CELL, "rejected_by", "reason"]]
    rows_of = rejected.groupby(_CELL).indices
    lines = []
    for name, group in wanted.index[has < wanted]:
        own = rejected.iloc[rows_of.get((name, group), [])]
        where = f"class {name!r}" + (f", group {group!r}" if group else "")
        line = f"{where}: {has[name, group]} of {wanted[name, group]} wanted synthetic images; rejected: {len(own)}"
        if len(own):
            most = own["rejected_by"].mode()[0]
            line += f", most often by {most} (one {own.loc[own['rejected_by'] == most, 'reason'].iloc[0]})"
        lines.append(line)
    if lines and (balance.shortfall == "error" or kept.empty):
        others = (
            f" (and {len(lines) - 1} more {'cells' if any(wanted.index.get_level_values(1)) else 'classes'})"
            if lines[1:]
            else ""
        )
        raise UserError(
            f"{lines[0]}{others}; look at synthetic.parquet, then raise balance.oversample, or change the model, "
            "prompts or screening"
        )
    for line in lines:
        log.warning("%s", line)


def rows_of_recipe(balanced: pd.DataFrame, data: str) -> pd.DataFrame:
    """The rows of the manifest `balanced` that a recipe trains on.

    data: `real`, those with this source; `balanced`, all; `subsampled`, of the real ones as many of every cell as the
    smallest has, chosen by id, which is a hash.
    """
    if data == "balanced":
        return balanced
    real = with_group(balanced[balanced["source"] == "real"])
    if data == "real":
        return real
    sizes = real.groupby(_CELL).size()
    return real.sort_values("image_id").groupby(_CELL).head(sizes.min()).sort_index()


def images_digest(rows: pd.DataFrame) -> str:
    """Hash of the images of `rows` (of the manifest `balanced` or `real`), in any order, with class, source, weight.

    Where they are stored does not count: images that moved to another shard leave it unchanged.
    """
    columns = [name for name in ("split", "sha256", "label", *_CELL, "source", "weight") if name in rows]
    seen = rows[columns].sort_values(columns)
    return hashlib.sha256(pd.util.hash_pandas_object(seen, index=False).to_numpy().tobytes()).hexdigest()


@lru_cache
def manifests_hash(balanced: str, data: str, held_out: tuple[str, ...], changed_ns: int) -> list[str]:
    """Digests of what a recipe trains on and of the images of the splits `held_out`, which its networks are asked of.

    balanced: this manifest, with `real` beside it. data: see `rows_of_recipe`. changed_ns: time of the last
    change of `balanced`, for the cache.
    """
    real = read_manifest("real", Path(balanced).with_name("real.parquet"))
    asked = real[real["split"].isin(held_out) & real["usable"]]
    return [images_digest(rows_of_recipe(read_manifest("balanced", balanced), data)), images_digest(asked)]
