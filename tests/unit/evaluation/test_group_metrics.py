"""Group metrics against fairlearn, loops in plain numpy, and numbers computed by hand."""

import warnings

import fairlearn.metrics as fairlearn
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from synaug.evaluation.bootstrap import Resamples, percentile_interval, resample
from synaug.evaluation.classification import with_intervals
from synaug.evaluation.differences import paired_difference
from synaug.evaluation.groups import score_groups

BIRDS, PLACES = ["landbird", "waterbird"], ["land", "water"]
# Group, label, predicted: 90 of 100, 4 of 10, 8 of 10 and 30 of 40 are correct.
WATERBIRDS = np.array([[[90, 10], [6, 4]], [[8, 2], [10, 30]]])
# Training images of Waterbirds (Sagawa et al. 2020), place x bird.
TRAINING = np.array([[3498, 56], [184, 1057]])


def images(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, predicted and group of as many images as `confusion` (groups x classes x classes) counts."""
    group, label, predicted = np.repeat(np.argwhere(confusion >= 0), confusion.ravel(), axis=0).T
    return label, predicted, group


def once(label: np.ndarray) -> Resamples:
    """The test set alone: every image once."""
    counts, factors = np.ones((1, len(label)), np.uint8), np.ones(len(label))
    return Resamples(counts, factors, counts, factors)


def numbered(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(number)]


def metrics(label, predicted, group, classes=2, groups=2) -> pd.Series:
    """metric, subset, weighting -> value."""
    names = (numbered("c", classes), numbered("g", groups), "place")
    return score_groups(label, predicted, group, *names, once(label))[0]


def random_images(seed: int, number: int, classes: int, groups: int, skill: float = 0.6):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(classes, size=number), rng.integers(groups, size=number)
    predicted = np.where(rng.random(number) < skill, label, rng.integers(classes, size=number))
    return label, predicted, group


@st.composite
def binary_images(draw):
    """2 to 5 groups, each with both labels, since libraries differ in the rates of a group without one of them."""
    groups = draw(st.integers(2, 5))
    correct_and_wrong = draw(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2 * groups, max_size=2 * groups)
    )
    table = np.array([(correct, wrong + (correct + wrong == 0)) for correct, wrong in correct_and_wrong])
    return groups, *images(table.reshape(groups, 2, 2))


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(binary_images())
def test_two_classes_agree_with_fairlearn(drawn):
    groups, label, predicted, group = drawn
    values = metrics(label, predicted, group, groups=groups)
    expected_rates = {
        "accuracy": accuracy_score,
        "tpr": fairlearn.true_positive_rate,
        "fpr": fairlearn.false_positive_rate,
        "selection_rate": fairlearn.selection_rate,
    }
    frame = fairlearn.MetricFrame(metrics=expected_rates, y_true=label, y_pred=predicted, sensitive_features=group)
    for metric in expected_rates:
        by_group = [values[metric, f"group:g{i}", "images"] for i in range(groups)]
        assert by_group == pytest.approx(frame.by_group[metric].to_list())
    assert values["accuracy", "all", "images"] == pytest.approx(frame.overall["accuracy"])
    assert values["accuracy", "worst_group", "groups"] == pytest.approx(frame.group_min()["accuracy"])
    for metric in (
        *("demographic_parity_difference", "demographic_parity_ratio", "equal_opportunity_difference"),
        *("equalized_odds_difference", "equalized_odds_ratio"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fairlearn divides zero by zero
            expected = getattr(fairlearn, metric)(label, predicted, sensitive_features=group)
        expected = 1 if np.isnan(expected) else expected
        assert values[metric, "groups:place", "groups"] == pytest.approx(expected), metric


@pytest.mark.parametrize(("seed", "classes", "groups"), [(0, 3, 2), (1, 5, 4), (2, 4, 7)])
def test_many_classes_agree_with_a_loop(seed, classes, groups):
    label, predicted, group = random_images(seed, 400, classes, groups)
    values = metrics(label, predicted, group, classes, groups)
    gaps, ratios = {}, {}
    for c in range(classes):
        rates = {"tpr": [], "fpr": [], "selection_rate": []}
        for g in range(groups):
            selected, true = predicted[group == g] == c, label[group == g] == c
            rates["tpr"].append(selected[true].mean())
            rates["fpr"].append(selected[~true].mean())
            rates["selection_rate"].append(selected.mean())
            for metric, by_group in rates.items():
                assert values[metric, f"group:g{g}|class:c{c}", "images"] == pytest.approx(by_group[-1])
            assert values["accuracy", f"cell:c{c}|g{g}", "images"] == pytest.approx(selected[true].mean())
        for metric, by_group in rates.items():
            gaps.setdefault(metric, []).append(max(by_group) - min(by_group))
            ratios.setdefault(metric, []).append(min(by_group) / max(by_group))
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
    label, predicted, group = images(WATERBIRDS)
    resamples = resample(group * 2 + label)
    scores = score_groups(label, predicted, group, BIRDS, PLACES, "place", resamples, TRAINING)
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


def test_an_empty_cell_is_omitted():
    confusion = WATERBIRDS.copy()
    confusion[0, 1] = 0  # no waterbirds on land: the former worst cell and the tpr of land do not exist
    label, predicted, group = images(confusion)
    resamples = resample(group * 2 + label)
    scores = score_groups(label, predicted, group, BIRDS, PLACES, "place", resamples, TRAINING)
    assert not scores.isna().any(axis=None)
    values = scores[0]
    assert ("accuracy", "cell:waterbird|land", "images") not in values
    assert ("tpr", "group:land", "images") not in values
    assert values["accuracy", "worst_cell", "cells"] == pytest.approx(0.75)
    assert values["accuracy", "all", "cells"] == pytest.approx((0.9 + 0.8 + 0.75) / 3)
    weighted = (3498 * 0.9 + 184 * 0.8 + 1057 * 0.75) / (3498 + 184 + 1057)
    assert values["accuracy", "all", "training"] == pytest.approx(weighted)
    # A single tpr is not compared; the selection rates still are.
    rows = set(values.index.get_level_values("metric"))
    assert {"equal_opportunity_difference", "equalized_odds_difference", "equalized_odds_ratio"}.isdisjoint(rows)
    assert values["demographic_parity_ratio", "groups:place", "groups"] == pytest.approx(0.1 / 0.64)


def test_an_empty_group_and_an_absent_class_are_omitted():
    label, predicted, group = images(WATERBIRDS)
    values = metrics(label, predicted, 2 * group, classes=3, groups=4)
    assert not any("g1" in subset or "g3" in subset for subset in values.index.get_level_values("subset"))
    assert ("tpr", "group:g0|class:c2", "images") not in values
    assert values["selection_rate", "group:g0|class:c2", "images"] == 0
    # One against the rest, the two present classes have the same gap.
    assert values["demographic_parity_difference", "groups:place", "groups"] == pytest.approx(32 / 50 - 14 / 110)


def test_rates_of_zero_count_as_equal():
    label, _, group = images(WATERBIRDS)
    values = metrics(label, np.zeros_like(label), group)
    fairness = values.xs(("groups:place", "groups"), level=[1, 2])
    assert fairness.to_dict() == {
        "demographic_parity_difference": 0,
        "demographic_parity_ratio": 1,
        "equal_opportunity_difference": 0,
        "equalized_odds_difference": 0,
        "equalized_odds_ratio": 1,
    }


def drawn_confusion(confusion: np.ndarray, draws: int) -> np.ndarray:
    """Resamples of `confusion`, draws x G x C x C. Drawing n images of a cell n times is multinomial (n, shares)."""
    sizes = confusion.sum(2)
    shares = confusion / sizes[..., None]
    return np.random.default_rng(1).multinomial(sizes, shares, size=(draws, *sizes.shape))


def counted_confusion(label, predicted, group, counts) -> np.ndarray:
    """Images per group, label and predicted class in each resample, rows of `counts` x G x C x C."""
    groups, classes = group.max() + 1, label.max() + 1
    confusion = np.zeros((len(counts), groups, classes, classes))
    for g, c, p in np.ndindex(groups, classes, classes):
        confusion[:, g, c, p] = counts[:, (group == g) & (label == c) & (predicted == p)].sum(1)
    return confusion


def test_resampling_within_cells_is_multinomial():
    label, predicted, group = random_images(3, 300, 3, 2)
    resamples = resample(group * 3 + label)
    resampled = counted_confusion(label, predicted, group, resamples.within * resamples.factors)
    resampled[0] = counted_confusion(label, predicted, group, resamples.within[:1])[0]
    # Mean n p, variance n p (1 - p), covariance -n p q within a cell and 0 across cells.
    size = resampled[0].sum(-1, keepdims=True)
    share = resampled[0] / size
    for confusion in (resampled[1:], drawn_confusion(resampled[0].astype(int), 4000)):
        assert confusion.mean(0) == pytest.approx(resampled[0], abs=0.5)
        assert confusion.std(0) == pytest.approx(np.sqrt(size * share * (1 - share)), rel=0.1)
        covariance = np.cov(confusion.reshape(len(confusion), -1).T)
        expected = np.zeros((6, 3, 6, 3))
        for i, (n, p) in enumerate(zip(size.reshape(6), share.reshape(6, 3), strict=True)):
            expected[i, :, i] = n * (np.diag(p) - np.outer(p, p))
        assert np.abs(covariance - expected.reshape(18, 18)).max() < 0.2 * expected.max()


def test_intervals_agree_with_multinomial_draws():
    label, predicted, group = random_images(3, 300, 3, 2)
    names = (numbered("c", 3), numbered("g", 2), "place")
    resamples = resample(group * 3 + label)
    intervals = with_intervals(score_groups(label, predicted, group, *names, resamples)).set_index(
        ["metric", "subset", "weighting"]
    )
    confusion = counted_confusion(label, predicted, group, resamples.within[:1])[0].astype(int)
    drawn = drawn_confusion(confusion, 1000)
    correct, size = np.diagonal(drawn, axis1=2, axis2=3), confusion.sum((1, 2))
    selection = drawn.sum(2) / size[:, None]
    expected = {
        ("accuracy", "all", "images"): correct.sum((1, 2)) / 300,
        ("accuracy", "worst_group", "groups"): (correct.sum(2) / size).min(1),
        ("accuracy", "worst_cell", "cells"): (correct / confusion.sum(2)).min((1, 2)),
        ("demographic_parity_difference", "groups:place", "groups"): np.ptp(selection, axis=1).max(1),
    }
    for key, draws in expected.items():
        low, high = percentile_interval(draws)
        row = intervals.loc[key]
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.04), key
        assert row["high"] - row["low"] == pytest.approx(high - low, rel=0.15), key


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 20), min_size=6, max_size=6).filter(any))
def test_resamples_keep_the_sizes_of_the_cells_and_are_reproducible(sizes):
    cell = np.repeat(np.arange(6), sizes)
    resamples = resample(cell)
    assert resamples.within.shape == (1001, sum(sizes)) and (resamples.within[0] == 1).all()
    for number, size in enumerate(sizes):
        of_cell = cell == number
        assert (resamples.within[1:, of_cell] * resamples.factors[of_cell]).sum(1) == pytest.approx(size)
    assert np.array_equal(resamples.within, resample(cell).within)


def test_the_metrics_of_a_resample_equal_those_of_its_repeated_images():
    label, predicted, group = images(WATERBIRDS)
    resamples = resample(group * 2 + label)
    scores = score_groups(label, predicted, group, BIRDS, PLACES, "place", resamples, TRAINING)
    for draw in (1, 500, 1000):
        # The factors are n / (n - 1) of cells with 100, 40 and 10 images, so with these repetitions they are whole.
        times = resamples.within[draw] * resamples.factors * 99 * 13
        repeated = np.repeat(np.arange(len(label)), np.rint(times).astype(int))
        label_, predicted_, group_ = label[repeated], predicted[repeated], group[repeated]
        expected = score_groups(label_, predicted_, group_, BIRDS, PLACES, "place", once(label_), TRAINING)[0]
        assert scores[draw].to_dict() == pytest.approx(expected.to_dict())


def test_differences_of_networks_are_paired_by_image():
    label, predicted, group = random_images(4, 600, 2, 2)
    corrected = np.where(np.random.default_rng(5).random(600) < 0.2, label, predicted)
    names = (["c0", "c1"], ["g0", "g1"], "place")
    resamples = resample(group * 2 + label)
    network, baseline = (score_groups(label, p, group, *names, resamples) for p in (corrected, predicted))
    row = paired_difference({0: network}, {0: baseline}).set_index(["subset", "weighting"]).loc[("all", "images")]
    assert row["low_images"] < row["mean"] < row["high_images"]
    width = row["high_images"] - row["low_images"]
    # Only the corrected images differ: the variance is theirs, n q (1 - q), if both networks share the resamples.
    shares = [(corrected != predicted)[(label == c) & (group == g)] for c in (0, 1) for g in (0, 1)]
    exact = 2 * 1.96 * np.sqrt(sum(len(share) * share.mean() * (1 - share.mean()) for share in shares)) / 600
    assert width == pytest.approx(exact, rel=0.1)
    alone = [
        with_intervals(scores).set_index(["subset", "weighting"]).loc[("all", "images")]
        for scores in (network, baseline)
    ]
    unpaired = np.hypot(*(interval["high"] - interval["low"] for interval in alone))
    assert unpaired > 1.3 * exact


def test_resamples_that_change_the_size_of_a_cell_are_refused():
    label, predicted, group = images(WATERBIRDS)
    with pytest.raises(ValueError, match="within the cells"):
        score_groups(label, predicted, group, BIRDS, PLACES, "place", resample(label))
