"""Scores and their bootstrap intervals, against numbers computed by hand and against scikit-learn and torchmetrics."""

import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from synaug.evaluation.bootstrap import DRAWS, SEED, resample
from synaug.evaluation.classification import score, with_intervals

PREDICTIONS = pd.DataFrame(
    {
        "image_id": list("0123456789"),
        "label": [0, 0, 0, 0, 0, 1, 1, 1, 2, 2],
        "label_name": ["bag"] * 5 + ["a/b"] * 3 + ["coat"] * 2,
        "predicted": [0, 0, 0, 0, 1, 1, 1, 0, 0, 2],
        "probabilities": [[0.9, 0.1, 0.0]] * 4 + [[0.2, 0.8, 0.0]] + [[0.3, 0.7, 0.0]] * 2
        + [[0.6, 0.4, 0.0], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]],
    }
)  # fmt: skip
SHOTS = {0: "many", 1: "few", 2: "few"}
ALL_MANY = dict.fromkeys(range(7), "many")


def metrics(predictions: pd.DataFrame, shots=SHOTS) -> pd.DataFrame:
    """metric, subset -> value, low, high."""
    rows = with_intervals(score(predictions, shots, resample(predictions["label"].to_numpy())))
    return rows.set_index(["metric", "subset"])


def test_accuracy_by_hand():
    values = metrics(PREDICTIONS).loc["accuracy", "value"]
    assert values.to_dict() == pytest.approx(
        {
            "all": 7 / 10,
            "balanced": (4 / 5 + 2 / 3 + 1 / 2) / 3,
            "harmonic_mean": 3 / (5 / 4 + 3 / 2 + 2),
            "geometric_mean": (4 / 5 * 2 / 3 * 1 / 2) ** (1 / 3),
            "worst_class": 1 / 2,
            "many": 4 / 5,
            "few": (2 / 3 + 1 / 2) / 2,
            "class:bag": 4 / 5,
            "class:a/b": 2 / 3,
            "class:coat": 1 / 2,
        }
    )


def test_a_class_at_zero_makes_the_means_zero():
    values = metrics(PREDICTIONS.assign(predicted=0)).loc["accuracy", "value"]
    assert values[["harmonic_mean", "geometric_mean", "worst_class"]].tolist() == [0, 0, 0]


