"""Training images: from either form of storage, in an order that does not depend on where they are stored."""

import pandas as pd
import pytest
import torch

from synaug.balance import rows_of_recipe
from synaug.training.data import TrainingSet, load_training_set
from training_sets import CLASSES


@pytest.fixture
def balanced(tmp_path, pngs) -> pd.DataFrame:
    """Nine rows of the manifest `balanced` over image files, four of them synthetic."""
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(pngs[number])
    return pd.DataFrame(
        {
            "image_id": [f"{n:02d}" for n in range(9)],
            "label": [0, 1, 2] * 3,
            "label_name": CLASSES * 3,
            "source": ["real"] * 5 + ["synthetic"] * 4,
            "weight": 1.0,
            "path": [str(tmp_path / f"{n}.png") for n in range(9)],
            "row": pd.array([None] * 9, "Int64"),
        }
    )


def test_training_images_do_not_depend_on_the_order_of_the_manifest(balanced):
    data = load_training_set(balanced, 12, "grey", "cpu")
    shuffled = load_training_set(balanced.sample(frac=1, random_state=0), 12, "grey", "cpu")
    assert torch.equal(data.images, shuffled.images)
    assert torch.equal(data.labels, shuffled.labels)
    assert data.synthetic.sum() == 4


def test_subsampled_rows_have_the_same_number_of_every_cell():
    rows = pd.DataFrame({"image_id": [f"{i:02}" for i in range(12)], "source": ["real"] * 9 + ["synthetic"] * 3})
    rows = rows.assign(label_name=list("aaaabbbbbbbb"), group=list("xxyyxxxyyyyy"))
    subsampled = rows_of_recipe(rows, "subsampled")
    sizes = subsampled.groupby(["label_name", "group"]).size()
    assert sizes.to_dict() == {("a", "x"): 2, ("a", "y"): 2, ("b", "x"): 2, ("b", "y"): 2}
    assert set(subsampled["source"]) == {"real"}


@pytest.mark.parametrize(("count", "used"), [(9_999, 9_999), (15_000, 7_500), (20_001, 6_667)])
def test_normalisation_comes_from_at_most_ten_thousand_images(count, used):
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    data = TrainingSet(images, torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=bool), torch.ones(count))
    assert len(data.images_for_statistics()) == used
