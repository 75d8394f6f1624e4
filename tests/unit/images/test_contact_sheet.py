"""Contact sheets: one row of images per class."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from synaug.images.contact_sheet import contact_sheet, draw_sheet_of


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


def test_rows_of_classes_whose_names_the_font_cannot_draw_differ(cells, pngs, tmp_path):
    images = pd.DataFrame([{"label_name": name, "prompt": "p", "image": pngs[0]} for name in ("犬", "猫")])
    sheet = contact_sheet(images, cells({"犬": 3, "猫": 3}).query("kind == 'cell'"))
    shard = images.assign(label=[0, 1], image_id=["a", "b"], image=[{"bytes": pngs[0], "path": None}] * 2)
    shard.to_parquet(tmp_path / "t.parquet")
    draw_sheet_of(tmp_path / "t.parquet", tmp_path / "t.png")
    for drawn in (sheet, Image.open(tmp_path / "t.png")):
        names = drawn.crop((0, 0, 200, drawn.height - 8))
        upper, lower = (names.crop((0, top, 200, top + names.height // 2)) for top in (0, names.height // 2))
        assert upper.getbbox() and ImageChops.difference(upper, lower).getbbox()


def test_a_large_image_is_scaled_down_to_its_place(cells, encode):
    image = encode(np.zeros((300, 300, 3), np.uint8), "WEBP")
    images = pd.DataFrame([{"label_name": name, "prompt": "p", "image": image} for name in "ab" for _ in range(4)])
    sheet = contact_sheet(images, cells({"a": 1, "b": 2}).query("kind == 'cell'"))
    dark = (np.asarray(sheet.convert("L")) < 5).sum()
    assert 8 * 128 * 128 <= dark <= 8 * 128 * 128 * 1.02  # eight pictures, and letters
