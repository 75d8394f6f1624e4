"""The gate: how much of a fill each class gets, by how well its synthetic images are recognised.

A classifier of real images reads the synthetic images of a class (agreement), and the validation images of the same
class (recall). Real images are not recognised always either, so their recall is what a perfect fill would reach.
"""

import logging
from collections.abc import Iterable

import numpy as np
import pandas as pd

from synaug.screening.filters import read_as_its_class

log = logging.getLogger(__name__)
_CLASS_OF_FILL = ["fill", "label", "label_name"]

# The ratio of a class counts as much as the pooled ratio if it has this many images.
PSEUDO_COUNT = 10
# A class with a smaller ratio gets no synthetic images.
LOWEST_RATIO = 0.5


def measure_gate(synthetic: Iterable[pd.DataFrame], real: pd.DataFrame, validation_split: str) -> pd.DataFrame:
    """Rows of the manifest `gate`: one for each fill and class with synthetic images.

    synthetic: columns label, label_name, fill, classifier_prediction and classifier_confidence of all images, or of
    those of the pilot, in parts, which are not held in memory together. real: the manifest `real_scores`; only images
    of `validation_split` count.

    Of a class with n images (validation or synthetic ones, whichever are fewer), agreement a and recall r:
    ratio = (n min(1, a / r) + m P) / (n + m), where m = PSEUDO_COUNT, and P = min(1, mean a / mean r) over the classes
    of the fill that have validation images. If r is 0 or unknown, it says nothing of the fill, and the ratio is P.
    share = ratio, or 0 if that is below LOWEST_RATIO. If no validation image at all is recognised, the classifier
    cannot judge, and P and all shares are 0.
    """
    validation = real[real["split"] == validation_split]
    recognised = read_as_its_class(validation).groupby(validation["label_name"]).agg(["mean", "size"])
    counted = [pd.DataFrame({name: [] for name in [*_CLASS_OF_FILL, "agreeing", "images_synthetic"]})]
    for part in synthetic:
        of_class = read_as_its_class(part).groupby([part[name] for name in _CLASS_OF_FILL])
        counted.append(of_class.agg(agreeing="sum", images_synthetic="size").reset_index())
    rows = pd.concat(counted[1:] or counted).groupby(_CLASS_OF_FILL).sum().reset_index()
    rows["agreement"] = rows.pop("agreeing") / rows["images_synthetic"]
    rows["recall"] = rows["label_name"].map(recognised["mean"]).astype(float)
    rows["images_validation"] = rows["label_name"].map(recognised["size"]).fillna(0).astype(int)
    if not (recognised["mean"] > 0).any():
        reason = f"the classifier recognises no image of split {validation_split!r}, so that it cannot judge the fill"
        advice = "raise screening.classifier.steps, or set gate to false"
        log.warning("screening.classifier.gate: %s, and no class gets synthetic images; %s", reason, advice)
        return rows.assign(pooled_ratio=0.0, ratio=0.0, share=0.0, reason=f"{reason}; gets no synthetic images")
    means = rows[rows["recall"].notna()].groupby("fill")[["agreement", "recall"]].mean()
    pooled = (means["agreement"] / means["recall"]).clip(upper=1)
    # No class of the fill has a validation image, or none is recognised: nothing speaks against the fill.
    rows["pooled_ratio"] = rows["fill"].map(pooled).astype(float).fillna(1.0)
    known = rows["recall"] > 0
    of_class = (rows["agreement"] / rows["recall"].where(known)).clip(upper=1).where(known, rows["pooled_ratio"])
    images = rows[["images_validation", "images_synthetic"]].min(axis=1)
    rows["ratio"] = (images * of_class + PSEUDO_COUNT * rows["pooled_ratio"]) / (images + PSEUDO_COUNT)
    rows["share"] = rows["ratio"].where(rows["ratio"] >= LOWEST_RATIO, 0.0)
    rows["reason"] = [_reason(row) for row in rows.itertuples()]
    for row in rows[rows["share"] < 1].itertuples():
        log.info("class %r%s: %s", row.label_name, f", fill {row.fill!r}" if row.fill else "", row.reason)
    return rows


def _reason(row) -> str:
    """Why a class gets its share. row: of the manifest `gate`."""
    recall = "" if np.isnan(row.recall) else f", {row.recall:.0%} of {row.images_validation} validation images"
    ratio = f"ratio {row.ratio:.2f} (all classes together {row.pooled_ratio:.2f})"
    verdict = (
        f"gets {row.share:.0%} of the fill"
        if row.share
        else f"gets no synthetic images, since it is below {LOWEST_RATIO}"
    )
    return (
        f"the classifier recognises {row.agreement:.0%} of {row.images_synthetic} synthetic images{recall}: {ratio}; "
        f"{verdict}"
    )
