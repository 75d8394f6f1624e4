"""Paired differences: what one way to train adds to another, seed by seed and on the same test images."""

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import percentile_interval
from synaug.evaluation.intervals import mean_interval

Networks = dict[tuple[str, str], dict[int, pd.DataFrame]]  # (recipe, stage) -> seed -> what `score` returns


def compare(networks: Networks, baselines: list[str], stage1: dict[str, str]) -> pd.DataFrame:
    """Rows of the manifest `differences`: every (recipe, stage) minus the last stage of each recipe in `baselines`.

    Besides, every fine-tuned recipe minus its stage 1. networks: all scored on the same resamples. stage1: recipe ->
    the one whose stage-1 networks it takes.
    """
    lasts = [(name, "finetune" if (name, "finetune") in networks else "train") for name in baselines]
    pairs = [(one, last) for last in lasts for one in networks if one != last]
    before = [((recipe, stage), (stage1[recipe], "train")) for recipe, stage in networks if stage == "finetune"]
    # What the fine-tune adds is said once, and not the other way round as well.
    pairs = [pair for pair in pairs if pair[::-1] not in before]
    pairs += [pair for pair in before if pair not in pairs]
    names = ["recipe", "stage", "baseline_recipe", "baseline_stage"]
    tables = [
        difference(networks[one], networks[other]).assign(**dict(zip(names, [*one, *other], strict=True)))
        for one, other in pairs
    ]
    # A single recipe without stage 2 is compared with nothing.
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def difference(one: dict[int, pd.DataFrame], other: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Rows (metric, subset, weighting, mean, low, high, low_images, high_images, seeds) of `one` minus `other`.

    one, other: seed -> what `score` returns. low, high: Student t over the differences of equal seeds; low_images,
    high_images: bootstrap over test images of their mean, the networks as they are.
    """
    seeds = sorted(one.keys() & other.keys())
    index = one[seeds[0]].index
    deltas = np.stack([one[seed].to_numpy() - other[seed].to_numpy() for seed in seeds])  # seeds x figures x resamples
    over_seeds = [mean_interval(values) for values in deltas[:, :, 0].T]
    table = pd.DataFrame(over_seeds, index=index, columns=["mean", "low", "high"]).astype(
        {"low": "Float64", "high": "Float64"}
    )
    table["low_images"], table["high_images"] = percentile_interval(deltas.mean(0)[:, 1:])
    return table.assign(seeds=len(seeds)).reset_index()
