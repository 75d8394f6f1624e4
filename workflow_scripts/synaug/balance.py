"""The balanced manifest: all usable real training images, and the accepted synthetic ones."""

import hashlib
from functools import lru_cache
from pathlib import Path

import pandas as pd

from synaug.errors import UserError
from synaug.manifests import read_manifest

_COLUMNS = ["image_id", "label", "label_name", "source", "weight", "sha256", "path", "row", "column"]


def build_balanced_manifest(real: pd.DataFrame, synthetic: pd.DataFrame, train_split: str) -> pd.DataFrame:
    """Rows of the manifest `balanced`.

    real, synthetic: the manifests of these names. Every image has weight 1.
    Raises UserError if the screening left a class without any of the synthetic images that were made for it.
    """
    for name, accepted in synthetic.groupby("label_name")["accepted"]:
        if not accepted.any():
            reason = synthetic.loc[synthetic["label_name"] == name, "reason"].mode()[0]
            raise UserError(
                f"class {name!r}: all {len(accepted)} synthetic images were rejected (most often: {reason}); look at "
                "synthetic.parquet, then change the model, prompts.names or screening"
            )
    train = real[(real["split"] == train_split) & real["usable"]].assign(source="real", weight=1.0)
    fill = synthetic[synthetic["accepted"]].assign(source="synthetic", weight=1.0)
    return pd.concat([train, fill], ignore_index=True).reindex(columns=_COLUMNS)


def rows_of_recipe(balanced: pd.DataFrame, data: str) -> pd.DataFrame:
    """The rows of the manifest `balanced` that a recipe trains on: those with source `real`, or all (`balanced`)."""
    return balanced[balanced["source"] == "real"] if data == "real" else balanced


def images_digest(rows: pd.DataFrame) -> str:
    """Hash of the images of `rows` (of the manifest `balanced` or `real`), in any order, with class, source, weight.

    Where they are stored does not count: images that moved to another shard leave it unchanged.
    """
    columns = [name for name in ("sha256", "label", "label_name", "source", "weight") if name in rows]
    seen = rows[columns].sort_values(columns)
    return hashlib.sha256(pd.util.hash_pandas_object(seen, index=False).to_numpy().tobytes()).hexdigest()


@lru_cache
def manifests_hash(balanced: str, data: str, test_split: str, changed_ns: int) -> list[str]:
    """Digests of what a recipe trains on and of the test images, from the manifest `balanced` and `real` beside it.

    data: `real` or `balanced`. changed_ns: time of the last change of `balanced`, for the cache.
    """
    real = read_manifest("real", Path(balanced).with_name("real.parquet"))
    test = real[(real["split"] == test_split) & real["usable"]]
    return [images_digest(rows_of_recipe(read_manifest("balanced", balanced), data)), images_digest(test)]
