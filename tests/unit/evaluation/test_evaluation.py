"""Scores and intervals against numbers computed by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from torchmetrics.functional.classification import multiclass_calibration_error

from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import score, with_intervals
from synaug.evaluation.costs import add_costs, generation_seconds
from synaug.evaluation.differences import compare
from synaug.evaluation.intervals import mean_interval, summarise
from synaug.manifests import read_manifest, write_manifest

PREDICTIONS = pd.DataFrame(
    {
        "image_id": list("0123456789"),
        "label": [0, 0, 0, 0, 0, 1, 1, 1, 2, 2],
        "label_name": ["bag"] * 5 + ["a/b"] * 3 + ["coat"] * 2,
        "predicted": [0, 0, 0, 0, 1, 1, 1, 0, 0, 2],
        "probabilities": [[0.9, 0.1, 0.0]] * 4 + [[0.2, 0.8, 0.0]] + [[0.3, 0.7, 0.0]] * 2
        + [[0.6, 0.4, 0.0], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]],
    }
)  # fmt: skip
SHOTS = {0: "many", 1: "few", 2: "few"}


def figures(predictions: pd.DataFrame, shots=SHOTS) -> pd.DataFrame:
    """metric, subset -> value, low, high."""
    rows = with_intervals(score(predictions, shots, resample(predictions["label"].to_numpy())))
    return rows.set_index(["metric", "subset"])


def random_predictions(seed: int, images: int = 600, classes: int = 7, skill: float = 2.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = np.sort(np.random.default_rng(0).integers(classes, size=images))
    logits = rng.normal(size=(images, classes)) + skill * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return pd.DataFrame(
        {
            "image_id": [f"{i:04}" for i in range(images)],
            "label": labels,
            "label_name": [f"class {label}" for label in labels],
            "predicted": probabilities.argmax(1),
            "probabilities": list(probabilities),
        }
    )


def test_accuracy_by_hand():
    values = figures(PREDICTIONS).loc["accuracy", "value"]
    assert values.to_dict() == pytest.approx(
        {
            "all": 7 / 10,
            "balanced": (4 / 5 + 2 / 3 + 1 / 2) / 3,
            "harmonic_mean": 3 / (5 / 4 + 3 / 2 + 2),
            "geometric_mean": (4 / 5 * 2 / 3 * 1 / 2) ** (1 / 3),
            "worst_class": 1 / 2,
            "many": 4 / 5,
            "few": (2 / 3 + 1 / 2) / 2,
            "class:bag": 4 / 5,
            "class:a/b": 2 / 3,
            "class:coat": 1 / 2,
        }
    )


def test_a_class_that_is_never_right_makes_the_means_zero():
    values = figures(PREDICTIONS.assign(predicted=0)).loc["accuracy", "value"]
    assert values[["harmonic_mean", "geometric_mean", "worst_class"]].tolist() == [0, 0, 0]


def test_calibration_error_by_hand():
    # In bins of 1/15: 0.9 four times right: 0.4; 0.8 wrong; 0.7 right twice; 0.6 right, and wrong; 0.5 wrong.
    values = figures(PREDICTIONS).loc["ece", "value"]
    assert values["all"] == pytest.approx((0.4 + 0.8 + 0.6 + 0.2 + 0.5) / 10)
    assert values["many"] == pytest.approx((0.4 + 0.8) / 5)
    assert values["few"] == pytest.approx((0.6 + 0.2 + 0.5) / 5)


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_well_kept_libraries(seed):
    predictions = random_predictions(seed)
    values = figures(predictions, dict.fromkeys(range(7), "many"))["value"]
    labels, predicted = predictions["label"], predictions["predicted"]
    assert values["accuracy", "all"] == pytest.approx(accuracy_score(labels, predicted))
    assert values["accuracy", "balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    per_class = recall_score(labels, predicted, average=None)
    assert values["accuracy", "harmonic_mean"] == pytest.approx(stats.hmean(per_class))
    assert values["accuracy", "geometric_mean"] == pytest.approx(stats.gmean(per_class))
    probabilities = torch.from_numpy(np.stack(predictions["probabilities"]))
    oracle = multiclass_calibration_error(probabilities, torch.tensor(labels), 7, n_bins=15, norm="l1")
    assert values["ece", "all"] == pytest.approx(float(oracle), abs=1e-6)


def test_bootstrap_intervals_are_those_of_the_binomial():
    rows = figures(random_predictions(1), dict.fromkeys(range(7), "many")).loc["accuracy"]
    n = 600
    accuracy = rows.loc["all", "value"]
    spread = 1.96 * math.sqrt(accuracy * (1 - accuracy) / n)
    # Classes of a fixed size leave a little less to chance than the binomial of all images.
    assert rows.loc["all", "high"] - accuracy == pytest.approx(spread, rel=0.15)
    assert accuracy - rows.loc["all", "low"] == pytest.approx(spread, rel=0.15)


def test_resamples_keep_the_sizes_of_the_classes_and_repeat():
    labels = np.array([2, 0, 0, 2, 2, 5])
    counts = resample(labels)
    assert (counts[0] == 1).all()
    for label, size in ((0, 2), (2, 3), (5, 1)):
        assert (counts[:, labels == label].sum(1) == size).all()
    assert np.array_equal(counts, resample(labels))
    assert counts[1:, :5].std() > 0.5


def test_differences_are_paired_by_seed_and_by_image():
    base = random_predictions(1)
    counts = resample(base["label"].to_numpy())

    def network(seed: int, repaired: float) -> pd.DataFrame:
        """The base's mistakes, but for a share that is put right."""
        mended = np.random.default_rng(seed).random(len(base)) < repaired
        return score(
            base.assign(predicted=base["predicted"].where(~mended, base["label"])),
            dict.fromkeys(range(7), "many"),
            counts,
        )

    networks = {("real", "train"): {}, ("synaug", "train"): {}, ("synaug", "finetune"): {}}
    for seed in range(3):
        networks["real", "train"][seed] = network(seed, 0.0)
        networks["synaug", "train"][seed] = network(seed, 0.2)
        networks["synaug", "finetune"][seed] = network(seed + 10, 0.4)
    stage1 = {"real": "real", "synaug": "synaug"}
    keys = ["recipe", "stage", "baseline_recipe", "baseline_stage", "subset"]
    table = compare(networks, ["real"], stage1).set_index(keys)
    assert {key[:4] for key in table.index} == {
        ("synaug", "train", "real", "train"),
        ("synaug", "finetune", "real", "train"),
        ("synaug", "finetune", "synaug", "train"),
    }
    row = table.loc[("synaug", "train", "real", "train", "balanced")]
    gains = [
        networks["synaug", "train"][seed].loc[("accuracy", "balanced", "classes"), 0]
        - networks["real", "train"][seed].loc[("accuracy", "balanced", "classes"), 0]
        for seed in range(3)
    ]
    assert tuple(row[["mean", "low", "high"]]) == pytest.approx(mean_interval(np.array(gains)))
    assert row["seeds"] == 3
    # Most images are read alike by both: the interval of the difference is tighter than that of either network.
    alone = with_intervals(networks["synaug", "train"][0]).set_index("subset").loc["balanced"]
    assert row["high_images"] - row["low_images"] < 0.7 * (alone["high"] - alone["low"])
    assert row["low_images"] < row["mean"] < row["high_images"]


