"""Quality of the synthetic images that were kept: counts and metrics per class and for all classes, in long form.

They describe the images. Nothing is chosen or trained by them.
"""

import os
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaug.config import Balance
from synaug.manifests import read_table, with_group
from synaug.plan.targets import wanted_counts
from synaug.screening.filters import FILTERS
from synaug.screening.metrics import METRICS

# Images of each set that are compared. More would take hours and change the third digit.
MAX_IMAGES = 10_000


class Features(NamedTuple):
    """positions: row of each image in `matrix` (index: source, image_id). matrix: float, N x D. extractor: network."""

    positions: pd.Series
    matrix: np.ndarray
    extractor: str


def read_features(path: str | os.PathLike) -> Features:
    """Read the manifest `features`."""
    table = read_table("features", path, ["image_id", "source", "features", "extractor"])
    keys = table.select(["source", "image_id"]).to_pandas().astype("str")
    values = table.column("features").combine_chunks().values
    matrix = values.to_numpy(zero_copy_only=False).reshape(len(keys), -1)
    extractors = table.column("extractor").unique().to_pylist()
    positions = pd.Series(np.arange(len(keys)), pd.MultiIndex.from_frame(keys))
    return Features(positions[~positions.index.duplicated()], matrix, extractors[0] if extractors else "")


def measure_quality(
    synthetic: pd.DataFrame,
    balanced: pd.DataFrame,
    imbalance: pd.DataFrame,
    balance: Balance,
    features: Features | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `quality`: counts and, with `features`, the metrics of `synaug.screening.metrics`.

    synthetic, balanced, imbalance: the manifests of these names. A label_name of "" stands for all classes together.
    """
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values("label")
    wanted = wanted_counts(cells, balance).groupby(cells["label_name"], sort=False).sum()
    balanced = balanced.drop_duplicates(["source", "image_id", "label_name"])
    if features is not None:
        keys = pd.MultiIndex.from_frame(balanced[["source", "image_id"]])
        balanced = balanced.assign(features_row=features.positions.reindex(keys, fill_value=-1).to_numpy())
    # Once for all classes: comparing all rows with each of a thousand class names would take minutes.
    synthetic_rows, balanced_rows = (
        table.groupby("label_name", observed=True).indices for table in (synthetic, balanced)
    )
    rows = []
    for name in ["", *wanted.index]:
        planned = synthetic.iloc[synthetic_rows.get(name, [])] if name else synthetic
        trained_on = balanced.iloc[balanced_rows.get(name, [])] if name else balanced
        real, kept = (trained_on[trained_on["source"] == source] for source in ("real", "synthetic"))
        counts = {
            "wanted": wanted[name] if name else wanted.sum(),
            "planned": len(planned),
            "accepted": planned["accepted"].sum(),
            "kept": len(kept),
            **{f"rejected_{filter_name}": (planned["rejected_by"] == filter_name).sum() for filter_name in FILTERS},
        }
        counts["shortfall"] = counts["wanted"] - counts["kept"]
        common = {"label_name": name, "images_real": len(real), "images_synthetic": len(kept)}
        rows += [common | {"metric": metric, "value": float(value)} for metric, value in counts.items()]
        if features is not None:
            real_features, fake_features = (features.matrix[_sampled_rows(images)] for images in (real, kept))
            common |= {"images_real": len(real_features), "images_synthetic": len(fake_features)}
            common |= {"features": features.extractor}
            for metric, compute in METRICS.items():
                rows.append(common | {"metric": metric, "value": compute(real_features, fake_features)})
    return pd.DataFrame(rows)


def _sampled_rows(images: pd.DataFrame) -> np.ndarray:
    """Rows of the features of at most MAX_IMAGES images: those whose ids have the lowest hashes, so always the same."""
    images = images[images["features_row"] >= 0]
    if len(images) <= MAX_IMAGES:
        return images["features_row"].to_numpy()
    hashes = pd.util.hash_pandas_object(images["image_id"].astype(object), index=False)
    return images.loc[hashes.sort_values(kind="stable").index[:MAX_IMAGES], "features_row"].to_numpy()
