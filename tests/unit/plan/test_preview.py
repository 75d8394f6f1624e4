"""The preview: the first images of the plan."""

import pandas as pd

from synaug.config import Balance, Generation, Prompts
from synaug.plan.checkpoints import model_version
from synaug.plan.preview import cells_with_sources, preview_rows
from synaug.plan.rows import plan_generation

SETTINGS = {"seed": 3, "image_size": 28, "color": "grey", "prompts": {"templates": ["a {label}", "one {label}"]}}


def test_four_images_of_every_class_and_those_that_the_plan_begins_with(cells, checkpoint, tmp_path):
    model = str(checkpoint(tmp_path / "model"))
    generation = {"model": model, "steps": [5, 6], "guidance": [1.5, 2.0, 3.0]}
    table = cells({"a": 50, "b": 30, "c": 48})
    rows = preview_rows(table, SETTINGS | {"generation": generation}, None)
    assert rows.groupby("label_name")["index"].apply(list).to_dict() == {name: [0, 1, 2, 3] for name in "abc"}
    plan = plan_generation(
        table,
        balance=Balance(),
        prompts=Prompts.model_validate(SETTINGS["prompts"]),
        generation=Generation.model_validate(generation),
        seed=3,
        image_size=28,
        color="grey",
        version=model_version(model, None),
    )
    in_plan = plan[plan["index"] < 4].groupby("label_name")["image_id"].apply(list)
    in_preview = rows.groupby("label_name")["image_id"].apply(list)
    assert in_preview["b"] == in_plan["b"]
    assert in_preview["c"][:2] == in_plan["c"]  # it lacks only two
    assert "a" not in in_plan


def test_a_cell_without_a_real_image_has_no_preview_of_image_to_image(cells):
    table = cells({"a": 5, "b": 3})
    sources = pd.DataFrame({"image_id": ["1"], "label_name": ["a"], "group": [""], "usable": [True]})
    assert set(cells_with_sources(table, sources).query("kind == 'cell'")["label_name"]) == {"a"}
    assert len(cells_with_sources(table, None)) == len(table)
