"""The metrics detect a network that uses the group and source of an image as a shortcut."""

import numpy as np
import pandas as pd
import pytest

from synaug.evaluation.bootstrap import resample
from synaug.evaluation.shortcut import accuracy_drop_on_swap, balanced_probe_images, shortcut_metrics
from synaug.networks.classifier import Classifier

# Class 0 is mostly red and class 1 mostly green, so class 0 has green synthetic images and class 1 red ones.
TRAINING = pd.DataFrame({"label": [0] * 9 + [1] * 9, "group": ["green"] * 9 + ["red"] * 9})
IMAGES = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1, 1, 1], "group": ["red", "red", "green", "green"] * 2})


def drop(correct, training=TRAINING) -> np.ndarray:
    strata = IMAGES.groupby(["label", "group"]).ngroup().to_numpy()
    return accuracy_drop_on_swap(np.array(correct, float), IMAGES, training, resample(strata))


def test_the_drop_by_hand():
    # All correct where the class has synthetic images, half correct elsewhere.
    assert drop([1, 0, 1, 1, 1, 1, 1, 0])[0] == pytest.approx(0.5)
    assert drop([1, 1, 1, 1, 1, 1, 1, 1])[0] == pytest.approx(0.0)
    assert drop([1, 1, 0, 0, 0, 0, 1, 1])[0] == pytest.approx(-1.0)


def test_a_class_without_synthetic_images_does_not_count():
    one_class = TRAINING[TRAINING["label"] == 0]
    assert drop([0, 0, 1, 1, 1, 1, 1, 1], one_class)[0] == pytest.approx(1.0)
    assert drop([1] * 8, one_class.head(0)) is None


def test_equal_numbers_in_every_group_give_no_drop():
    even = pd.DataFrame({"label": [0, 0, 1, 1], "group": ["red", "green"] * 2})
    assert drop([1, 0, 0, 0, 1, 1, 1, 0], even)[0] == pytest.approx(0.0)


def test_with_three_groups_the_other_groups_share_the_swapped_images():
    images = pd.DataFrame({"label": [0, 0, 0], "group": ["a", "b", "c"]})
    training = pd.DataFrame({"label": [0] * 4, "group": ["a", "a", "a", "b"]})  # shares 3/4, 1/4, 0
    # After the swap a has half of the other groups' quarter, b three eighths, c half of all.
    value = accuracy_drop_on_swap(np.array([1.0, 0.0, 0.0]), images, training, resample(np.arange(3)))[0]
    assert value == pytest.approx(3 / 4 - 1 / 8)


def test_probe_images_are_equally_many_per_cell_and_source():
    synthetic = pd.DataFrame({"image_id": [f"s{i}" for i in range(9)], "label": [0] * 5 + [1] * 4, "group": "red"})
    test = pd.DataFrame({"image_id": [f"r{i}" for i in range(7)], "label": [0] * 3 + [1] * 2 + [2] * 2, "group": "red"})
    rows = balanced_probe_images(synthetic, test)
    sizes = rows.groupby(["label", "group", "source"]).size()
    assert sizes.to_dict() == {(label, "red", source): 2 for label in (0, 1) for source in ("real", "synthetic")}


def test_a_class_without_test_images_in_a_group_does_not_count():
    there = (IMAGES["label"] == 1) | (IMAGES["group"] == "red")
    images = IMAGES[there].reset_index(drop=True)
    counts = resample(images.groupby(["label", "group"]).ngroup().to_numpy())
    assert accuracy_drop_on_swap(np.ones(len(images)), images, TRAINING, counts)[0] == pytest.approx(0.0)
    of_class_0 = images[images["label"] == 0].assign(group=["red", "green"])
    only = pd.concat([of_class_0.assign(label=[0, 1])])
    assert accuracy_drop_on_swap(np.ones(2), only, TRAINING, resample(np.arange(2))) is None


def test_probe_images_of_other_groups_than_the_test_images_give_no_metrics(caplog):
    synthetic = pd.DataFrame({"image_id": ["s0", "s1"], "label": [0, 1], "group": "hospital 1"})
    test = pd.DataFrame({"image_id": ["r0", "r1"], "label": [0, 1], "group": "hospital 2"})
    model = Classifier("resnet8", 4, ["a", "b"], 12, 1)
    assert list(shortcut_metrics(model, balanced_probe_images(synthetic, test), TRAINING, [])) == []
    assert "the shortcut is not measured" in caplog.text
