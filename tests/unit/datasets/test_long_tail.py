"""Long-tailed cuts of any source, and the counts that they keep."""

import json

import numpy as np
import pytest

from synaug.datasets.long_tail import cut_rows, draw, exponential_counts
from synaug.runtime.errors import UserError

SIZES = {"b": 9, "a": 6, "c": 6, "d": 3}


def rows(shuffled: bool = False) -> list[dict]:
    table = [
        {"label_name": name, "sha256": f"{name}{i:02}", "usable": True}
        for name, size in SIZES.items()
        for i in range(size)
    ]
    table.append({"label_name": "a", "sha256": "broken", "usable": False})
    return table[::-1] if shuffled else table


def kept(**settings) -> dict[str, int]:
    kept_rows = cut_rows(rows(), **{"factor": 9.0, "largest": None, "seed": 0} | settings)
    return {name: sum(row["label_name"] == name and row["usable"] for row in kept_rows) for name in SIZES}


def test_classes_are_cut_by_size_and_then_by_name():
    # int(9 / 9^(c / 3)): 9, 4, 2, 1.
    assert kept() == {"b": 9, "a": 4, "c": 2, "d": 1}
    assert kept(factor=2.0, largest=4) == {"b": 4, "a": 3, "c": 2, "d": 2}


def test_the_contents_of_the_images_decide_and_not_their_order():
    one, other = (cut_rows(rows(shuffled), 9.0, None, 0) for shuffled in (False, True))
    assert {row["sha256"] for row in one} == {row["sha256"] for row in other}
    assert {row["sha256"] for row in cut_rows(rows(), 9.0, None, 1)} != {row["sha256"] for row in one}


def test_an_unusable_image_is_kept():
    assert any(row["sha256"] == "broken" for row in cut_rows(rows(), 9.0, None, 0))


@pytest.mark.parametrize("settings", [{"factor": 1.0, "largest": 9}, {"factor": 100.0}])
def test_a_class_with_too_few_images_is_named(settings):
    with pytest.raises(UserError, match=r"class '[acd]' should keep \d+ of its \d images"):
        kept(**settings)


def test_the_counts_of_cifar_100_are_those_of_the_literature():
    counts = exponential_counts(500, 100, 100)
    assert (sum(counts), max(counts), min(counts)) == (10_847, 500, 5)


def test_the_counts_of_the_embedded_data(repository):
    counts = exponential_counts(500, 100, 10)
    assert (sum(counts), max(counts), min(counts)) == (1236, 500, 5)
    assert counts == sorted(counts, reverse=True)
    assert json.loads((repository / "resources/fashion_mnist_lt/indices.json").read_text())


def test_a_draw_has_the_given_counts_and_is_reproducible():
    labels = np.random.default_rng(0).integers(0, 3, 300)
    cut = draw(labels, [40, 20, 5], seed=1)
    assert np.bincount(labels[cut]).tolist() == [40, 20, 5]
    assert len(np.unique(cut)) == 65
    assert np.array_equal(cut, draw(labels, [40, 20, 5], seed=1))
    assert not np.array_equal(cut, draw(labels, [40, 20, 5], seed=2))


def test_a_draw_larger_than_the_class_is_refused():
    with pytest.raises(ValueError):
        draw(np.array([0, 0, 1]), [2, 2], seed=0)
