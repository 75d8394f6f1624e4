"""Rows of the preview: the first images of every cell."""

import numpy as np
import pandas as pd

from synaug.images.contact_sheet import IMAGES_PER_CLASS
from synaug.manifests import with_group
from synaug.plan.rows import plan_from_settings


def preview_rows(imbalance: pd.DataFrame, settings: dict, sources: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the manifest `plan`: the first images of every cell, whether it lacks images or not.

    They are the first images of the whole plan: an image depends on its cell and number, not on how many there are.
    imbalance: the manifest of this name. settings: of rule plan_generation. sources: see `plan_generation`.
    """
    balance = {"strategy": "fixed", "target": IMAGES_PER_CLASS}
    # With a count of 0 every cell lacks exactly the target.
    lacking = cells_with_sources(imbalance.assign(count=0), sources)
    return plan_from_settings(lacking, settings | {"balance": balance}, sources)


def cells_with_sources(imbalance: pd.DataFrame, sources: pd.DataFrame | None) -> pd.DataFrame:
    """The manifest `imbalance` without cells that no image-to-image can make images of. sources: see `plan_generation`.

    The plan wants none of them, or says why it cannot have them.
    """
    if sources is None:
        return imbalance
    there = set(with_group(sources)[["label_name", "group"]].itertuples(index=False, name=None))
    cells = with_group(imbalance)[["label_name", "group"]].itertuples(index=False, name=None)
    return imbalance[(imbalance["kind"] != "cell") | np.array([cell in there for cell in cells])]
