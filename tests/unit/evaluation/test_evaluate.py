"""The script evaluate: from files of predictions to manifests; resamples against repeated images; config baselines."""

import numpy as np
import pandas as pd
import pytest

from evaluation import evaluate
from synaug.config import Imbalance, load_config
from synaug.evaluation.bootstrap import DRAWS, Resamples, resample
from synaug.evaluation.classification import score
from synaug.imbalance import measure_imbalance
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError

SHOTS = {0: "many", 1: "few", 2: "few"}
CORRECT = [True, True, True, True, False, True, True, False, False, True]


def predictions(correct) -> pd.DataFrame:
    """Three classes, ten images; a wrong prediction is the next class."""
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    predicted = np.where(correct, labels, (labels + 1) % 3)
    top = np.random.default_rng(0).uniform(0.4, 1, 10)[:, None]
    probabilities = np.where(np.eye(3)[predicted] == 1, top, (1 - top) / 2)
    return pd.DataFrame(
        {
            "image_id": list("0123456789"),
            "split": "test",
            "label": labels,
            "label_name": [["bag", "a/b", "coat"][label] for label in labels],
            "predicted": predicted,
            "probabilities": list(probabilities.astype(np.float32)),
        }
    )


@pytest.fixture
def files(tmp_path) -> dict:
    """Arguments of evaluate.main for seed 0 of the recipes real (7 of 10 correct) and synaug (all correct)."""
    paths = [str(tmp_path / f"{recipe}_predictions.parquet") for recipe in ("real", "synaug")]
    for path, correct in zip(paths, (CORRECT, [True] * 10), strict=True):
        write_manifest("predictions", predictions(correct), path)
    cells = pd.DataFrame({"kind": "cell", "label": list(SHOTS), "shot": list(SHOTS.values())})
    write_manifest("imbalance", cells.assign(count=1, share=0.1, deficit=0), tmp_path / "imbalance.parquet")
    out = {name: str(tmp_path / f"{name}.parquet") for name in ("imbalance", "metrics", "differences")}
    return {
        "predictions": paths,
        "networks": [("train", "real", 0), ("train", "synaug", 0)],
        "baselines": ["real"],
        "probes": [],
        "real": "",
        "group_columns": [],
        "test_split": "test",
        "stage1": {"real": "real", "synaug": "synaug"},
        **out,
    }


def test_metrics_and_differences_are_written(files):
    evaluate.main(**files)
    metrics = read_manifest("metrics", files["metrics"]).set_index(["recipe", "metric", "subset"])
    assert metrics.loc[("real", "accuracy", "all"), "value"] == pytest.approx(0.7)
    assert metrics.loc[("real", "accuracy", "all"), "weighting"] == "images"
    row = read_manifest("differences", files["differences"]).set_index(["metric", "subset"]).loc[("accuracy", "all")]
    assert (row["recipe"], row["baseline_recipe"], row["seeds"]) == ("synaug", "real", 1)
    assert row["mean"] == pytest.approx(0.3)
    assert row["low_images"] < 0.3 < row["high_images"]
    assert pd.isna(row["low"])  # no interval over seeds, since there is one


def test_a_single_network_has_no_differences(files):
    evaluate.main(**files | {name: files[name][:1] for name in ("predictions", "networks")})
    assert read_manifest("differences", files["differences"]).empty


def test_predictions_for_other_test_images_are_refused(files):
    write_manifest("predictions", predictions(CORRECT).head(9), files["predictions"][1])
    with pytest.raises(
        UserError,
        match=r"synaug_predictions\.parquet: its test images differ from those of .*real_predictions\.parquet",
    ):
        evaluate.main(**files)


def test_the_score_of_a_resample_equals_the_score_of_its_repeated_images():
    rows = predictions(CORRECT)
    resamples = resample(rows["label"].to_numpy())
    scores = score(rows, SHOTS, resamples)
    for draw in (1, 500, DRAWS):
        # Classes of 5, 3 and 2 images have the factors 5/4, 3/2 and 2.
        drawn = rows.loc[rows.index.repeat((4 * resamples.factors * resamples.within[draw]).astype(int))]
        counts, factors = np.ones((1, len(drawn)), np.uint8), np.ones(len(drawn))
        expected = score(drawn, SHOTS, Resamples(counts, factors, counts, factors))[0]
        assert scores[draw].to_dict() == pytest.approx(expected.to_dict())


