"""The choice of a recipe: synthetic images have to be better than the noise of the validation images."""

import numpy as np
import pandas as pd
import pytest

from synaug.evaluation.choice import Candidate, choose, read_candidates, required_gain
from synaug.manifests import write_manifest

LABELS = np.repeat(np.arange(4), (200, 100, 40, 20))


def candidate(name: str, synthetic: bool, accuracies, stage: str = "train") -> Candidate:
    """A candidate that predicts the first images of each class correctly."""
    rank = np.concatenate([np.arange(size) / size for size in np.bincount(LABELS)])
    return Candidate(name, stage, synthetic, (rank < np.asarray(accuracies)[LABELS]).astype(float), 3)


REAL = candidate("real", False, (0.9, 0.8, 0.5, 0.2))
REBALANCED = candidate("rebalanced", False, (0.85, 0.8, 0.6, 0.4))


def chosen(candidates, metric: str = "balanced", cells=LABELS) -> str:
    table = choose(candidates, LABELS, cells, metric)
    [row] = table[table["chosen"]].itertuples()
    assert set(table["reason"]) == {row.reason} and row.recipe in row.reason
    return row.recipe


def test_the_best_recipe_without_synthetic_images_stays_unless_the_gain_is_clear():
    slightly_better = candidate("filled", True, (0.85, 0.8, 0.6, 0.45))
    clearly_better = candidate("filled", True, (0.85, 0.8, 0.8, 0.7))
    assert chosen([REAL, REBALANCED]) == "rebalanced"
    assert chosen([REAL, REBALANCED, candidate("filled", True, (0.9, 0.8, 0.5, 0.3))]) == "rebalanced"
    assert chosen([REAL, REBALANCED, clearly_better]) == "filled"
    table = choose([REAL, REBALANCED, slightly_better], LABELS, LABELS, "balanced")
    row = table.set_index("recipe").loc["filled"]
    assert row["gain"] == pytest.approx(0.05 / 4) and row["gain_standard_error"] > 0
    # One image of twenty: sqrt(0.05 * 0.95 / 20) / 4.
    assert row["gain_standard_error"] == pytest.approx((0.05 * 0.95 / 20) ** 0.5 / 4, rel=0.1)
    assert row["chosen"] == (row["gain"] > row["gain_standard_error"])


def test_the_best_of_many_recipes_with_synthetic_images_has_to_gain_more():
    better = candidate("filled", True, (0.85, 0.8, 0.6, 0.5))  # by 1.5 standard errors
    others = [candidate(f"filled_{number}", True, (0.85, 0.8, 0.6, 0.3)) for number in range(7)]
    assert chosen([REAL, REBALANCED, better]) == "filled"
    assert chosen([REAL, REBALANCED, better, *others]) == "rebalanced"
    assert [required_gain(count) for count in (1, 8, 16)] == pytest.approx([1.0, 2.06, 2.33], abs=0.01)


@pytest.mark.parametrize(
    ("metric", "name"), [("balanced", "rebalanced"), ("average", "real"), ("worst_class", "rebalanced")]
)
def test_the_metric_decides(metric, name):
    average = candidate("real", False, (0.95, 0.8, 0.5, 0.2))
    assert chosen([average, REBALANCED], metric) == name


def test_the_worst_cell_counts_if_it_is_asked_for():
    cells = 2 * LABELS + np.arange(len(LABELS)) % 2
    wrong_in_odd_cells = Candidate("real", "train", False, (np.arange(len(LABELS)) % 2 == 0).astype(float), 3)
    assert chosen([wrong_in_odd_cells, REBALANCED], "worst_cell", cells) == "rebalanced"


def test_candidates_are_sorted_by_their_validation_accuracy_and_both_stages_count():
    fine_tuned = candidate("rebalanced", False, (0.9, 0.9, 0.9, 0.9), "finetune")
    table = choose([REAL, REBALANCED, fine_tuned], LABELS, LABELS, "balanced")
    assert table[["recipe", "stage"]].to_numpy().tolist()[0] == ["rebalanced", "finetune"]
    assert table["chosen"].tolist() == [True, False, False]
    assert table["validation"].is_monotonic_decreasing


def test_only_recipes_with_synthetic_images_can_be_compared_too():
    assert chosen([candidate("filled", True, (0.9, 0.8, 0.5, 0.2))]) == "filled"


