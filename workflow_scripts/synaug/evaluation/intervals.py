"""Means over seeds, with 95 % intervals."""

import numpy as np
import pandas as pd

KEYS = ["recipe", "stage", "metric", "subset", "weighting"]


def mean_interval(
    values: np.ndarray, level: float = 0.95, *, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float, float]:
    """Mean and ends of its Student t interval: mean -+ t((1+level)/2, n-1) s / sqrt(n). NaN ends for one value.

    least, most: the range of the mean. The interval is cut off there, which does not change how often it contains the
    true mean.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    from scipy.special import stdtrit  # here, because a report of one seed needs no scipy

    # Of equal values, a standard deviation of 1e-17 is the rounding of their mean.
    deviation = np.std(values, ddof=1) if np.ptp(values) else 0.0
    half = float(stdtrit(len(values) - 1, (1 + level) / 2) * deviation / np.sqrt(len(values)))
    return mean, max(mean - half, least), min(mean + half, most)


def summarise(metrics: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest `summary`, without costs: the mean over seeds of every metric in the manifest `metrics`."""
    rows = []
    for key, group in metrics.groupby(KEYS, sort=True):
        least = -1.0 if key[KEYS.index("metric")] == "swap_drop" else 0.0  # a difference of accuracies
        mean, low, high = mean_interval(group["value"].to_numpy(), least=least, most=1.0)
        rows.append((*key, mean, low, high, len(group)))
    table = pd.DataFrame(rows, columns=[*KEYS, "mean", "low", "high", "seeds"])
    return table.astype({"low": "Float64", "high": "Float64"})
