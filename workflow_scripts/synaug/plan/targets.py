"""How many synthetic images each cell needs. A cell is a class, or a class within a group."""

import math

import numpy as np
import pandas as pd

from synaug.config import Balance


def wanted_counts(cells: pd.DataFrame, balance: Balance) -> pd.Series:
    """Synthetic images that each row of `cells` (cell rows of the manifest `imbalance`) lacks: int, aligned with it.

    The spare images of `balance.oversample` are not included: see `planned_counts`.
    """
    counts = cells["count"]
    match balance.strategy:
        case "largest":
            target = counts.max()
        case "fixed":
            target = balance.target
        case "largest_of_class":
            target = counts.groupby(cells["label_name"]).transform("max")
        case "largest_of_group":
            target = counts.groupby(cells["group"]).transform("max")
    # `round` before `ceil`: 1.1 x 10 is 11.000000000000002 in floating point.
    wanted = np.ceil(((target - counts).clip(lower=0) * balance.amount).round(6))
    if balance.max_synthetic_per_real is not None:
        wanted = np.minimum(wanted, np.floor(counts * balance.max_synthetic_per_real))
    return wanted.astype(int)


def planned_counts(cells: pd.DataFrame, balance: Balance) -> pd.Series:
    """Synthetic images to generate for each row of `cells`: the wanted ones and the spares of `balance.oversample`."""
    return (wanted_counts(cells, balance) * balance.oversample).round(6).map(math.ceil).astype(int)
