"""Rows of the preview: the first images of every cell."""

import pandas as pd

from synaug.images.contact_sheet import IMAGES_PER_CLASS
from synaug.plan.rows import plan_from_settings


def preview_rows(imbalance: pd.DataFrame, settings: dict, sources: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the manifest `plan`: the first images of every cell, whether it lacks images or not.

    They are the first images of the whole plan: an image depends on its cell and number, not on how many there are.
    imbalance: the manifest of this name. settings: of rule plan_generation. sources: see `plan_generation`.
    """
    balance = {"strategy": "fixed", "target": IMAGES_PER_CLASS}
    # With a count of 0 every cell lacks exactly the target.
    return plan_from_settings(imbalance.assign(count=0), settings | {"balance": balance}, sources)
