"""What the networks of a recipe cost: training images, and seconds of the devices for training and for sampling."""

import json
from collections.abc import Sequence
from itertools import islice
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
    devices: dict[str, int],
    balanced: pd.DataFrame,
    planned: pd.DataFrame,
    results: Path,
) -> pd.DataFrame:
    """The manifest `summary` with its cost columns.

    seeds: (recipe, stage) -> the seeds of its networks. recipes: name -> recipe. stage1: recipe -> the recipe whose
    stage-1 networks it uses. devices: recipe -> on how many devices it trains stage 1. balanced: the manifest of this
    name. planned: image_id, shard and fill of all planned images; an image of the pilot may be in two shards. results:
    folder of the experiment, with benchmarks/ and costs/.
    """
    networks = summary[["recipe", "stage"]].drop_duplicates()
    seconds_of_fill = {
        fill: generation_seconds(results, images["shard"].unique(), images["image_id"].nunique())
        for fill, images in planned.groupby("fill")
    }
    rows = []
    for recipe, stage in networks.itertuples(index=False):
        fill = recipes[recipe].fill
        images = rows_of_recipe(balanced, recipes[recipe].data, fill).groupby("source")["image_id"].nunique()
        # A recipe that names no fill has the only one.
        sampling = seconds_of_fill.get(fill.name, 0.0) if fill and fill.name else sum(seconds_of_fill.values())
        synthetic = int(images.get("synthetic", 0))
        first = stage1[recipe]
        seconds = training_seconds(results / "benchmarks", recipe, stage, first, devices[first], seeds[recipe, stage])
        rows.append((recipe, stage, int(images.get("real", 0)), synthetic, seconds, sampling if synthetic else 0.0))
    names = ["recipe", "stage", "real_images", "synthetic_images", "train_seconds", "generation_seconds"]
    costs = pd.DataFrame(rows, columns=names).astype({"train_seconds": "Float64", "generation_seconds": "Float64"})
    return summary.merge(costs, on=["recipe", "stage"], how="left")


def training_seconds(
    benchmarks: Path, recipe: str, stage: str, stage1: str, devices: int, seeds: Sequence[int]
) -> float:
    """Mean over `seeds` of the device seconds that trained a network, stage 1 included; NaN if a job has no record.

    stage1: the recipe whose stage-1 networks `recipe` uses, trained on `devices` devices; stage 2 has one. Seconds are
    those that Snakemake measured, key `s` of benchmarks/<stage>/<recipe>-<seed>.jsonl: of an interrupted job, those of
    the last attempt.
    """
    jobs = [("train", stage1, devices)] if stage == "train" else [("train", stage1, devices), ("finetune", recipe, 1)]
    seconds = [
        [
            job_devices * _last_values(benchmarks / job_stage / f"{job_recipe}-{seed}.jsonl", ["s"])[0]
            for job_stage, job_recipe, job_devices in jobs
        ]
        for seed in seeds
    ]
    return float(np.sum(seconds, axis=1).mean())


def generation_seconds(results: Path, shards: Sequence[str], images: int) -> float:
    """Seconds in which one device makes the `images` different images of `shards`; NaN if no shard has a record.

    From costs/<shard>.json, in which a job records what it sampled itself. Images that it copied, or that were finished
    before an interruption, count as much as those, and so do the shards without a record. A shard that was copied from
    another experiment as a whole has its record there.
    """
    folders = [results / "costs", *sorted(results.parent.glob("*/costs"))]
    keys = ["images_sampled", "seconds_sampling", "seconds"]
    records = []
    for shard in shards:
        found = (_last_values(folder / f"{shard}.json", keys) for folder in folders)
        records += islice((record for record in found if record[0] > 0), 1)
    if not records:
        return float("nan")
    sampled, sampling, seconds = np.sum(records, axis=0)
    return float(images * sampling / sampled + len(shards) * (seconds - sampling) / len(records))


def _last_values(file: Path, keys: Sequence[str]) -> list[float]:
    """The numbers at `keys` in the last line of `file`. NaN if they cannot be read: costs are only informative."""
    try:
        record = json.loads(file.read_text().splitlines()[-1])
        return [float(record[key]) for key in keys]
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return [float("nan")] * len(keys)
