"""The images of a preview: the first ones of every class."""

import pandas as pd

from synaug.images.contact_sheet import IMAGES_PER_CLASS
from synaug.plan.rows import plan_from_settings


def preview_rows(imbalance: pd.DataFrame, settings: dict, sources: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the manifest `plan`: the first images of every cell, whether it lacks any or not.

    They are those that the whole plan begins with, since an image depends on its class and number, not on how many
    there are. imbalance: the manifest of this name. settings: of rule plan_generation. sources: see `plan_generation`.
    """
    balance = {"strategy": "fixed", "target": IMAGES_PER_CLASS}
    # As if no class had an image yet.
    return plan_from_settings(imbalance.assign(count=0), settings | {"balance": balance}, sources)
