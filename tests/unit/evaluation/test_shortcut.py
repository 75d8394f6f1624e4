"""The metrics detect a network that uses the group and source of an image as a shortcut."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

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


def cell_images(sizes: dict[tuple[int, str], int], prefix: str) -> pd.DataFrame:
    """Images of cells. sizes: (label, group) -> number of images."""
    cells = [cell for cell, size in sizes.items() for _ in range(size)]
    table = pd.DataFrame(cells, columns=["label", "group"])
    return table.assign(image_id=[f"{prefix}{i:03}" for i in range(len(cells))])


def test_a_rare_test_cell_takes_no_probe_images_from_the_others():
    """Class 2 has test images in another group than probe images. There are at most as many test images as of these."""
    synthetic = cell_images(dict.fromkeys([(0, "red"), (0, "green"), (1, "red"), (2, "red")], 5), "s")
    test = cell_images({(0, "red"): 9, (0, "green"): 1, (1, "red"): 5, (2, "green"): 5}, "r")
    rows = balanced_probe_images(synthetic, test)
    cells = [(0, "red"), (0, "green"), (1, "red")]
    expected = {(*cell, source): 5 for cell in cells for source in ("real", "synthetic")}
    assert rows.groupby(["label", "group", "source"]).size().to_dict() == expected | {(0, "green", "real"): 1}


class Network:
    """A network that predicts class 0, and whose features are the pixels."""

    def __init__(self, features: np.ndarray):
        self.head = SimpleNamespace(in_features=features.shape[1], weight=torch.zeros(1))
        self.batches = [(np.arange(len(features)), features[:, None, None].astype(np.float32))]

    def eval(self):
        return self

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def probabilities(self, features: torch.Tensor) -> np.ndarray:
        return np.tile([1, 0, 0], (len(features), 1))


def metrics_of(tested: dict[tuple[int, str], int], seen: list[str]) -> dict:
    """(metric, subset) -> (value, low, high) of a network whose features show the columns `seen` of an image.

    tested: number of test images of each cell; there are 40 probe images of each.
    """
    rows = balanced_probe_images(cell_images(dict.fromkeys(tested, 40), "s"), cell_images(tested, "r"))
    network = Network(pd.get_dummies(rows.groupby(seen).ngroup()).to_numpy())
    return {row[:2]: row[3:] for row in shortcut_metrics(network, rows, TRAINING, network.batches)}


def test_the_pair_probe_leaves_out_what_is_too_rare_to_measure_and_not_everything_else():
    tested = {(0, "red"): 40, (0, "green"): 40, (1, "red"): 40, (1, "green"): 1, (2, "red"): 40}
    assert metrics_of(tested, ["group", "source"])["pair_probe", "all"] == pytest.approx((1, 1, 1))
    assert metrics_of({(0, "red"): 4, (0, "green"): 4}, ["group", "source"])["pair_probe", "all"] == (0.25, 0, 1)
    assert metrics_of({(0, "red"): 40, (1, "green"): 40}, ["label"])["pair_probe", "all"] == (0.25, 0, 1)


def test_the_class_does_not_reveal_the_group():
    """Class 2 has images in red only, class 3 in green only. Half of the pairs are guessed from the source alone."""
    tested = {(0, "red"): 40, (0, "green"): 10, (1, "red"): 10, (1, "green"): 40, (2, "red"): 40, (3, "green"): 40}
    assert metrics_of(tested, ["label", "source"])["pair_probe", "all"][0] <= 0.5


def test_the_accuracies_of_cells_count_equally_whatever_their_numbers_of_images():
    images = pd.DataFrame({"label": [0] * 5, "group": ["red"] * 4 + ["green"]})
    counts = resample(np.array([0, 0, 0, 0, 1]))
    assert accuracy_drop_on_swap(np.array([1.0, 1, 0, 0, 1]), images, TRAINING, counts)[0] == pytest.approx(0.5)


def test_a_class_without_test_images_in_a_group_does_not_count():
    there = (IMAGES["label"] == 1) | (IMAGES["group"] == "red")
    images = IMAGES[there].reset_index(drop=True)
    counts = resample(images.groupby(["label", "group"]).ngroup().to_numpy())
    assert accuracy_drop_on_swap(np.ones(len(images)), images, TRAINING, counts)[0] == pytest.approx(0.0)
    of_class_0 = images[images["label"] == 0].assign(group=["red", "green"])
    only = pd.concat([of_class_0.assign(label=[0, 1])])
    assert accuracy_drop_on_swap(np.ones(2), only, TRAINING, resample(np.arange(2))) is None


def test_the_drop_is_not_known_if_no_class_has_test_images_in_a_group_of_its_synthetic_images():
    """Most synthetic images are blue: nothing is known about the accuracy on them."""
    training = pd.DataFrame({"label": [0] * 100, "group": ["red"] * 10 + ["blue"] * 90})
    assert drop([1, 1, 0, 0, 1, 1, 1, 1], training) is None


def test_probe_images_of_other_groups_than_the_test_images_give_no_metrics(caplog):
    synthetic = pd.DataFrame({"image_id": ["s0", "s1"], "label": [0, 1], "group": "hospital 1"})
    test = pd.DataFrame({"image_id": ["r0", "r1"], "label": [0, 1], "group": "hospital 2"})
    model = Classifier("resnet8", 4, ["a", "b"], 12, 1)
    assert list(shortcut_metrics(model, balanced_probe_images(synthetic, test), TRAINING, [])) == []
    assert "the shortcut is not measured" in caplog.text
