"""Costs of networks: numbers of images, and the seconds that jobs recorded."""

import json

import numpy as np
import pandas as pd
import pytest

from synaug.config import Recipe
from synaug.evaluation.costs import add_costs, generation_seconds


@pytest.fixture
def record(tmp_path):
    """A function: write what a job recorded below the results of an experiment."""

    def record(file: str, experiment: str = "e", **values: float) -> None:
        path = tmp_path / experiment / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values) + "\n")

    return record


def test_costs_are_images_and_recorded_seconds(record, tmp_path):
    for name, seconds in (("train/real-0", 10), ("train/real-1", 20), ("finetune/real-0", 1), ("finetune/real-1", 2)):
        record(f"benchmarks/{name}.jsonl", s=seconds)
    record("costs/abc.json", images_sampled=2, seconds_sampling=20.0, seconds=30.0)
    balanced = pd.DataFrame({"image_id": list("abcd"), "source": ["real", "real", "synthetic", "synthetic"]})
    planned = pd.DataFrame({"image_id": list("cd"), "shard": "abc", "fill": ""})
    summary = pd.DataFrame({"recipe": ["real", "real", "filled"], "stage": ["train", "finetune", "train"]})
    recipes = {"real": Recipe(data="real"), "filled": Recipe(data="balanced")}
    stage1, devices = {"real": "real", "filled": "filled"}, {"real": 1, "filled": 1}
    seeds = {("real", "train"): [0, 1], ("real", "finetune"): [0, 1], ("filled", "train"): [0]}
    rows = add_costs(summary, seeds, recipes, stage1, devices, balanced, planned, tmp_path / "e")
    assert rows["real_images"].tolist() == [2, 2, 2]
    assert rows["synthetic_images"].tolist() == [0, 0, 2]
    assert rows["train_seconds"].iloc[:2].tolist() == [15, 16.5]
    assert rows["generation_seconds"].tolist() == [0, 0, 30]
    assert pd.isna(rows["train_seconds"].iloc[2])  # no record


def test_an_image_of_the_pilot_that_the_plan_copies_is_generated_once(record, tmp_path):
    record("costs/pilot.json", images_sampled=2, seconds_sampling=20.0, seconds=20.0)
    record("costs/rest.json", images_sampled=1, seconds_sampling=10.0, seconds=10.0)
    planned = pd.DataFrame({"image_id": list("ababc"), "shard": ["pilot"] * 2 + ["rest"] * 3, "fill": ""})
    summary = pd.DataFrame({"recipe": ["filled"], "stage": ["train"]})
    balanced = pd.DataFrame({"image_id": list("abc"), "source": "synthetic"})
    networks = {("filled", "train"): [0]}, {"filled": Recipe(data="balanced")}, {"filled": "filled"}, {"filled": 1}
    rows = add_costs(summary, *networks, balanced, planned, tmp_path / "e")
    assert rows["generation_seconds"].tolist() == [30]


def test_training_on_several_devices_costs_the_time_of_all_of_them(record, tmp_path):
    record("benchmarks/train/base-0.jsonl", s=10)
    record("benchmarks/finetune/tuned-0.jsonl", s=1)
    summary = pd.DataFrame({"recipe": ["base", "tuned"], "stage": ["train", "finetune"]})
    seeds = {("base", "train"): [0], ("tuned", "finetune"): [0]}
    recipes = {name: Recipe(data="real") for name in ("base", "tuned")}
    stage1, devices = {"base": "base", "tuned": "base"}, {"base": 4, "tuned": 1}
    balanced = pd.DataFrame({"image_id": ["a"], "source": ["real"]})
    planned = pd.DataFrame(columns=["image_id", "shard", "fill"])
    rows = add_costs(summary, seeds, recipes, stage1, devices, balanced, planned, tmp_path / "e")
    assert rows["train_seconds"].tolist() == [40, 41]  # stage 2 always has one device


def test_copied_images_and_those_before_an_interruption_cost_as_much_as_the_sampled_ones(record, tmp_path):
    # 100 of the 2,000 images of the first shard were sampled by the job that ended it, and none of the second.
    record("costs/abc.json", images_sampled=100, seconds_sampling=50.0, seconds=60.0)
    assert generation_seconds(tmp_path / "e", ["abc"], 2000) == 2000 * 0.5 + 10
    record("benchmarks/generate_shard/def.jsonl", s=4.0)
    assert generation_seconds(tmp_path / "e", ["abc", "def"], 4000) == 4000 * 0.5 + 2 * 10


def test_a_shard_that_was_copied_from_another_experiment_costs_what_it_cost_there(record, tmp_path):
    record("costs/abc.json", "first", images_sampled=20, seconds_sampling=40.0, seconds=45.0)
    assert generation_seconds(tmp_path / "e", ["abc"], 20) == 45


def test_without_any_record_the_cost_of_generation_is_unknown(record, tmp_path):
    record("benchmarks/generate_shard/abc.jsonl", s=4.0)  # of copying
    (tmp_path / "e" / "costs").mkdir()
    (tmp_path / "e" / "costs" / "def.json").write_text('{"images_sampled": 20')
    assert np.isnan(generation_seconds(tmp_path / "e", ["abc", "def"], 40))
