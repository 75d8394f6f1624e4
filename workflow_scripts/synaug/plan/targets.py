"""How many synthetic images each cell needs. A cell is a class, or a class within a group."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from synaug.config import Balance


def wanted_counts(cells: pd.DataFrame, balance: Balance, shares: Mapping[str, float] | None = None) -> pd.Series:
    """Synthetic images that each row of `cells` (cell rows of the manifest `imbalance`) lacks: int, aligned with it.

    shares: class name -> share of these images that the gate allows; a class that is not named gets all. The spare
    images of `balance.oversample` are not included: see `planned_counts`.
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
        wanted = np.minimum(wanted, np.floor((counts * balance.max_synthetic_per_real).round(6)))
    if shares:
        wanted = np.ceil((wanted * cells["label_name"].map(lambda name: shares.get(name, 1.0)).astype(float)).round(6))
    return wanted.astype(int)


def planned_counts(cells: pd.DataFrame, balance: Balance, shares: Mapping[str, float] | None = None) -> pd.Series:
    """Synthetic images to generate for each row of `cells`: the wanted ones and the spares of `balance.oversample`."""
    return (wanted_counts(cells, balance, shares) * balance.oversample).round(6).map(math.ceil).astype(int)


def shares_of_fill(gate: pd.DataFrame | None, fill: str) -> dict[str, float]:
    """Class name -> share of the images of `fill` that the manifest `gate` allows; empty without a gate."""
    if gate is None:
        return {}
    of_fill = gate[gate["fill"] == fill]
    return dict(zip(of_fill["label_name"], of_fill["share"], strict=True))


def wanted_of_fills(
    cells: pd.DataFrame, fills: Iterable[str], balance: Balance, gate: pd.DataFrame | None = None
) -> pd.Series:
    """`wanted_counts` of each of `fills`: int, index fill, label_name and group. gate: the manifest of this name."""
    counts = {
        fill: pd.Series(
            wanted_counts(cells, balance, shares_of_fill(gate, fill)).to_numpy(),
            pd.MultiIndex.from_frame(cells[["label_name", "group"]]),
        )
        for fill in fills
    }
    return pd.concat(counts, names=["fill"])
