"""How many synthetic images every class, or class in a group, needs."""

import math

import numpy as np
import pandas as pd

from synaug.config import Balance


def wanted_counts(cells: pd.DataFrame, balance: Balance) -> pd.Series:
    """Synthetic images that each row of `cells` (of the manifest `imbalance`) lacks: int, aligned with it.

    `balance.oversample` is not in it: it says how many are made for that, see `planned_counts`.
    """
    counts = cells["count"]
    match balance.strategy:
        case "largest":
            level = counts.max()
        case "fixed":
            level = balance.target
        case "largest_of_class":
            level = counts.groupby(cells["label_name"]).transform("max")
        case "largest_of_group":
            level = counts.groupby(cells["group"]).transform("max")
    # Rounded before it is raised to an integer: 1.1 x 10 is 11.000000000000002.
    wanted = np.ceil(((level - counts).clip(lower=0) * balance.amount).round(6))
    if balance.max_synthetic_per_real is not None:
        wanted = np.minimum(wanted, np.floor(counts * balance.max_synthetic_per_real))
    return wanted.astype(int)


def planned_counts(cells: pd.DataFrame, balance: Balance) -> pd.Series:
    """Synthetic images that are made for each row of `cells`: the wanted ones and `balance.oversample`'s spare ones."""
    return (wanted_counts(cells, balance) * balance.oversample).round(6).map(math.ceil).astype(int)