def test_several_baselines_and_a_shared_stage_1_are_compared_once_each():
    base = random_predictions(1)
    one = {0: score(base, dict.fromkeys(range(7), "many"), resample(base["label"].to_numpy()))}
    networks = dict.fromkeys([("real", "train"), ("lws", "finetune"), ("tau", "finetune")], one)
    table = compare(networks, ["real", "tau"], {"real": "real", "lws": "real", "tau": "real"})
    pairs = table[["recipe", "baseline_recipe", "baseline_stage"]].drop_duplicates().itertuples(index=False, name=None)
    assert set(pairs) == {
        ("lws", "real", "train"),
        ("tau", "real", "train"),
        ("lws", "tau", "finetune"),  # "real" minus "tau" would be "tau" minus its stage 1 again
    }
    assert not table.duplicated().any()
    networks = dict.fromkeys([("synaug", "train"), ("synaug", "finetune")], one)
    assert set(compare(networks, ["synaug"], {"synaug": "synaug"})["stage"]) == {"finetune"}  # and not its mirror image


def test_costs_are_images_and_recorded_seconds(tmp_path):
    for name, seconds in (("train/real-0", 10), ("train/real-1", 20), ("finetune/real-0", 1), ("finetune/real-1", 2)):
        file = tmp_path / "benchmarks" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"s": seconds}) + "\n")
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "abc.json").write_text(json.dumps({"seconds": 30.0}))
    balanced = pd.DataFrame({"image_id": list("abcd"), "source": ["real", "real", "synthetic", "synthetic"]})
    summary = pd.DataFrame({"recipe": ["real", "real", "filled"], "stage": ["train", "finetune", "train"]})
    data, stage1 = {"real": "real", "filled": "balanced"}, {"real": "real", "filled": "filled"}
    rows = add_costs(summary, [0, 1], data, stage1, balanced, ["abc"], tmp_path)
    assert rows["real_images"].tolist() == [2, 2, 2]
    assert rows["synthetic_images"].tolist() == [0, 0, 2]
    assert rows["train_seconds"].iloc[:2].tolist() == [15, 16.5]
    assert rows["generation_seconds"].tolist() == [0, 0, 30]
    assert pd.isna(rows["train_seconds"].iloc[2])  # nothing was recorded
    copied = tmp_path / "benchmarks" / "generate_shard" / "def.jsonl"
    copied.parent.mkdir()
    copied.write_text(json.dumps({"s": 4.0}) + "\n")
    assert generation_seconds(tmp_path, ["abc", "def"]) == 34  # the second one's images were taken over
    assert np.isnan(generation_seconds(tmp_path, ["abc", "none"]))


