"""A network that uses group and kind of an image as a shortcut is told from one that does not."""

import numpy as np
import pandas as pd
import pytest

from synaug.config import Balance, Generation, Imbalance, Prompts
from synaug.evaluation.bootstrap import resample
from synaug.evaluation.probe_images import unseen_rows
from synaug.evaluation.shortcut import even_images, swap_drop
from synaug.imbalance import measure_imbalance

# Class 0 is mostly red and class 1 mostly green, so class 0 has green synthetic images and class 1 red ones.
TRAINING = pd.DataFrame({"label": [0] * 9 + [1] * 9, "group": ["green"] * 9 + ["red"] * 9})
IMAGES = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1, 1, 1], "group": ["red", "red", "green", "green"] * 2})


def drop(right, training=TRAINING) -> np.ndarray:
    strata = IMAGES.groupby(["label", "group"]).ngroup().to_numpy()
    return swap_drop(np.array(right, float), IMAGES, training, resample(strata))


def test_what_is_lost_when_synthetic_images_are_swapped_by_hand():
    # All right where the class has synthetic images, half right elsewhere.
    assert drop([1, 0, 1, 1, 1, 1, 1, 0])[0] == pytest.approx(0.5)
    assert drop([1, 1, 1, 1, 1, 1, 1, 1])[0] == pytest.approx(0.0)
    assert drop([1, 1, 0, 0, 0, 0, 1, 1])[0] == pytest.approx(-1.0)


def test_a_class_without_synthetic_images_has_no_share():
    only = TRAINING[TRAINING["label"] == 0]
    assert drop([0, 0, 1, 1, 1, 1, 1, 1], only)[0] == pytest.approx(1.0)
    assert drop([1] * 8, only.head(0)) is None


def test_equal_numbers_in_every_group_have_nothing_to_swap():
    even = pd.DataFrame({"label": [0, 0, 1, 1], "group": ["red", "green"] * 2})
    assert drop([1, 0, 0, 0, 1, 1, 1, 0], even)[0] == pytest.approx(0.0)


def test_with_three_groups_the_others_share_what_is_swapped():
    images = pd.DataFrame({"label": [0, 0, 0], "group": ["a", "b", "c"]})
    made = pd.DataFrame({"label": [0] * 4, "group": ["a", "a", "a", "b"]})  # shares 3/4, 1/4, 0
    # a gets half of the quarter that the others had, b three eighths, c half of all
    value = swap_drop(np.array([1.0, 0.0, 0.0]), images, made, resample(np.arange(3)))[0]
    assert value == pytest.approx(3 / 4 - 1 / 8)


def test_as_many_images_of_every_cell_and_kind():
    synthetic = pd.DataFrame({"image_id": [f"s{i}" for i in range(9)], "label": [0] * 5 + [1] * 4, "group": "red"})
    test = pd.DataFrame({"image_id": [f"r{i}" for i in range(7)], "label": [0] * 3 + [1] * 2 + [2] * 2, "group": "red"})
    rows = even_images(synthetic, test)
    sizes = rows.groupby(["label", "group", "source"]).size()
    assert sizes.to_dict() == {(label, "red", kind): 2 for label in (0, 1) for kind in ("real", "synthetic")}


def test_images_to_measure_with_follow_those_of_the_plan():
    """Two classes in two groups, 3, 1, 0 and 2 images: the plan has 0, 2, 3, 1, and the probe the next four of each."""
    cells = [("coat", "red")] * 3 + [("coat", "green")] + [("shirt", "green")] * 2
    real = pd.DataFrame(cells, columns=["label_name", "group"])
    real = real.assign(label=(real["label_name"] == "shirt").astype(int), attributes=[[g] for g in real["group"]])
    imbalance = measure_imbalance(real.assign(split="train", usable=True), "train", Imbalance())
    settings = {
        "seed": 0,
        "image_size": 8,
        "color": "rgb",
        "group_columns": ["color"],
        "balance": Balance().model_dump(),
        "prompts": Prompts(templates=["a {color} {label}"]).model_dump(),
        "generation": Generation(model="a/b", revision="0" * 40, steps=1).model_dump(),
    }
    rows = unseen_rows(imbalance, settings, 4, None)
    first = rows.groupby(["label_name", "group"])["index"].agg(["min", "size"])
    assert first["size"].tolist() == [4] * 4
    assert first["min"].to_dict() == {
        ("coat", "red"): 0,
        ("coat", "green"): 2,
        ("shirt", "red"): 3,
        ("shirt", "green"): 1,
    }
