"""Figures of groups against fairlearn, loops in plain numpy, and numbers computed by hand."""

import warnings
from functools import cache

import fairlearn.metrics as oracle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import with_intervals
from synaug.evaluation.differences import difference
from synaug.evaluation.groups import confusion_tensor, resample_confusion, score_groups

BIRDS, PLACES = ["landbird", "waterbird"], ["land", "water"]
# Group, label, predicted: rights are 90 of 100, 8 of 10, 4 of 10 and 30 of 40.
WATERBIRDS = np.array([[[90, 10], [6, 4]], [[8, 2], [10, 30]]])
# Training images of Waterbirds (Sagawa et al. 2020), place x bird.
TRAINING = np.array([[3498, 56], [184, 1057]])


def images(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, predicted and group of as many images as `confusion` (groups x classes x classes) counts."""
    group, label, predicted = np.repeat(np.argwhere(confusion >= 0), confusion.ravel(), axis=0).T
    return label, predicted, group


def named(kind: str, number: int) -> list[str]:
    return [f"{kind}{i}" for i in range(number)]


def figures(label, predicted, group, classes=2, groups=2, **options) -> pd.Series:
    """metric, subset, weighting -> value."""
    options = {"draws": 2} | options
    return score_groups(label, predicted, group, named("c", classes), named("g", groups), "place", **options)[0]


def random_images(seed: int, number: int, classes: int, groups: int, skill: float = 0.6):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(classes, size=number), rng.integers(groups, size=number)
    predicted = np.where(rng.random(number) < skill, label, rng.integers(classes, size=number))
    return label, predicted, group


@st.composite
def binary_images(draw):
    """2 to 5 groups, each with both labels: what a group without one of them is worth is a matter of taste."""
    groups = draw(st.integers(2, 5))
    cells = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2 * groups, max_size=2 * groups))
    table = np.array([(right, wrong + (right + wrong == 0)) for right, wrong in cells])
    return groups, *images(table.reshape(groups, 2, 2))


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(binary_images())
def test_two_classes_are_as_in_fairlearn(drawn):
    groups, label, predicted, group = drawn
    values = figures(label, predicted, group, groups=groups)
    metrics = {
        "accuracy": accuracy_score,
        "tpr": oracle.true_positive_rate,
        "fpr": oracle.false_positive_rate,
        "selection_rate": oracle.selection_rate,
    }
    frame = oracle.MetricFrame(metrics=metrics, y_true=label, y_pred=predicted, sensitive_features=group)
    for metric in metrics:
        own = [values[metric, f"group:g{i}", "images"] for i in range(groups)]
        assert own == pytest.approx(frame.by_group[metric].to_list())
    assert values["accuracy", "all", "images"] == pytest.approx(frame.overall["accuracy"])
    assert values["accuracy", "worst_group", "groups"] == pytest.approx(frame.group_min()["accuracy"])
    for metric in (
        *("demographic_parity_difference", "demographic_parity_ratio", "equal_opportunity_difference"),
        *("equalized_odds_difference", "equalized_odds_ratio"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fairlearn divides zero by zero
            expected = getattr(oracle, metric)(label, predicted, sensitive_features=group)
        expected = 1 if np.isnan(expected) else expected
        assert values[metric, "groups:place", "groups"] == pytest.approx(expected), metric


@pytest.mark.parametrize(("seed", "classes", "groups"), [(0, 3, 2), (1, 5, 4), (2, 4, 7)])
def test_many_classes_are_as_in_a_loop(seed, classes, groups):
    label, predicted, group = random_images(seed, 400, classes, groups)
    values = figures(label, predicted, group, classes, groups)
    gaps, ratios = {}, {}
    for c in range(classes):
        rates = {"tpr": [], "fpr": [], "selection_rate": []}
        for g in range(groups):
            said, true = predicted[group == g] == c, label[group == g] == c
            rates["tpr"].append(said[true].mean())
            rates["fpr"].append(said[~true].mean())
            rates["selection_rate"].append(said.mean())
            for metric, own in rates.items():
                assert values[metric, f"group:g{g}|class:c{c}", "images"] == pytest.approx(own[-1])
            assert values["accuracy", f"cell:c{c}|g{g}", "images"] == pytest.approx(said[true].mean())
        for metric, own in rates.items():
            gaps.setdefault(metric, []).append(max(own) - min(own))
            ratios.setdefault(metric, []).append(min(own) / max(own))
    expected = {
        "demographic_parity_difference": max(gaps["selection_rate"]),
        "demographic_parity_ratio": min(ratios["selection_rate"]),
        "equal_opportunity_difference": max(gaps["tpr"]),
        "equalized_odds_difference": max(gaps["tpr"] + gaps["fpr"]),
        "equalized_odds_ratio": min(ratios["tpr"] + ratios["fpr"]),
    }
    assert values.xs(("groups:place", "groups"), level=[1, 2]).to_dict() == pytest.approx(expected)
    cells = [(predicted == label)[(label == c) & (group == g)].mean() for c in range(classes) for g in range(groups)]
    assert values["accuracy", "worst_cell", "cells"] == pytest.approx(min(cells))
    assert values["accuracy", "all", "cells"] == pytest.approx(np.mean(cells))
    assert values["accuracy", "all", "images"] == pytest.approx((predicted == label).mean())


def test_waterbirds_by_hand():
    scores = score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", training=TRAINING)
    assert scores.index.names == ["metric", "subset", "weighting"]
    assert scores.shape[1] == 1001
    values = scores[0]
    assert values["accuracy"].to_dict() == pytest.approx(
        {
            ("all", "images"): 132 / 160,
            ("all", "cells"): (0.9 + 0.4 + 0.8 + 0.75) / 4,
            ("all", "training"): (3498 * 0.9 + 184 * 0.8 + 56 * 0.4 + 1057 * 0.75) / 4795,
            ("worst_cell", "cells"): 0.4,
            ("worst_group", "groups"): 38 / 50,
            ("group:land", "images"): 94 / 110,
            ("group:water", "images"): 38 / 50,
            ("cell:landbird|land", "images"): 0.9,
            ("cell:waterbird|land", "images"): 0.4,
            ("cell:landbird|water", "images"): 0.8,
            ("cell:waterbird|water", "images"): 0.75,
        }
    )
    assert values["accuracy", "all", "training"] == pytest.approx(4110.55 / 4795)
    assert values.drop("accuracy", level="metric").to_dict() == pytest.approx(
        {
            ("tpr", "group:land", "images"): 0.4,
            ("tpr", "group:water", "images"): 0.75,
            ("fpr", "group:land", "images"): 0.1,
            ("fpr", "group:water", "images"): 0.2,
            ("selection_rate", "group:land", "images"): 14 / 110,
            ("selection_rate", "group:water", "images"): 32 / 50,
            ("demographic_parity_difference", "groups:place", "groups"): 32 / 50 - 14 / 110,
            ("demographic_parity_ratio", "groups:place", "groups"): (14 / 110) / (32 / 50),
            ("equal_opportunity_difference", "groups:place", "groups"): 0.35,
            ("equalized_odds_difference", "groups:place", "groups"): 0.35,
            ("equalized_odds_ratio", "groups:place", "groups"): 0.5,
        }
    )


def test_an_empty_cell_is_left_out():
    confusion = WATERBIRDS.copy()
    confusion[0, 1] = 0  # no waterbirds on land: the worst cell is gone, and with it the tpr of land
    scores = score_groups(*images(confusion), BIRDS, PLACES, "place", training=TRAINING)
    assert not scores.isna().any(axis=None)
    values = scores[0]
    assert ("accuracy", "cell:waterbird|land", "images") not in values
    assert ("tpr", "group:land", "images") not in values
    assert values["accuracy", "worst_cell", "cells"] == pytest.approx(0.75)
    assert values["accuracy", "all", "cells"] == pytest.approx((0.9 + 0.8 + 0.75) / 3)
    weighted = (3498 * 0.9 + 184 * 0.8 + 1057 * 0.75) / (3498 + 184 + 1057)
    assert values["accuracy", "all", "training"] == pytest.approx(weighted)
    # One tpr is not compared with anything; the selection rates still are.
    rows = set(values.index.get_level_values("metric"))
    assert {"equal_opportunity_difference", "equalized_odds_difference", "equalized_odds_ratio"}.isdisjoint(rows)
    assert values["demographic_parity_ratio", "groups:place", "groups"] == pytest.approx(0.1 / 0.64)


def test_an_empty_group_and_a_class_that_is_never_there():
    label, predicted, group = images(WATERBIRDS)
    values = figures(label, predicted, 2 * group, classes=3, groups=4)
    assert not any("g1" in subset or "g3" in subset for subset in values.index.get_level_values("subset"))
    assert ("tpr", "group:g0|class:c2", "images") not in values
    assert values["selection_rate", "group:g0|class:c2", "images"] == 0
    # Of the two classes that are there, one against the rest: of either the gap is the same.
    assert values["demographic_parity_difference", "groups:place", "groups"] == pytest.approx(32 / 50 - 14 / 110)


def test_rates_of_zero_are_equal_rates():
    label, _, group = images(WATERBIRDS)
    values = figures(label, np.zeros_like(label), group)
    fairness = values.xs(("groups:place", "groups"), level=[1, 2])
    assert fairness.to_dict() == {
        "demographic_parity_difference": 0,
        "demographic_parity_ratio": 1,
        "equal_opportunity_difference": 0,
        "equalized_odds_difference": 0,
        "equalized_odds_ratio": 1,
    }


@cache
def both_ways():
    """Confusion counts of the same images, drawn image by image and as multinomials."""
    label, predicted, group = random_images(3, 300, 3, 2)
    counts = resample(group * 3 + label)
    drawn = resample_confusion(confusion_tensor(label, predicted, group, 3, 2), draws=4000, seed=1)
    return confusion_tensor(label, predicted, group, 3, 2, counts), drawn


def test_drawn_confusion_counts_are_those_of_drawn_images():
    by_image, drawn = both_ways()
    assert np.array_equal(by_image[0], drawn[0])
    for own in (by_image, drawn):
        # The multinomial's: mean n p, variance n p (1 - p), covariance -n p q within a cell and 0 across cells.
        size = own[0].sum(-1, keepdims=True)
        share = own[0] / size
        assert own[1:].mean(0) == pytest.approx(own[0], abs=0.5)
        assert own[1:].std(0) == pytest.approx(np.sqrt(size * share * (1 - share)), rel=0.1)
        covariance = np.cov(own[1:].reshape(len(own) - 1, -1).T)
        expected = np.zeros((6, 3, 6, 3))
        for i, (n, p) in enumerate(zip(size.reshape(6), share.reshape(6, 3), strict=True)):
            expected[i, :, i] = n * (np.diag(p) - np.outer(p, p))
        assert np.abs(covariance - expected.reshape(18, 18)).max() < 0.2 * expected.max()


def test_intervals_are_the_same_either_way():
    label, predicted, group = random_images(3, 300, 3, 2)
    names = (named("c", 3), named("g", 2), "place")
    fast = with_intervals(score_groups(label, predicted, group, *names))
    slow = with_intervals(score_groups(label, predicted, group, *names, counts=resample(group * 3 + label)))
    assert fast["value"].to_list() == slow["value"].to_list()
    assert np.abs(fast[["low", "high"]] - slow[["low", "high"]]).max(axis=None) < 0.04
    assert ((fast["high"] - fast["low"]) / (slow["high"] - slow["low"])).mean() == pytest.approx(1, abs=0.02)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 50), min_size=18, max_size=18), st.integers(0, 2**32 - 1))
def test_resamples_keep_the_sizes_of_the_cells_and_repeat(numbers, seed):
    confusion = np.array(numbers).reshape(2, 3, 3)
    drawn = resample_confusion(confusion, draws=20, seed=seed)
    assert drawn.shape == (21, 2, 3, 3)
    assert np.array_equal(drawn[0], confusion)
    assert (drawn.sum(-1) == confusion.sum(-1)).all()
    assert (drawn[:, confusion == 0] == 0).all()
    assert np.array_equal(drawn, resample_confusion(confusion, draws=20, seed=seed))


def test_figures_are_those_of_the_drawn_confusion_counts():
    scores = score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", draws=50, seed=7)
    drawn = resample_confusion(WATERBIRDS, draws=50, seed=7)
    right = np.trace(drawn, axis1=2, axis2=3)
    assert scores.loc[("accuracy", "all", "images")].to_numpy() == pytest.approx(right.sum(1) / 160)
    assert scores.loc[("accuracy", "worst_group", "groups")].to_numpy() == pytest.approx((right / [110, 50]).min(1))
    chosen = drawn[:, :, :, 1].sum(2) / [110, 50]
    gap = scores.loc[("demographic_parity_difference", "groups:place", "groups")].to_numpy()
    assert gap == pytest.approx(np.abs(chosen[:, 0] - chosen[:, 1]))


def test_blocks_do_not_change_the_draws(monkeypatch):
    one = score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", draws=50)
    counts = resample(np.repeat(np.arange(4), WATERBIRDS.sum(2).ravel()))
    paired = score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", counts=counts)
    monkeypatch.setattr("synaug.evaluation.groups.BLOCK", 60)
    pd.testing.assert_frame_equal(one, score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", draws=50))
    pd.testing.assert_frame_equal(paired, score_groups(*images(WATERBIRDS), BIRDS, PLACES, "place", counts=counts))


def test_differences_of_networks_are_paired_by_image_with_counts_only():
    label, predicted, group = random_images(4, 600, 2, 2)
    mended = np.where(np.random.default_rng(5).random(600) < 0.2, label, predicted)
    names = (["c0", "c1"], ["g0", "g1"], "place")

    def width(**options) -> float:
        one, other = (score_groups(label, said, group, *names, **options) for said in (mended, predicted))
        row = difference({0: one}, {0: other}).set_index(["subset", "weighting"]).loc[("all", "images")]
        assert row["low_images"] < row["mean"] < row["high_images"]
        return row["high_images"] - row["low_images"]

    # Mended images alone make the difference: its variance is theirs, n q (1 - q), if the resamples are shared.
    shares = [(mended != predicted)[(label == c) & (group == g)] for c in (0, 1) for g in (0, 1)]
    exact = 2 * 1.96 * np.sqrt(sum(len(own) * own.mean() * (1 - own.mean()) for own in shares)) / 600
    assert width(counts=resample(group * 2 + label)) == pytest.approx(exact, rel=0.1)
    assert width() > 1.3 * exact


def test_counts_that_change_the_size_of_a_cell_are_refused():
    label, predicted, group = images(WATERBIRDS)
    with pytest.raises(ValueError, match="within the cells"):
        score_groups(label, predicted, group, BIRDS, PLACES, "place", counts=resample(label))
