"""Successive halving: which candidates are trained with the next seed."""

import numpy as np
import pandas as pd

from synaug.evaluation.choice import Candidate, ValidationImages
from synaug.evaluation.halving import halve, kept, kept_candidates
from synaug.manifests import write_manifest

# recipe, stage, whether it trains on synthetic images, accuracy on the validation images.
ROWS = [
    ("real", "train", False, 0.50),
    ("real", "finetune", False, 0.55),
    ("rebalanced", "train", False, 0.60),
    ("mixed", "train", False, 0.58),
    ("filled", "train", True, 0.65),
    ("quarter", "train", True, 0.57),
    ("synaug", "train", True, 0.40),
    ("synaug", "finetune", True, 0.63),
]


def stays(rows=ROWS, always=("real",), stage1=None, seeds=None) -> list[str]:
    """The recipes whose candidates are kept, in the order of the config. seeds: the recipes that have a second one."""
    table = pd.DataFrame(rows, columns=["recipe", "stage", "synthetic", "value"]).assign(seeds=1)
    table.loc[table["recipe"].isin(seeds or []), "seeds"] = 2
    own = {recipe: recipe for recipe in table["recipe"]}
    by_recipe = table.assign(kept=kept(table, list(always), own | (stage1 or {}))).groupby("recipe", sort=False)["kept"]
    assert by_recipe.nunique().max() == 1
    return by_recipe.first().loc[lambda flags: flags].index.tolist()


def test_the_better_half_of_the_recipes_is_kept_by_the_better_of_their_stages():
    """synaug is the worst before its fine-tune and the second best after it."""
    assert stays(always=()) == ["rebalanced", "filled", "synaug"]


def test_an_odd_number_of_recipes_is_rounded_up():
    assert stays(ROWS[2:5], always=()) == ["rebalanced", "filled"]
    assert stays(ROWS[:1], always=()) == ["real"]


def test_the_baseline_and_the_best_recipes_with_and_without_synthetic_images_are_never_dropped():
    assert "real" in stays(always=("real",))
    worse_with = [(*row[:3], row[3] - 0.5 * row[2]) for row in ROWS]
    assert stays(worse_with, always=()) == ["real", "rebalanced", "mixed", "filled"]
    worse_without = [(*row[:3], row[3] - 0.5 * (not row[2])) for row in ROWS]
    assert stays(worse_without, always=()) == ["rebalanced", "filled", "quarter", "synaug"]


def test_of_equal_recipes_the_first_ones_of_the_config_are_kept():
    assert stays([(name, "train", True, 0.5) for name in "abcd"], always=()) == ["a", "b"]


def test_recipes_with_the_same_stage_1_stay_together():
    """A fine-tune that is kept needs its stage-1 networks, which belong to another recipe."""
    fine_tune = [("dfr", "finetune", False, 0.9)]
    assert stays(ROWS + fine_tune, always=(), stage1={"dfr": "mixed"}) == ["mixed", "filled", "synaug", "dfr"]
    assert "mixed" in stays(ROWS, always=("dfr",), stage1={"dfr": "mixed"})  # dfr is no candidate


def test_a_recipe_that_was_dropped_does_not_come_back():
    later = [(*row[:3], 0.9 if row[0] == "quarter" else row[3]) for row in ROWS]
    assert stays(later, always=(), seeds=["real", "rebalanced", "filled", "synaug"]) == [
        "rebalanced",
        "filled",
        "synaug",
    ]


def test_the_table_has_the_accuracy_by_which_the_recipe_is_chosen_and_says_who_stays(tmp_path):
    labels = np.repeat([0, 1], [6, 2])
    right, half = np.ones(8), np.r_[np.ones(6), 0.5, 0.5]  # of two seeds, one recognises the small class
    candidates = [
        Candidate("real", "train", False, half, 2),
        Candidate("rebalanced", "train", False, right, 2),
        Candidate("mixed", "train", False, np.zeros(8), 1),
    ]
    images, stage1 = ValidationImages(labels, labels), {"real": "real", "rebalanced": "rebalanced", "mixed": "mixed"}
    table = halve(candidates, images, "balanced", [], stage1)
    assert table["value"].tolist() == [0.75, 1.0, 0.0]
    assert halve(candidates, images, "average", [], stage1)["value"].tolist() == [0.875, 1.0, 0.0]
    assert table["kept"].tolist() == [False, True, False]
    write_manifest("candidates", table, tmp_path / "1.parquet")
    assert kept_candidates(str(tmp_path / "1.parquet"), 0) == {("rebalanced", "train")}
