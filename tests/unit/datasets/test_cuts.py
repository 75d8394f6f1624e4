"""Long tails cut from any source."""

import pytest

from synaug.datasets.long_tail import cut_rows
from synaug.runtime.errors import UserError

SIZES = {"b": 9, "a": 6, "c": 6, "d": 3}


def rows(shuffled: bool = False) -> list[dict]:
    made = [
        {"label_name": name, "sha256": f"{name}{i:02}", "usable": True}
        for name, size in SIZES.items()
        for i in range(size)
    ]
    made.append({"label_name": "a", "sha256": "broken", "usable": False})
    return made[::-1] if shuffled else made


def kept(**settings) -> dict[str, int]:
    found = cut_rows(rows(), **{"factor": 9.0, "largest": None, "seed": 0} | settings)
    return {name: sum(row["label_name"] == name and row["usable"] for row in found) for name in SIZES}


def test_classes_are_cut_by_size_and_then_by_name():
    # int(9 / 9^(c / 3)): 9, 4, 2, 1.
    assert kept() == {"b": 9, "a": 4, "c": 2, "d": 1}
    assert kept(factor=2.0, largest=4) == {"b": 4, "a": 3, "c": 2, "d": 2}


def test_the_images_decide_which_are_kept_and_not_their_order():
    one, other = (cut_rows(rows(shuffled), 9.0, None, 0) for shuffled in (False, True))
    assert {row["sha256"] for row in one} == {row["sha256"] for row in other}
    assert {row["sha256"] for row in cut_rows(rows(), 9.0, None, 1)} != {row["sha256"] for row in one}


def test_an_unusable_image_stays_listed():
    assert any(row["sha256"] == "broken" for row in cut_rows(rows(), 9.0, None, 0))


@pytest.mark.parametrize("settings", [{"factor": 1.0, "largest": 9}, {"factor": 100.0}])
def test_a_class_that_would_have_too_few_is_named(settings):
    with pytest.raises(UserError, match=r"class '[acd]' should keep \d+ of its \d images"):
        kept(**settings)
