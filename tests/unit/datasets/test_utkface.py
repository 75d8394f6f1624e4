"""UTKFace: classes and groups from file names, and the test split."""

from pathlib import Path

import numpy as np
import pytest
from layouts import FACES, UNNAMED, described, group_block, one_line_error, write_faces

from synaug.datasets import utkface


@pytest.fixture
def faces(tmp_path, pngs) -> Path:
    return write_faces(tmp_path / "UTKFace", dict.fromkeys([*FACES, *UNNAMED, ".DS_Store"], pngs[0]))


def test_file_names_hold_class_and_groups(faces):
    rows = list(utkface.find(group_block(faces, "gender", ["race", "age"])))
    named = [row for row in rows if "reason" not in row]
    assert [(name, label, groups) for name, _, label, groups in described(named)] == [
        (FACES[0], "male", ["White", "baby"]),
        (FACES[3], "male", ["Black", "twenties"]),
        (FACES[1], "female", ["Asian", "twenties"]),
        (FACES[4], "male", ["Indian", "fifties"]),
        (FACES[2], "female", ["Others", "60 or older"]),
    ]
    assert utkface.files(group_block(faces, "race")) == []


def test_a_name_that_lacks_a_value_is_a_row_with_a_reason(faces):
    rows = [row for row in utkface.find(group_block(faces, "age", ["gender"], "learn", "exam")) if "reason" in row]
    assert described(rows) == [(name, "learn", None, []) for name in sorted(UNNAMED)]
    assert {row["reason"] for row in rows} == {"the file name does not hold age, gender and race"}


@pytest.mark.parametrize("name", ["1_2_0_2016.jpg", "1_0_5_2016.jpg", "-1_0_0_2016.jpg", "1_0_0_.jpg", "Thumbs.db"])
def test_a_name_with_an_impossible_value_has_no_values(name):
    assert utkface.describe(name) is None


def test_every_age_has_a_group():
    groups = [utkface.age_group(age) for age in range(117)]
    assert list(dict.fromkeys(groups)) == [name for _, name in utkface.AGES]
    assert [groups.index(name) for _, name in utkface.AGES] == [0, 3, 13, 20, 30, 40, 50, 60]


def test_a_fifth_of_the_images_are_test_images_in_every_group():
    names = [f"{n % 100}_{n % 2}_{n % 5}_{20161219140623097 + n}.jpg.chip.jpg" for n in range(20000)]
    chosen = np.array([utkface.is_test(name) for name in names])
    assert abs(chosen.mean() - 0.2) < 0.015
    by_group = [chosen[first::10].mean() for first in range(10)]
    assert np.abs(np.array(by_group) - 0.2).max() < 0.045  # five standard deviations, as above
    assert np.flatnonzero(chosen[:12]).tolist() == [2, 3, 6]  # and never changes
    whole = np.array([utkface.is_test(name.removesuffix(".chip.jpg")) for name in names])
    assert np.array_equal(whole, chosen)


def test_the_split_has_the_names_of_the_config_and_does_not_depend_on_the_order(faces, monkeypatch):
    def splits() -> dict[str, str]:
        rows = utkface.find(group_block(faces, "gender", (), "learn", "exam"))
        return {name: split for name, split, _, _ in described(list(rows))}

    before = splits()
    assert before == {name: "exam" if name in FACES and utkface.is_test(name) else "learn" for name in before}
    listed = list(faces.iterdir())[::-1]
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(listed))
    assert list(splits().items()) == list(before.items())


def test_a_link_to_a_file_outside_the_folder_is_not_read(faces, tmp_path, pngs):
    (tmp_path / "outside.jpg").write_bytes(pngs[0])
    (faces / "5_0_0_20160101000000000.jpg").symlink_to(tmp_path / "outside.jpg")
    data = {Path(row["path"]).name: row["data"] for row in utkface.find(group_block(faces, "gender"))}
    assert [name for name, one in data.items() if one is None] == ["5_0_0_20160101000000000.jpg"]


def test_errors_in_the_config_are_named(faces, tmp_path):
    assert "dataset.label_column: 'label' should be one of age, gender, race" in one_line_error(
        utkface.files, group_block(faces)
    )
    assert "'hair' should be one of age" in one_line_error(utkface.find, group_block(faces, "age", ["hair"]))
    assert "'age' is already the class" in one_line_error(utkface.files, group_block(faces, "age", ["gender", "age"]))
    assert "'race' is listed twice" in one_line_error(utkface.files, group_block(faces, "age", ["race", "race"]))
    assert "is not a folder" in one_line_error(utkface.files, group_block(tmp_path / "gone", "age"))
    assert "holds no files (folders: UTKFace)" in one_line_error(utkface.files, group_block(tmp_path, "age"))
