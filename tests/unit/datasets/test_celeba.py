"""CelebA: classes and groups from its attributes, and the official splits."""

from pathlib import Path

import pytest
from layouts import ATTRIBUTES, described, group_block, one_line_error, write_celeba

from synaug.datasets import celeba

VALUES = {"000001.jpg": "-1 -1  1 -1 -1  1", "000002.jpg": "-1  1 -1 -1  1  1", "000003.jpg": " 1 -1 -1 -1  1 -1"}
PARTS = {"000001.jpg": 0, "000002.jpg": 1, "000003.jpg": 2}


@pytest.fixture
def celebrities(tmp_path, pngs):
    """A function: what differs from the published files to the folder of the data set."""

    def make(values=VALUES, parts=PARTS, count=3, attributes=ATTRIBUTES) -> Path:
        return write_celeba(tmp_path, values, parts, dict.fromkeys(VALUES, pngs[0]), count, attributes)

    return make


def test_attributes_become_classes_and_groups(celebrities):
    chosen = group_block(celebrities(), "Blond_Hair", ["Male", "5_o_Clock_Shadow"])
    expected = [
        ("000001.jpg", "train", "blond hair", ["female", "not 5 o clock shadow"]),
        ("000002.jpg", "val", "not blond hair", ["male", "not 5 o clock shadow"]),
        ("000003.jpg", "test", "not blond hair", ["male", "5 o clock shadow"]),
    ]
    assert described(list(celeba.find(chosen))) == expected
    lists = [Path(chosen.path) / "celeba" / f"list_{name}.txt" for name in ("attr_celeba", "eval_partition")]
    assert celeba.files(chosen) == lists
    inner = group_block(Path(chosen.path) / "celeba", "Blond_Hair", ["Male", "5_o_Clock_Shadow"])
    assert described(list(celeba.find(inner))) == expected


def test_missing_images_and_images_outside_the_folder_are_rows(celebrities):
    values, parts = {**VALUES, "000004.jpg": VALUES["000001.jpg"], "../a.jpg": VALUES["000001.jpg"]}, {"000004.jpg": 0}
    path = celebrities(values, {**PARTS, **parts, "../a.jpg": 0}, 5)
    data = [row["data"] for row in celeba.find(group_block(path, "Male"))]
    assert not data[3].exists() and data[4] is None


def test_an_unknown_attribute_is_answered_with_the_closest(celebrities):
    message = one_line_error(celeba.files, group_block(celebrities(), "blonde_hair"))
    assert "dataset.label_column" in message and "'blonde_hair'; the closest: Blond_Hair, " in message
    message = one_line_error(celeba.find, group_block(celebrities(), "Blond_Hair", ["gender"]))
    assert "dataset.group_columns: CelebA has no attribute 'gender'; the closest: " in message
    assert "already the class" in one_line_error(celeba.find, group_block(celebrities(), "Male", ["Male"]))
    assert "dataset.train_split" in one_line_error(celeba.find, group_block(celebrities(), "Male", train_split="valid"))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"count": 4}, "list_attr_celeba.txt: should list 4 images and lists 3"),
        ({"count": "many"}, "list_attr_celeba.txt: should begin with the number of images"),
        ({"attributes": ATTRIBUTES[1:]}, "list_attr_celeba.txt: line 3: should be a file name and 5 times 1 or -1"),
        ({"values": {**VALUES, "000003.jpg": "1 1 1 1 0 1"}}, "list_attr_celeba.txt: line 5"),
        ({"parts": {**PARTS, "000002.jpg": 3}}, "list_eval_partition.txt: line 2: '000002.jpg 3' should be"),
        ({"parts": {"000001.jpg": 0}}, "list_eval_partition.txt: has no line for 000002.jpg"),
        ({"parts": {**PARTS, "000009.jpg": 0}}, "list_attr_celeba.txt: has no line for 000009.jpg"),
    ],
)
def test_damaged_lists_are_named(celebrities, changed, fault):
    assert fault in one_line_error(celeba.find, group_block(celebrities(**changed), "Male"))


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"])
def test_a_missing_file_or_folder_is_named(celebrities, name):
    path = celebrities()
    (path / "celeba" / name).rename(path / "elsewhere")
    assert f"holds no {name}" in one_line_error(celeba.files, group_block(path, "Male"))
