"""What the networks of a recipe cost: training images, and seconds of the device that trained and sampled."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from synaug.balance import rows_of_recipe


def add_costs(
    summary: pd.DataFrame,
    seeds: list[int],
    data: dict[str, str],
    stage1: dict[str, str],
    balanced: pd.DataFrame,
    shards: list[str],
    results: Path,
) -> pd.DataFrame:
    """The manifest `summary` with its columns of costs.

    data: recipe -> what it trains on, real or balanced. stage1: recipe -> the one whose stage-1 networks it takes.
    balanced: the manifest of this name. shards: names of all that are planned. results: folder of the experiment, with
    benchmarks/ and costs/.
    """
    keys = summary[["recipe", "stage"]].drop_duplicates()
    sampling = generation_seconds(results, shards)
    rows = []
    for recipe, stage in keys.itertuples(index=False):
        images = rows_of_recipe(balanced, data[recipe]).groupby("source")["image_id"].nunique()
        synthetic = int(images.get("synthetic", 0))
        seconds = training_seconds(results / "benchmarks", recipe, stage, stage1[recipe], seeds)
        rows.append((recipe, stage, int(images.get("real", 0)), synthetic, seconds, sampling if synthetic else 0.0))
    names = ["recipe", "stage", "real_images", "synthetic_images", "train_seconds", "generation_seconds"]
    costs = pd.DataFrame(rows, columns=names).astype({"train_seconds": "Float64", "generation_seconds": "Float64"})
    return summary.merge(costs, on=["recipe", "stage"], how="left")


def training_seconds(benchmarks: Path, recipe: str, stage: str, stage1: str, seeds: list[int]) -> float:
    """Mean over `seeds` of the seconds of a network's jobs, with those of the stage before; NaN if one is not recorded.

    stage1: recipe of the stage before.
    Read from what Snakemake measured: benchmarks/<stage>/<recipe>-<seed>.jsonl, key s.
    """
    parts = [("train", stage1)] if stage == "train" else [("train", stage1), ("finetune", recipe)]
    jobs = [[_recorded(benchmarks / part / f"{name}-{seed}.jsonl", "s") for part, name in parts] for seed in seeds]
    return float(np.sum(jobs, axis=1).mean())


def generation_seconds(results: Path, shards: list[str]) -> float:
    """Seconds of all `shards` together; NaN if one is not recorded.

    From costs/<shard>.json; of a shard whose images were all taken over, those of its job.
    """
    total = 0.0
    for shard in shards:
        sampled = _recorded(results / "costs" / f"{shard}.json", "seconds")
        job = _recorded(results / "benchmarks" / "generate_shard" / f"{shard}.jsonl", "s")
        total += job if np.isnan(sampled) else sampled
    return total


def _recorded(file: Path, key: str) -> float:
    """The number at `key` of the last line of `file`; NaN without. Informative only, so a damaged file is no error."""
    try:
        return float(json.loads(file.read_text().splitlines()[-1])[key])
    except (OSError, ValueError, TypeError, KeyError, IndexError):
        return float("nan")
