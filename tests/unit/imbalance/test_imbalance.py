"""Measures of imbalance, against numbers computed by hand."""

import numpy as np
import pandas as pd
import pytest

from synaug.config import Imbalance
from synaug.imbalance import imbalance_measures, measure_imbalance
from synaug.manifests import read_manifest, write_manifest


def test_the_measures_of_three_classes_by_hand():
    # Counts 6, 3, 1: mean absolute difference (2 * (3 + 5 + 2)) / 9, Gini is half of it over the mean 10/3: 1/3.
    figures = imbalance_measures(np.array([3, 6, 1]))
    assert figures["imbalance_factor"] == 6
    assert figures["gini"] == pytest.approx(1 / 3)
    nats = -(0.6 * np.log(0.6) + 0.3 * np.log(0.3) + 0.1 * np.log(0.1))
    assert figures["entropy"] == pytest.approx(nats / np.log(3))
    assert figures["effective_classes"] == pytest.approx(np.exp(nats))


def test_the_measures_of_equal_and_of_very_unequal_classes():
    even = imbalance_measures(np.array([7, 7, 7, 7]))
    assert even == pytest.approx({"imbalance_factor": 1, "gini": 0, "entropy": 1, "effective_classes": 4})
    uneven = imbalance_measures(np.array([10**6, 1, 1, 1]))
    assert uneven["gini"] == pytest.approx(0.75, abs=1e-4)
    assert uneven["effective_classes"] == pytest.approx(1, abs=1e-3)


def test_class_rows_and_summary_row(cells, tmp_path):
    write_manifest("imbalance", cells({"a": 101, "b": 100, "c": 20, "d": 19}), tmp_path / "imbalance.parquet")
    table = read_manifest("imbalance", tmp_path / "imbalance.parquet")
    classes = table[table["kind"] == "cell"].set_index("label_name")
    assert classes["shot"].to_dict() == {"a": "many", "b": "medium", "c": "medium", "d": "few"}
    assert classes["deficit"].to_dict() == {"a": 0, "b": 1, "c": 81, "d": 82}
    assert classes["share"].to_dict() == pytest.approx({"a": 101 / 240, "b": 100 / 240, "c": 20 / 240, "d": 19 / 240})
    (summary,) = table[table["kind"] == "summary"].to_dict("records")
    assert (summary["count"], summary["deficit"]) == (240, 164)
    assert summary["imbalance_factor"] == pytest.approx(101 / 19)
    assert pd.isna(summary["label"])
    assert classes["gini"].isna().all()


def test_only_usable_training_images_count():
    real = pd.DataFrame(
        {
            "label": [0, 0, 0, 1, 1, 1],
            "label_name": ["a", "a", "a", "b", "b", "b"],
            "split": ["train", "train", "test", "train", "test", "train"],
            "usable": [True, False, True, True, True, True],
        }
    )
    table = measure_imbalance(real, "train", Imbalance(many_above=1, few_below=1))
    assert table[table["kind"] == "cell"]["count"].tolist() == [1, 2]


def test_a_class_may_be_called_nan(cells, tmp_path):
    write_manifest("imbalance", cells({"nan": 3, "z": 1}), tmp_path / "imbalance.parquet")
    table = read_manifest("imbalance", tmp_path / "imbalance.parquet")
    assert table[table["kind"] == "cell"]["label_name"].tolist() == ["nan", "z"]
