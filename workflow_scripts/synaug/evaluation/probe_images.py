"""Probe images: synthetic images that no network is trained on, used only to measure networks."""

import pandas as pd

from synaug.config import Balance
from synaug.manifests import with_group
from synaug.plan.rows import plan_from_settings
from synaug.plan.targets import planned_counts


def probe_image_rows(imbalance: pd.DataFrame, settings: dict, count: int, sources: pd.DataFrame | None) -> pd.DataFrame:
    """Rows of the manifest `plan`: for every cell, the `count` images that follow those of the experiment's own plan.

    imbalance: the manifest of this name. settings: of rule plan_generation. sources: see `plan_generation`.
    """
    cells = imbalance["kind"] == "cell"
    planned = planned_counts(with_group(imbalance[cells]), Balance.model_validate(settings["balance"]))
    # Negative counts make every cell lack its planned images and `count` more.
    lacking = imbalance.assign(count=(-planned).reindex(imbalance.index, fill_value=0))
    plan = plan_from_settings(lacking, settings | {"balance": {"strategy": "fixed", "target": count}}, sources)
    key = ["label", "group"]
    first_index = pd.Series(planned.to_numpy(), pd.MultiIndex.from_frame(with_group(imbalance[cells])[key]))
    return plan[plan["index"].to_numpy() >= first_index.loc[pd.MultiIndex.from_frame(plan[key])].to_numpy()]