def test_interval_by_hand():
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.302653: 2 -+ 4.302653 / sqrt(3).
    assert mean_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_is_that_of_scipy(count):
    values = np.random.default_rng(count).random(count)
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))


def test_equal_values_have_an_interval_without_width():
    assert mean_interval(np.array([0.5, 0.5, 0.5])) == (0.5, 0.5, 0.5)


def test_one_value_has_no_interval():
    mean, low, high = mean_interval(np.array([0.25]))
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)


def metrics(seeds: list[int]) -> pd.DataFrame:
    rows = [
        {
            "recipe": recipe,
            "stage": "train",
            "seed": seed,
            "metric": "accuracy",
            "subset": subset,
            "weighting": "images",
            "value": value + seed,
        }
        for recipe, value in (("real", 0.1), ("synaug", 0.5))
        for subset in ("all", "few")
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def with_costs(rows: pd.DataFrame) -> pd.DataFrame:
    nothing = pd.array([None] * 4, "Float64")
    return summarise(rows).assign(real_images=3, synthetic_images=0, train_seconds=nothing, generation_seconds=nothing)


def test_summary_has_one_row_per_figure(tmp_path):
    write_manifest("summary", with_costs(metrics([0, 1, 2])), tmp_path / "summary.parquet")
    summary = read_manifest("summary", tmp_path / "summary.parquet").set_index(["recipe", "subset"])
    assert len(summary) == 4
    assert (summary["seeds"] == 3).all()
    assert summary.loc[("synaug", "few"), "mean"] == pytest.approx(1.5)
    assert summary.loc[("real", "all"), "low"] == pytest.approx(1.1 - 2.484138)


def test_summary_of_one_seed_has_empty_ends(tmp_path):
    write_manifest("summary", with_costs(metrics([4])), tmp_path / "summary.parquet")
    summary = read_manifest("summary", tmp_path / "summary.parquet")
    assert summary["mean"].tolist() == pytest.approx([4.1, 4.1, 4.5, 4.5])
    assert summary[["low", "high"]].isna().all(axis=None)
