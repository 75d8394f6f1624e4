"""Means over seeds and their Student t intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaug.evaluation.intervals import mean_interval, summarise
from synaug.manifests import read_manifest, write_manifest


def test_interval_by_hand():
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.302653: 2 -+ 4.302653 / sqrt(3).
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert mean_interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_agrees_with_scipy(count):
    values = np.random.default_rng(count).random(count)
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))


def test_one_value_has_no_interval():
    mean, low, high = mean_interval(np.array([0.25]))
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)


def test_an_interval_ends_where_the_metric_does():
    mean, low, high = mean_interval(np.array([0.5, 0.9]), least=0, most=1)
    assert (mean, low, high) == (0.7, 0, 1)
    names = ["recipe", "stage", "seed", "metric", "subset", "weighting", "value"]
    metrics = [
        ("real", "train", seed, metric, "all", "images", 0.1 + 0.7 * seed)
        for metric in ("accuracy", "swap_drop")
        for seed in (0, 1)
    ]
    summary = summarise(pd.DataFrame(metrics, columns=names)).set_index("metric")
    assert summary.loc["accuracy", ["low", "high"]].tolist() == [0, 1]
    assert summary.loc["swap_drop", ["low", "high"]].tolist() == [-1, 1]
    assert mean_interval(np.array([0.8, 0.2]), least=-1, most=1)[1:] == (-1, 1)


def written_summary(path, seeds: list[int]) -> pd.DataFrame:
    """The manifest `summary` of two recipes and two subsets; the value grows with the seed."""
    rows = [
        (recipe, "train", seed, "accuracy", subset, "images", value + seed / 10)
        for recipe, value in (("real", 0.1), ("synaug", 0.5))
        for subset in ("all", "few")
        for seed in seeds
    ]
    metrics = pd.DataFrame(rows, columns=["recipe", "stage", "seed", "metric", "subset", "weighting", "value"])
    unknown = pd.array([None] * 4, "Float64")
    costs = {"real_images": 3, "synthetic_images": 0, "train_seconds": unknown, "generation_seconds": unknown}
    write_manifest("summary", summarise(metrics).assign(**costs), path)
    return read_manifest("summary", path)


def test_the_summary_has_one_row_per_metric(tmp_path):
    summary = written_summary(tmp_path / "summary.parquet", [0, 1, 2]).set_index(["recipe", "subset"])
    assert len(summary) == 4
    assert (summary["seeds"] == 3).all()
    assert summary.loc[("synaug", "few"), "mean"] == pytest.approx(0.6)
    assert summary.loc[("real", "all"), "low"] == pytest.approx(0)


def test_the_summary_of_one_seed_has_no_interval(tmp_path):
    summary = written_summary(tmp_path / "summary.parquet", [4])
    assert summary["mean"].tolist() == pytest.approx([0.5, 0.5, 0.9, 0.9])
    assert summary[["low", "high"]].isna().all(axis=None)
