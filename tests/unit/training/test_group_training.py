"""Methods for groups: balanced draws, GroupDRO, SUBG, JTT, DFR, and synthetic images before real ones."""

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from synaug.balance import rows_of_recipe
from synaug.config import JTT, Recipe, Stage1, Stage2
from synaug.training.data import TrainingSet
from synaug.training.losses import WorstGroups
from synaug.training.sampling import Halves, Sampler
from synaug.training.stage1 import train_stage1
from synaug.training.stage2 import finetune_stage2

CLASSES = ["left", "right"]
CELLS = ["left, dark", "left, light", "right, dark", "right, light"]
SETTINGS = Stage1(width=4, steps=60, batch_size=32, learning_rate=0.05, shift=0, flip=False)


def spurious(counts=(95, 5, 5, 95), seed: int = 0, synthetic: bool = False) -> TrainingSet:
    """The class is the side that a faint bar stands on; the brightness goes with it as `counts` of the cells say."""
    rng = np.random.default_rng(seed)
    cells = np.repeat(np.arange(4), counts)
    labels, light = cells // 2, cells % 2
    images = rng.integers(0, 60, (len(cells), 1, 12, 12)) + 100 * light[:, None, None, None]
    for image, label in zip(images, labels, strict=True):
        image[0, :, 2 + 6 * label : 4 + 6 * label] += 20
    return TrainingSet(
        torch.from_numpy(images.astype(np.uint8)),
        torch.from_numpy(labels),
        torch.full((len(cells),), synthetic),
        torch.ones(len(cells)),
        torch.from_numpy(cells),
        CELLS,
    )


def worst_cell(model) -> float:
    test = spurious((60, 60, 60, 60), seed=1)
    right = torch.from_numpy(model.probabilities(test.images).argmax(1)) == test.labels
    return min(right[test.cells == cell].float().mean().item() for cell in range(4))


@pytest.fixture(scope="module")
def plain():
    return train_stage1(spurious(), CLASSES, SETTINGS, 0)[0]


def test_cross_entropy_falls_for_the_brightness(plain):
    assert worst_cell(plain) < 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling": "group_balanced"},
        {"sampling": "group_balanced", "group_dro": 0.01},
        {"jtt": JTT(steps=15, weight=20.0)},
    ],
)
def test_what_is_made_against_it_does_better_on_the_worst_cell(changes, plain):
    model, _ = train_stage1(spurious(), CLASSES, SETTINGS.model_copy(update=changes), 0)
    assert worst_cell(model) > worst_cell(plain) + 0.2


def test_a_sparse_last_layer_on_even_draws_does_better_and_leaves_the_body_alone(plain):
    settings = Stage2(method="dfr", draws=3)
    tuned, history = finetune_stage2(plain, spurious(), settings, SETTINGS, 0, np.array([100, 100]))
    assert worst_cell(tuned) > worst_cell(plain) + 0.1
    assert torch.equal(tuned.body[0].weight, plain.body[0].weight) and len(history) == 0
    again, _ = finetune_stage2(plain, spurious(), settings, SETTINGS, 0, np.array([100, 100]))
    assert torch.equal(again.head.weight, tuned.head.weight)


def test_stage_2_takes_as_many_images_of_every_cell(plain):
    tuned, _ = finetune_stage2(
        plain, spurious(), Stage2(steps=30, learning_rate=0.1), SETTINGS, 0, np.array([100, 100])
    )
    assert worst_cell(tuned) > worst_cell(plain)


def test_group_dro_by_hand():
    worst = WorstGroups(3, 0.5, torch.device("cpu"))
    loss = worst(torch.tensor([1.0, 3.0, 4.0]), torch.tensor([0, 0, 2]))
    # Means 2, 0 (no image), 4: shares e^1, 1, e^2 over their sum.
    shares = np.exp([1.0, 0.0, 2.0]) / np.exp([1.0, 0.0, 2.0]).sum()
    assert worst.shares.tolist() == pytest.approx(shares.tolist())
    assert loss.item() == pytest.approx(shares[0] * 2 + shares[2] * 4)


def test_even_rows_are_as_many_of_every_cell():
    rows = pd.DataFrame({"image_id": [f"{i:02}" for i in range(12)], "source": ["real"] * 9 + ["synthetic"] * 3})
    rows = rows.assign(label_name=list("aaaabbbbbbbb"), group=list("xxyyxxxyyyyy"))
    sizes = rows_of_recipe(rows, "subsampled").groupby(["label_name", "group"]).size()
    assert sizes.to_dict() == {("a", "x"): 2, ("a", "y"): 2, ("b", "x"): 2, ("b", "y"): 2}
    assert set(rows_of_recipe(rows, "subsampled")["source"]) == {"real"}


def test_synthetic_images_come_first_and_then_real_ones_alone():
    labels, rng = np.zeros(10, int), np.random.default_rng(0)
    parts = [(Sampler(labels[p], 4, "uniform", rng), p) for p in (np.arange(6, 10), np.arange(6))]
    sampler = Halves(*parts, 3)
    drawn = [set(sampler.draw().tolist()) for _ in range(3)]
    state = sampler.state
    later = [sampler.draw() for _ in range(4)]
    assert all(one <= {6, 7, 8, 9} for one in drawn) and all(set(one.tolist()) <= set(range(6)) for one in later)
    sampler.state = state
    assert all(torch.equal(one, sampler.draw()) for one in later)


@pytest.mark.parametrize(
    "recipe",
    [
        {"data": "real", "stage1": {"synthetic_first": 0.5}},
        {"data": "real", "stage1": {"group_dro": 0.01, "mixup": {"alpha": 0.2}}},
        {"data": "real", "stage1": {}, "stage2": {"method": "dfr", "learning_rate": 0.1}},
        {"data": "real", "stage1": {}, "stage2": {"draws": 3}},
    ],
)
def test_settings_that_have_no_effect_are_errors(recipe):
    with pytest.raises(ValidationError):
        Recipe.model_validate(recipe)