def test_the_baseline_is_a_recipe():
    config = {
        "experiment": "x",
        "dataset": {"source": "table", "path": "x", "image_size": 32},
        "generation": {"model": "x"},
        "recipes": {"real": {"data": "real"}, "mine": {"data": "balanced"}},
    }
    assert load_config({**config, "evaluation": {"baseline": "mine"}}).evaluation.baseline == "mine"
    assert load_config({**config, "evaluation": {"baseline": ["mine", "real"]}}).evaluation.baselines == [
        "mine",
        "real",
    ]
    with pytest.raises(
        UserError, match=r"evaluation: baseline: synaug: no such recipe; give null, or some of real, mine$"
    ):
        load_config({**config, "evaluation": {"baseline": "synaug"}})


def test_groups_are_scored_per_column_and_crossed(files, tmp_path):
    ids = list("0123456789")
    genders, places = ["f", "m"] * 5, ["x"] * 4 + ["y"] * 6
    real = pd.DataFrame({"image_id": ids, "label": [0] * 5 + [1] * 3 + [2] * 2, "split": "test", "usable": True})
    real["label_name"] = [["bag", "a/b", "coat"][label] for label in real["label"]]
    real["group"] = [f"{a}, {b}" for a, b in zip(genders, places, strict=True)]
    real["attributes"] = [[a, b] for a, b in zip(genders, places, strict=True)]
    write_manifest("real", real.assign(sha256=""), tmp_path / "real.parquet")
    train = real.assign(split="train")
    write_manifest("imbalance", measure_imbalance(train, "train", Imbalance()), files["imbalance"])
    evaluate.main(**files | {"real": str(tmp_path / "real.parquet"), "group_columns": ["gender", "place"]})
    metrics = read_manifest("metrics", files["metrics"]).set_index(["recipe", "metric", "subset", "weighting"])["value"]
    accuracy = metrics["real"]["accuracy"]
    correct = pd.Series(CORRECT, dtype=float)
    assert accuracy["group:f", "images"] == pytest.approx(correct[::2].mean())
    assert accuracy["group:y", "images"] == pytest.approx(correct[4:].mean())
    assert accuracy["group:f, x", "images"] == pytest.approx(correct[[0, 2]].mean())
    assert accuracy["cell:bag|f, x", "images"] == 1 and accuracy["worst_cell", "cells"] == 0
    gaps = metrics["real"]["demographic_parity_difference"]
    assert set(gaps.index.get_level_values("subset")) == {"groups:gender", "groups:place", "groups:gender x place"}
    # Every cell has as many training as test images, so the mean weighted by training images is the mean over images.
    assert accuracy["all", "training"] == pytest.approx(accuracy["all", "images"]) == 0.7
    assert metrics.index.is_unique


def test_groups_of_two_columns_with_the_same_values_are_not_mixed(files, tmp_path):
    ids, glasses, hats = list("0123456789"), ["yes", "no"] * 5, ["yes"] * 4 + ["no"] * 6
    real = pd.DataFrame({"image_id": ids, "label": [0] * 5 + [1] * 3 + [2] * 2, "split": "test", "usable": True})
    real["label_name"] = [["bag", "a/b", "coat"][label] for label in real["label"]]
    real["group"] = [f"{a}, {b}" for a, b in zip(glasses, hats, strict=True)]
    real["attributes"] = [[a, b] for a, b in zip(glasses, hats, strict=True)]
    write_manifest("real", real.assign(sha256=""), tmp_path / "real.parquet")
    write_manifest("imbalance", measure_imbalance(real.assign(split="train"), "train", Imbalance()), files["imbalance"])
    evaluate.main(**files | {"real": str(tmp_path / "real.parquet"), "group_columns": ["glasses", "hat"]})
    metrics = read_manifest("metrics", files["metrics"]).set_index(["recipe", "metric", "subset", "weighting"])["value"]
    assert metrics.index.is_unique
    accuracy, correct = metrics["real"]["accuracy"], pd.Series(CORRECT, dtype=float)
    assert accuracy["group:glasses=yes", "images"] == pytest.approx(correct[::2].mean())
    assert accuracy["group:hat=yes", "images"] == pytest.approx(correct[:4].mean())
