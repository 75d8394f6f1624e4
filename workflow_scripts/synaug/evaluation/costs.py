"""What the networks of a recipe cost: training images, and seconds of the devices for training and for sampling."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from synaug.balance import rows_of_recipe
from synaug.config import Recipe


def add_costs(
    summary: pd.DataFrame,
    seeds: dict[tuple[str, str], list[int]],
    recipes: dict[str, Recipe],
    stage1: dict[str, str],
    balanced: pd.DataFrame,
    shards: dict[str, list[str]],
    results: Path,
) -> pd.DataFrame:
    """The manifest `summary` with its cost columns.

    seeds: (recipe, stage) -> the seeds of its networks. recipes: name -> recipe. stage1: recipe -> the recipe whose
    stage-1 networks it uses. balanced: the manifest of this name. shards: fill -> names of its planned shards. results:
    folder of the experiment, with benchmarks/ and costs/.
    """
    networks = summary[["recipe", "stage"]].drop_duplicates()
    seconds_of_fill = {fill: generation_seconds(results, names) for fill, names in shards.items()}
    rows = []
    for recipe, stage in networks.itertuples(index=False):
        fill = recipes[recipe].fill
        images = rows_of_recipe(balanced, recipes[recipe].data, fill).groupby("source")["image_id"].nunique()
        # A recipe that names no fill has the only one.
        sampling = seconds_of_fill.get(fill.name, 0.0) if fill and fill.name else sum(seconds_of_fill.values())
        synthetic = int(images.get("synthetic", 0))
        seconds = training_seconds(results / "benchmarks", recipe, stage, stage1[recipe], seeds[recipe, stage])
        rows.append((recipe, stage, int(images.get("real", 0)), synthetic, seconds, sampling if synthetic else 0.0))
    names = ["recipe", "stage", "real_images", "synthetic_images", "train_seconds", "generation_seconds"]
    costs = pd.DataFrame(rows, columns=names).astype({"train_seconds": "Float64", "generation_seconds": "Float64"})
    return summary.merge(costs, on=["recipe", "stage"], how="left")


def training_seconds(benchmarks: Path, recipe: str, stage: str, stage1: str, seeds: list[int]) -> float:
    """Mean over `seeds` of the seconds that trained a network, stage 1 included; NaN if a job has no record.

    stage1: the recipe whose stage-1 networks `recipe` uses. Seconds are those that Snakemake measured, key `s` of
    benchmarks/<stage>/<recipe>-<seed>.jsonl.
    """
    jobs = [("train", stage1)] if stage == "train" else [("train", stage1), ("finetune", recipe)]
    seconds = [
        [_last_value(benchmarks / job_stage / f"{job_recipe}-{seed}.jsonl", "s") for job_stage, job_recipe in jobs]
        for seed in seeds
    ]
    return float(np.sum(seconds, axis=1).mean())


def generation_seconds(results: Path, shards: list[str]) -> float:
    """Seconds for all `shards` together; NaN if a shard has no record.

    From costs/<shard>.json. A shard with only copied images has no such file; the seconds of its job count instead.
    """
    total = 0.0
    for shard in shards:
        sampling = _last_value(results / "costs" / f"{shard}.json", "seconds")
        job = _last_value(results / "benchmarks" / "generate_shard" / f"{shard}.jsonl", "s")
        total += job if np.isnan(sampling) else sampling
    return total


def _last_value(file: Path, key: str) -> float:
    """The number at `key` in the last line of `file`. NaN if it cannot be read, since costs are only informative."""
    try:
        return float(json.loads(file.read_text().splitlines()[-1])[key])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return float("nan")
