"""The preview: the images that the plan begins with, and a sheet of them for any number of classes."""

import pandas as pd
import pytest

from synaug.config import Balance, Generation, Prompts
from synaug.images.contact_sheet import contact_sheet
from synaug.plan.preview import preview_rows
from synaug.plan.rows import plan_generation

SETTINGS = {"seed": 3, "image_size": 28, "color": "grey", "prompts": {"templates": ["a {label}", "one {label}"]}}


@pytest.fixture
def model(tmp_path) -> str:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"weights")
    return str(tmp_path / "model")


def test_four_images_of_every_class_and_those_the_plan_begins_with(cells, model):
    from synaug.plan.checkpoints import model_version

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
    wanted = plan[plan["index"] < 4].groupby("label_name")["image_id"].apply(list)
    made = rows.groupby("label_name")["image_id"].apply(list)
    assert made["b"] == wanted["b"]
    assert made["c"][:2] == wanted["c"]  # it lacks only two
    assert "a" not in wanted


@pytest.mark.parametrize("classes", [2, 150])
def test_the_sheet_holds_all_classes_and_is_no_ribbon(cells, pngs, classes):
    names = [f"class {i} with a name that is far too long for its place, <b>Stövel</b>" for i in range(classes)]
    images = pd.DataFrame(
        [{"label_name": name, "prompt": "a photo of a " * 9, "image": pngs[i]} for name in names for i in range(4)]
    )
    sheet = contact_sheet(images, cells(dict.fromkeys(names, 3)).query("kind == 'cell'"))
    assert sheet.height < 4 * sheet.width
    assert sheet.width < 4 * sheet.height
    blocks = sheet.convert("L").point(lambda value: 255 * (value < 20))
    assert blocks.getbbox() is not None


def test_a_large_image_is_scaled_down_to_its_place(cells, encode):
    import numpy as np

    image = encode(np.zeros((300, 300, 3), np.uint8), "WEBP")
    images = pd.DataFrame([{"label_name": name, "prompt": "p", "image": image} for name in "ab" for _ in range(4)])
    sheet = contact_sheet(images, cells({"a": 1, "b": 2}).query("kind == 'cell'"))
    dark = (np.asarray(sheet.convert("L")) < 5).sum()
    assert 8 * 128 * 128 <= dark <= 8 * 128 * 128 * 1.02  # eight pictures, and letters
