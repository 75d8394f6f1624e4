"""Probe images continue the plan of the experiment."""

import pandas as pd

from synaug.config import Balance, Generation, Imbalance, Prompts
from synaug.evaluation.probe_images import default_images_per_cell, probe_image_rows
from synaug.imbalance import measure_imbalance


def test_probe_images_follow_those_of_the_plan():
    """Cells of 3, 1, 0 and 2 images: the plan has 0, 2, 3 and 1 images, the probe images are the next four of each."""
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
    rows = probe_image_rows(imbalance, settings, 4, None)
    first = rows.groupby(["label_name", "group"])["index"].agg(["min", "size"])
    assert first["size"].tolist() == [4] * 4
    assert first["min"].to_dict() == {
        ("coat", "red"): 0,
        ("coat", "green"): 2,
        ("shirt", "red"): 3,
        ("shirt", "green"): 1,
    }


def test_there_are_500_probe_images_or_as_many_per_cell_as_test_images(cells):
    imbalance = cells({"a": 5, "b": 2, "c": 1})
    test = pd.DataFrame({"label": [0] * 300 + [1] * 200 + [2] * 100, "group": ""})
    assert default_images_per_cell(imbalance, test) == 167
    assert default_images_per_cell(imbalance, test[::10]) == 30
