"""Costs of networks: numbers of images, and the seconds that jobs recorded."""

import json

import numpy as np
import pandas as pd

from synaug.config import Recipe
from synaug.evaluation.costs import add_costs, generation_seconds


def test_costs_are_images_and_recorded_seconds(tmp_path):
    for name, seconds in (("train/real-0", 10), ("train/real-1", 20), ("finetune/real-0", 1), ("finetune/real-1", 2)):
        file = tmp_path / "benchmarks" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"s": seconds}) + "\n")
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "abc.json").write_text(json.dumps({"seconds": 30.0}))
    balanced = pd.DataFrame({"image_id": list("abcd"), "source": ["real", "real", "synthetic", "synthetic"]})
    summary = pd.DataFrame({"recipe": ["real", "real", "filled"], "stage": ["train", "finetune", "train"]})
    recipes = {"real": Recipe(data="real"), "filled": Recipe(data="balanced")}
    stage1 = {"real": "real", "filled": "filled"}
    seeds = {("real", "train"): [0, 1], ("real", "finetune"): [0, 1], ("filled", "train"): [0]}
    rows = add_costs(summary, seeds, recipes, stage1, balanced, {"": ["abc"]}, tmp_path)
    assert rows["real_images"].tolist() == [2, 2, 2]
    assert rows["synthetic_images"].tolist() == [0, 0, 2]
    assert rows["train_seconds"].iloc[:2].tolist() == [15, 16.5]
    assert rows["generation_seconds"].tolist() == [0, 0, 30]
    assert pd.isna(rows["train_seconds"].iloc[2])  # no record
    copied = tmp_path / "benchmarks" / "generate_shard" / "def.jsonl"
    copied.parent.mkdir()
    copied.write_text(json.dumps({"s": 4.0}) + "\n")
    assert generation_seconds(tmp_path, ["abc", "def"]) == 34  # the images of the second shard were copied
    assert np.isnan(generation_seconds(tmp_path, ["abc", "none"]))
