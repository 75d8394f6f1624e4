"""Quality of what was kept: figures per class and of all, in long form. Nothing is trained on them."""

import os

import numpy as np
import pandas as pd

from synaug.config import Balance
from synaug.manifests import read_table, with_group
from synaug.plan.targets import wanted_counts
from synaug.screening.filters import CHECKS
from synaug.screening.metrics import METRICS

# Images of each set that are compared; more would take hours and change the third digit.
MOST_IMAGES = 10_000


def read_features(path: str | os.PathLike) -> tuple[pd.Series, np.ndarray, str]:
    """The manifest `features`: position of each image (index: source and image_id), features (N x D), extractor."""
    table = read_table("features", path, ["image_id", "source", "features", "extractor"])
    keys = table.select(["source", "image_id"]).to_pandas().astype("str")
    lists = table.column("features").combine_chunks()
    matrix = lists.values.to_numpy(zero_copy_only=False).reshape(len(keys), -1)
    names = table.column("extractor").unique().to_pylist()
    place = pd.Series(np.arange(len(keys)), pd.MultiIndex.from_frame(keys))
    return place[~place.index.duplicated()], matrix, names[0] if names else ""


def measure_quality(
    synthetic: pd.DataFrame,
    balanced: pd.DataFrame,
    imbalance: pd.DataFrame,
    balance: Balance,
    features: tuple[pd.Series, np.ndarray, str] | None = None,
) -> pd.DataFrame:
    """Rows of the manifest `quality`: counts, and (with `features`) the metrics of `synaug.screening.metrics`.

    synthetic, balanced, imbalance: the manifests of these names. features: of `read_features`.
    A label_name of "" stands for all classes together.
    """
    cells = with_group(imbalance[imbalance["kind"] == "cell"]).sort_values("label")
    wanted = wanted_counts(cells, balance).groupby(cells["label_name"], sort=False).sum()
    balanced = balanced.drop_duplicates(["source", "image_id", "label_name"])
    if features is not None:
        place, matrix, extractor = features
        keys = pd.MultiIndex.from_frame(balanced[["source", "image_id"]])
        balanced = balanced.assign(at=place.reindex(keys, fill_value=-1).to_numpy())
    # Found once: a comparison of all rows for each of a thousand classes takes minutes.
    both = [(one, one.groupby("label_name", observed=True).indices) for one in (synthetic, balanced)]
    rows = []
    for name in ["", *wanted.index]:
        made, kept = (one.iloc[places.get(name, [])] if name else one for one, places in both)
        sets = [kept[kept["source"] == source] for source in ("real", "synthetic")]
        counts = {
            "wanted": wanted.sum() if not name else wanted[name],
            "planned": len(made),
            "accepted": made["accepted"].sum(),
            "kept": len(sets[1]),
            **{f"rejected_{check}": (made["rejected_by"] == check).sum() for check in CHECKS},
        }
        counts["shortfall"] = counts["wanted"] - counts["kept"]
        about = {"label_name": name, "images_real": len(sets[0]), "images_synthetic": len(sets[1])}
        rows += [about | {"metric": metric, "value": float(value)} for metric, value in counts.items()]
        if features is not None:
            real, fake = (matrix[_sample(one[one["at"] >= 0])] for one in sets)
            about |= {"images_real": len(real), "images_synthetic": len(fake), "features": extractor}
            rows += [about | {"metric": metric, "value": compute(real, fake)} for metric, compute in METRICS.items()]
    return pd.DataFrame(rows)


def _sample(rows: pd.DataFrame) -> np.ndarray:
    """Positions of at most MOST_IMAGES images: those with the lowest hashes of their ids, the same every time."""
    if len(rows) <= MOST_IMAGES:
        return rows["at"].to_numpy()
    order = pd.util.hash_pandas_object(rows["image_id"].astype(object), index=False)
    return rows.loc[order.sort_values(kind="stable").index[:MOST_IMAGES], "at"].to_numpy()
