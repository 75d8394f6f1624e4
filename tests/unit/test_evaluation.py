"""Scores and intervals against numbers computed by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synaug.evaluation.classification import score
from synaug.evaluation.intervals import mean_interval, summarise
from synaug.manifests import read_manifest, write_manifest

PREDICTIONS = pd.DataFrame(
    {
        "image_id": list("0123456789"),
        "label": [0, 0, 0, 0, 0, 1, 1, 1, 2, 2],
        "label_name": ["bag"] * 5 + ["a/b"] * 3 + ["coat"] * 2,
        "predicted": [0, 0, 0, 0, 1, 1, 1, 0, 0, 2],
    }
)


def test_accuracy_by_hand():
    figures = score(PREDICTIONS, {0: "many", 1: "few", 2: "few"}).set_index("subset")["value"]
    assert figures.to_dict() == pytest.approx(
        {
            "all": 7 / 10,
            "balanced": (4 / 5 + 2 / 3 + 1 / 2) / 3,
            "many": 4 / 5,
            "few": (2 / 3 + 1 / 2) / 2,
            "class:bag": 4 / 5,
            "class:a/b": 2 / 3,
            "class:coat": 1 / 2,
        }
    )


def test_interval_by_hand():
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.302653: 2 -+ 4.302653 / sqrt(3).
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_is_that_of_scipy(count):
    values = np.random.default_rng(count).random(count)
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))


def test_equal_values_have_an_interval_without_width():
    assert mean_interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)


def test_one_value_has_no_interval():
    mean, low, high = mean_interval(np.array([0.25]))
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)


def metrics(seeds: list[int]) -> pd.DataFrame:
    rows = [
        {
            "recipe": recipe,
            "stage": "train",
            "seed": seed,
            "metric": "accuracy",
            "subset": subset,
            "value": value + seed,
        }
        for recipe, value in (("real", 0.1), ("synaug", 0.5))
        for subset in ("all", "few")
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def test_summary_has_one_row_per_figure(tmp_path):
    write_manifest("summary", summarise(metrics([0, 1, 2])), tmp_path / "summary.parquet")
    summary = read_manifest("summary", tmp_path / "summary.parquet").set_index(["recipe", "subset"])
    assert len(summary) == 4
    assert (summary["seeds"] == 3).all()
    assert summary.loc[("synaug", "few"), "mean"] == pytest.approx(1.5)
    assert summary.loc[("real", "all"), "low"] == pytest.approx(1.1 - 2.484138)


def test_summary_of_one_seed_has_empty_ends(tmp_path):
    write_manifest("summary", summarise(metrics([4])), tmp_path / "summary.parquet")
    summary = read_manifest("summary", tmp_path / "summary.parquet")
    assert summary["mean"].tolist() == pytest.approx([4.1, 4.1, 4.5, 4.5])
    assert summary[["low", "high"]].isna().all(axis=None)
