"""Probe images continue the plan of the experiment."""

import pandas as pd
import pytest

from synaug.config import Balance, Generation, Imbalance, Prompts
from synaug.evaluation.probe_images import default_images_per_cell, probe_image_rows
from synaug.imbalance import measure_imbalance
from synaug.plan.preview import cells_with_sources
from synaug.plan.rows import plan_from_settings


@pytest.fixture
def real() -> pd.DataFrame:
    """Training images of cells of 3, 1, 0 and 2 images."""
    cells = [("coat", "red")] * 3 + [("coat", "green")] + [("shirt", "green")] * 2
    real = pd.DataFrame(cells, columns=["label_name", "group"])
    real = real.assign(label=(real["label_name"] == "shirt").astype(int), attributes=[[g] for g in real["group"]])
    return real.assign(split="train", usable=True, image_id=[f"real {i}" for i in range(len(real))])


@pytest.fixture
def imbalance(real) -> pd.DataFrame:
    return measure_imbalance(real, "train", Imbalance())


def plan_settings(generation: dict | None = None, prompts: dict | None = None, **balance) -> dict:
    return {
        "seed": 0,
        "image_size": 8,
        "color": "rgb",
        "group_columns": ["color"],
        "balance": Balance(**balance).model_dump(),
        "prompts": Prompts(**(prompts or {"templates": ["a {color} {label}"]})).model_dump(),
        "generation": Generation(model="a/b", revision="0" * 40, **({"steps": 1} | (generation or {}))).model_dump(),
    }


def test_probe_images_follow_those_of_the_plan(imbalance):
    """The plan has 0, 2, 3 and 1 images, the probe images are the next four of each."""
    rows = probe_image_rows(imbalance, plan_settings(), 4, None)
    first = rows.groupby(["label_name", "group"])["index"].agg(["min", "size"])
    assert first["size"].tolist() == [4] * 4
    assert first["min"].to_dict() == {
        ("coat", "red"): 0,
        ("coat", "green"): 2,
        ("shirt", "red"): 3,
        ("shirt", "green"): 1,
    }


@pytest.mark.parametrize(
    ("generation", "prompts", "balance"),
    [
        ({}, {}, {}),
        (
            {"steps": [10, 20], "guidance": [1.5, 3.0, 5.0]},
            {"templates": ["a {label}", "one {label} {modifier}"], "modifiers": ["at night", "in fog"]},
            {"oversample": 1.5},
        ),
        (
            {"pipeline": "image-to-image", "strength": 0.6, "guidance": [1.5, 3.0]},
            {"templates": ["a {color} {label} {modifier}"], "modifiers": ["at night", "in fog", "in rain"]},
            {"strategy": "fixed", "target": 11},
        ),
    ],
)
def test_probe_images_are_those_of_a_plan_that_is_longer_by_them(real, imbalance, generation, prompts, balance):
    settings = plan_settings(generation, prompts, **balance)
    sources = real if generation.get("pipeline") == "image-to-image" else None
    cells = cells_with_sources(imbalance, sources)
    planned = plan_from_settings(cells, settings, sources).groupby(["label_name", "group"]).size()
    # With negative counts of real images, every cell lacks what the plan has, and five images more.
    keys = pd.MultiIndex.from_frame(cells[["label_name", "group"]].astype(str))
    lacking = cells.assign(count=-planned.reindex(keys, fill_value=0).to_numpy())
    longer = settings | {"balance": {"strategy": "fixed", "target": 5}}
    expected = plan_from_settings(lacking, longer, sources)
    first = planned.reindex(pd.MultiIndex.from_frame(expected[["label_name", "group"]]), fill_value=0).to_numpy()
    expected = expected[expected["index"].to_numpy() >= first].reset_index(drop=True)
    rows = probe_image_rows(cells, settings, 5, sources).reset_index(drop=True)
    assert len(rows) == 5 * (cells["kind"] == "cell").sum()
    # They lie in no shard.
    pd.testing.assert_frame_equal(rows.drop(columns="shard"), expected.drop(columns="shard"))


def test_probe_images_that_follow_a_billion_planned_images_are_planned_alone(imbalance):
    rows = probe_image_rows(imbalance, plan_settings(strategy="fixed", target=10**9), 4, None)
    assert rows["index"].tolist()[-4:] == [10**9 + i for i in range(4)]


def test_there_are_500_probe_images_or_as_many_per_cell_as_test_images(cells):
    imbalance = cells({"a": 5, "b": 2, "c": 1})
    test = pd.DataFrame({"label": [0] * 300 + [1] * 200 + [2] * 100, "group": ""})
    assert default_images_per_cell(imbalance, test) == 167
    assert default_images_per_cell(imbalance, test[::10]) == 30
