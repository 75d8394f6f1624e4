"""Differences are paired by seed and by image, and every pair of networks is compared once."""

import numpy as np
import pandas as pd
import pytest

from synaug.evaluation.bootstrap import resample
from synaug.evaluation.classification import score, with_intervals
from synaug.evaluation.differences import compare
from synaug.evaluation.intervals import mean_interval

SHOTS = dict.fromkeys(range(7), "many")


def test_differences_are_paired_by_seed_and_by_image(random_predictions):
    base = random_predictions(1)
    counts = resample(base["label"].to_numpy())

    def network(seed: int, repaired: float) -> pd.DataFrame:
        """The base with a random share of its errors corrected."""
        corrected = np.random.default_rng(seed).random(len(base)) < repaired
        return score(base.assign(predicted=base["predicted"].where(~corrected, base["label"])), SHOTS, counts)

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
    # The networks agree on most images, so the interval of the difference is narrower than that of either network.
    alone = with_intervals(networks["synaug", "train"][0]).set_index("subset").loc["balanced"]
    assert row["high_images"] - row["low_images"] < 0.7 * (alone["high"] - alone["low"])
    assert row["low_images"] < row["mean"] < row["high_images"]


def test_several_baselines_and_a_shared_stage_1_are_compared_once_each(random_predictions):
    base = random_predictions(1)
    scores = {0: score(base, SHOTS, resample(base["label"].to_numpy()))}
    networks = dict.fromkeys([("real", "train"), ("lws", "finetune"), ("tau", "finetune")], scores)
    table = compare(networks, ["real", "tau"], {"real": "real", "lws": "real", "tau": "real"})
    pairs = table[["recipe", "baseline_recipe", "baseline_stage"]].drop_duplicates().itertuples(index=False, name=None)
    assert set(pairs) == {
        ("lws", "real", "train"),
        ("tau", "real", "train"),
        ("lws", "tau", "finetune"),  # "real" minus "tau" would repeat "tau" minus its stage 1
    }
    assert not table.duplicated().any()
    networks = dict.fromkeys([("synaug", "train"), ("synaug", "finetune")], scores)
    # Stage 1 minus the fine-tuned network would repeat the fine-tuned network minus stage 1.
    assert set(compare(networks, ["synaug"], {"synaug": "synaug"})["stage"]) == {"finetune"}


def test_a_network_with_fewer_seeds_is_compared_at_its_own_seeds(random_predictions):
    counts = resample(random_predictions(1)["label"].to_numpy())
    scores = {seed: score(random_predictions(seed), SHOTS, counts) for seed in range(4)}
    networks = {("real", "train"): {0: scores[0], 1: scores[1]}, ("dropped", "train"): {0: scores[2]}}
    table = compare(networks, ["real"], {"real": "real", "dropped": "dropped"}).set_index("subset")
    row = table.loc["balanced"]
    key = ("accuracy", "balanced", "classes")
    assert row["mean"] == pytest.approx(scores[2].loc[key, 0] - scores[0].loc[key, 0])
    assert row["seeds"] == 1 and pd.isna(row["low"]) and pd.isna(row["high"])
    assert row["low_images"] < row["mean"] < row["high_images"]