def test_calibration_error_by_hand():
    # Bins of width 1/15: 0.9 four times correct (0.4); 0.8 wrong; 0.7 twice correct; 0.6 correct and wrong; 0.5 wrong.
    values = metrics(PREDICTIONS).loc["ece", "value"]
    assert values["all"] == pytest.approx((0.4 + 0.8 + 0.6 + 0.2 + 0.5) / 10)
    assert values["many"] == pytest.approx((0.4 + 0.8) / 5)
    assert values["few"] == pytest.approx((0.6 + 0.2 + 0.5) / 5)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_agree_with_scikit_learn_scipy_and_torchmetrics(seed, random_predictions):
    predictions = random_predictions(seed)
    values = metrics(predictions, ALL_MANY)["value"]
    labels, predicted = predictions["label"], predictions["predicted"]
    assert values["accuracy", "all"] == pytest.approx(accuracy_score(labels, predicted))
    assert values["accuracy", "balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    per_class = recall_score(labels, predicted, average=None)
    assert values["accuracy", "harmonic_mean"] == pytest.approx(stats.hmean(per_class))
    assert values["accuracy", "geometric_mean"] == pytest.approx(stats.gmean(per_class))
    probabilities = torch.from_numpy(np.stack(predictions["probabilities"]))
    expected = multiclass_calibration_error(probabilities, torch.tensor(labels), 7, n_bins=15, norm="l1")
    assert values["ece", "all"] == pytest.approx(float(expected), abs=1e-6)


def test_resamples_of_many_images_need_little_more_memory_than_their_counts():
    strata, size = np.repeat([0, 1], [3, 15_000]), 15_000
    tracemalloc.start()
    counts = resample(strata).within
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * counts.nbytes
    # The same counts as if each stratum was drawn at once.
    generator = np.random.default_rng(SEED)
    generator.integers(3, size=(DRAWS, 2))
    drawn = generator.integers(size, size=(DRAWS, size - 1))
    for row in (0, 1, 500, DRAWS - 1):
        assert np.array_equal(counts[1 + row, 3:], np.bincount(drawn[row], minlength=size))


def test_bootstrap_intervals_match_the_binomial(random_predictions):
    rows = metrics(random_predictions(1), ALL_MANY).loc["accuracy"]
    n = 600
    accuracy = rows.loc["all", "value"]
    half_width = 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
    # With fixed class sizes the variance is a little smaller than that of the binomial over all images.
    assert rows.loc["all", "high"] - accuracy == pytest.approx(half_width, rel=0.15)
    assert accuracy - rows.loc["all", "low"] == pytest.approx(half_width, rel=0.15)


def test_resamples_keep_the_class_sizes_and_are_reproducible():
    labels = np.array([2, 0, 0, 2, 2, 5])
    resamples = resample(labels)
    assert (resamples.within[0] == 1).all()
    for label, size in ((0, 2), (2, 3), (5, 1)):
        of_class = labels == label
        assert ((resamples.within[1:, of_class] * resamples.factors[of_class]).sum(1) == size).all()
    assert np.array_equal(resamples.within, resample(labels).within)
    assert resamples.within[1:, :5].std() > 0.5


def test_only_the_means_of_similar_classes_of_one_image_vary():
    """A class of one image is drawn together with others of its shot group, or with the smallest one."""
    labels, similar = np.array([0, 1, 2, 3, 3, 4, 5, 5, 5]), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    resamples = resample(labels, similar)
    varies = [resamples.within[:, labels == label].std() > 0 for label in range(6)]
    assert varies == [False, False, False, True, False, True]
    for group in range(3):
        drawn = resamples.for_means[1:, similar == group] * resamples.factors_for_means[similar == group]
        assert drawn.sum(1) == pytest.approx(3) and drawn.std() > 0
    alone = resample(np.array([0, 1, 1]), np.array([0, 1, 1]))  # nothing is similar to the first image
    assert alone.for_means is alone.within and alone.within[:, 0].std() == 0


@pytest.mark.parametrize("sizes", [[1] * 20, [1] * 5 + [40] * 5, [2] * 10, [1] + [30] * 3])
def test_the_interval_of_the_mean_over_classes_is_that_over_new_test_images(sizes):
    """Also if some classes have one or two test images: their share of the variance is not missing."""
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    widths, shots = [], dict.fromkeys(range(len(sizes)), "few")
    for _ in range(30):
        predicted = np.where(rng.random(len(labels)) < 0.6, labels, labels + 1)
        rows = pd.DataFrame({"label": labels, "predicted": predicted, "label_name": labels.astype(str)})
        rows = metrics(rows.assign(probabilities=[[1.0]] * len(labels)), shots).loc["accuracy"]
        widths.append(rows.loc[["balanced", "few"], "high"] - rows.loc[["balanced", "few"], "low"])
    true = 2 * 1.96 * math.sqrt(0.6 * 0.4 * np.mean(1 / np.array(sizes)) / len(sizes))
    assert np.sqrt(np.mean(np.square(widths), axis=0)) == pytest.approx([true, true], rel=0.25)


@pytest.mark.parametrize("size", [50, 70, 1000])
def test_a_metric_that_is_the_same_in_all_resamples_has_equal_ends(size):
    """Also if n / (n - 1), which a drawn image counts, is no number of the computer."""
    labels = np.repeat(np.arange(3), size)
    rows = pd.DataFrame({"label": labels, "predicted": labels, "label_name": labels.astype(str)})
    rows = metrics(rows.assign(probabilities=[[1.0, 0.0, 0.0]] * len(labels)), ALL_MANY)
    assert (rows.loc["accuracy", ["value", "low", "high"]] == 1).all(axis=None)