def test_a_candidate_that_was_dropped_is_listed_and_counted_but_not_chosen():
    better = candidate("filled", True, (0.85, 0.8, 0.6, 0.5))  # by 1.5 standard errors
    dropped = [candidate(f"filled_{number}", True, (0.85, 0.8, 0.6, 0.3))._replace(seeds=1) for number in range(7)]
    lucky = candidate("mixed", False, (0.9, 0.9, 0.9, 0.9))._replace(seeds=1)
    assert chosen([REAL, REBALANCED, lucky, better]) == "filled"
    assert chosen([REAL, REBALANCED, lucky, better, *dropped]) == "rebalanced"  # as if all had been trained
    table = choose([REAL, REBALANCED, lucky, better, *dropped], LABELS, LABELS, "balanced")
    assert table["seeds"].tolist() == 3 * [3] + 8 * [1] and table["recipe"][3] == "mixed"


@pytest.mark.parametrize("sizes", [[1] * 20, [1] * 5 + [40] * 5, [2] * 10, [1] + [30] * 3])
def test_the_noise_of_classes_with_one_or_two_images_counts(sizes):
    """The standard error of the gain is that over new validation images, not less. Both recipes are right by chance."""
    rng, labels, errors, gains = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes), [], []
    for _ in range(40):
        both = [
            Candidate(name, "train", name == "filled", (rng.random(len(labels)) < 0.6).astype(float), 1)
            for name in ("real", "filled")
        ]
        row = choose(both, labels, labels, "balanced").set_index("recipe").loc["filled"]
        errors.append(row["gain_standard_error"])
        gains.append(row["gain"])
    true = np.sqrt(2 * 0.6 * 0.4 * np.mean(1 / np.array(sizes)) / len(sizes))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(true, rel=0.25) and np.std(gains) < 1.4 * true


def test_a_class_with_fewer_than_five_validation_images_cannot_be_the_worst_one(caplog):
    """One image would decide: without it, both recipes are equal in their worst class."""
    labels = np.repeat([0, 1, 2], [1, 100, 100])
    hits = np.concatenate([[True], np.arange(100) < 60, np.arange(100) < 90]).astype(float)
    misses = np.concatenate([[0.0], hits[1:]])
    recipes = [Candidate("real", "train", False, misses, 3), Candidate("filled", "train", True, hits, 3)]
    table = choose(recipes, labels, labels, "worst_class").set_index("recipe")
    assert table["validation"].tolist() == [0.6, 0.6] and table["chosen"]["real"]
    assert caplog.messages == ["1 of 3 classes has fewer than 5 validation images and does not count in worst_class"]
    only_small = np.repeat(np.arange(4), 2)
    choose([Candidate("real", "train", False, np.ones(8), 3)], only_small, only_small, "worst_class")
    assert caplog.messages[1] == (
        "4 of 4 classes have fewer than 5 validation images, so that worst_class depends on chance"
    )


def test_one_more_right_image_in_classes_of_one_image_is_no_gain():
    labels = np.arange(20)
    real, filled = (
        Candidate(name, "train", name == "filled", (labels < count).astype(float), 1)
        for name, count in (("real", 10), ("filled", 11))
    )
    assert choose([real, filled], labels, labels, "balanced").set_index("recipe")["chosen"]["real"]


def test_classes_without_a_validation_image_are_named_in_the_log(tmp_path, caplog):
    """They have no accuracy, so the choice says nothing of them."""
    images = {"image_id": list("abcd"), "split": ["train", "val", "train", "train"], "label": [0, 0, 1, 2]}
    images = pd.DataFrame(images).assign(
        label_name=["cat", "cat", "dog", "emu"], group="", usable=True, sha256="0" * 64, path="x"
    )
    write_manifest("real", images, tmp_path / "real.parquet")
    predictions = images[images["split"] == "val"][["image_id", "split", "label", "label_name", "group"]]
    predictions = predictions.assign(predicted=0, probabilities=[[1.0, 0.0, 0.0]])
    write_manifest("predictions", predictions, tmp_path / "predictions.parquet")
    files = ([str(tmp_path / "predictions.parquet")], [("train", "real", 0)], str(tmp_path / "real.parquet"))
    read_candidates(*files, "val", [])
    assert caplog.messages == ["2 classes, such as 'dog', have no validation image and do not count in the choice"]
