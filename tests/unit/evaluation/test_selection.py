"""Settings are chosen by the validation images alone, and the criterion is recorded."""

import pandas as pd
import pytest

from evaluation import select_settings as script
from synaug.evaluation.selection import method_name, select_settings, validation_metrics
from synaug.manifests import read_manifest, write_manifest

RECIPES = ["real", "focal-0.5", "focal-1", "synaug"]


def table(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["recipe", "stage", "seed", "criterion", "value"])


def test_validation_metrics_by_hand():
    """Class 0: 3 of 4 correct (red 2 of 2, green 1 of 2); class 1: 1 of 2 (red 1 of 1, green 0 of 1)."""
    rows = pd.DataFrame({"label": [0, 0, 0, 0, 1, 1], "predicted": [0, 0, 0, 1, 1, 0]})
    groups = pd.Series(["red", "red", "green", "green", "red", "green"])
    metrics = validation_metrics(rows, groups)
    assert metrics == pytest.approx({"average": 4 / 6, "balanced": 0.625, "worst_class": 0.5, "worst_cell": 0.0})
    assert "worst_cell" not in validation_metrics(rows, pd.Series([""] * 6))


def test_a_class_with_fewer_than_five_validation_images_is_not_the_worst_one():
    rows = pd.DataFrame({"label": [0] * 5 + [1], "predicted": [0, 0, 0, 1, 1, 0]})
    metrics = validation_metrics(rows, pd.Series(["red"] * 6))
    assert (metrics["worst_class"], metrics["worst_cell"]) == (0.6, 0.6)


def test_each_criterion_chooses_a_setting_of_each_method(tmp_path):
    rows = table(
        ("real", "train", 0, "average", 0.9),
        ("focal-0.5", "train", 0, "average", 0.8),
        ("focal-0.5", "train", 1, "average", 0.6),
        ("focal-1", "train", 0, "average", 0.75),
        ("focal-1", "train", 1, "average", 0.75),
        ("focal-0.5", "train", 0, "worst_cell", 0.5),
        ("focal-1", "train", 0, "worst_cell", 0.4),
    )
    write_manifest("selection", select_settings(rows, RECIPES), tmp_path / "selection.parquet")
    chosen = read_manifest("selection", tmp_path / "selection.parquet").set_index(["method", "criterion"])
    assert chosen.loc[("focal", "average"), "recipe"] == "focal-1"  # mean 0.75 against 0.7 over both seeds
    assert chosen.loc[("focal", "worst_cell"), "recipe"] == "focal-0.5"
    assert chosen.loc[("focal", "worst_cell"), "needs"] == "class and group"
    assert chosen.loc[("focal", "average"), ["candidates", "seeds"]].tolist() == [2, 2]
    assert chosen.loc[("real", "average"), "candidates"] == 1


def test_only_the_last_stage_of_a_recipe_is_a_candidate():
    rows = table(("synaug", "train", 0, "average", 0.9), ("synaug", "finetune", 0, "average", 0.8))
    assert select_settings(rows, RECIPES)["stage"].tolist() == ["finetune"]


def test_the_first_of_equal_recipes_is_chosen():
    rows = table(("focal-1", "train", 0, "average", 0.5), ("focal-0.5", "train", 0, "average", 0.5))
    assert select_settings(rows, RECIPES)["recipe"].tolist() == ["focal-0.5"]


@pytest.mark.parametrize("left_out", [["dfr"], ["dfr", "real"]])
def test_a_recipe_that_is_trained_on_the_validation_images_is_not_chosen_by_them(tmp_path, caplog, left_out):
    rows = [("test", "t", 0, 0), ("validation", "a", 0, 0), ("validation", "b", 1, 1)]
    columns = ["split", "image_id", "label", "predicted"]
    images = pd.DataFrame(rows, columns=columns).assign(label_name="x", probabilities=[[0.5, 0.5]] * 3)
    write_manifest("predictions", images, tmp_path / "predictions.parquet")
    real = images[["split", "image_id", "label", "label_name"]].assign(usable=True, sha256="0" * 64, path="x.png")
    write_manifest("real", real, tmp_path / "real.parquet")
    script.main(
        [str(tmp_path / "predictions.parquet")] * 2,
        [("train", "real", 0), ("finetune", "dfr", 0)],
        str(tmp_path / "real.parquet"),
        "validation",
        ["real", "dfr"],
        left_out,
        str(tmp_path / "selection.parquet"),
    )
    chosen = read_manifest("selection", tmp_path / "selection.parquet")
    assert set(chosen["recipe"]) == {"real", "dfr"} - set(left_out)
    assert "dfr is not among the settings" in caplog.text


def test_the_last_hyphen_separates_method_and_setting():
    assert [method_name(name) for name in ("focal-0.5", "ldam-drw-0.8", "real")] == ["focal", "ldam-drw", "real"]


def test_the_hyphen_of_an_exponent_is_part_of_the_setting():
    names = ("mixup-0.2x3.12e-05", "mixup-1e-4x0.5", "cross-entropy-1e-3", "take-2")
    assert [method_name(name) for name in names] == ["mixup", "mixup", "cross-entropy", "take"]


def test_a_setting_that_was_dropped_after_a_lucky_seed_is_not_chosen():
    rows = pd.DataFrame(
        [("focal-0.5", "train", 0, "average", 0.9)] + [("focal-1", "train", seed, "average", 0.8) for seed in (0, 1)],
        columns=["recipe", "stage", "seed", "criterion", "value"],
    )
    table = select_settings(rows, RECIPES)
    assert table[["recipe", "candidates", "seeds"]].to_numpy().tolist() == [["focal-1", 2, 2]]
