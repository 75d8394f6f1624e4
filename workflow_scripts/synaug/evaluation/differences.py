"""Differences between ways to train, paired by seed and measured on the same test images."""

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import percentile_interval
from synaug.evaluation.intervals import mean_interval

Networks = dict[tuple[str, str], dict[int, pd.DataFrame]]  # (recipe, stage) -> seed -> result of `score`


def compare(networks: Networks, baselines: list[str], stage1: dict[str, str]) -> pd.DataFrame:
    """Rows of the manifest `differences`: every (recipe, stage) minus the last stage of each recipe in `baselines`.

    In addition, every fine-tuned recipe minus its stage 1. networks: all scored on the same resamples. stage1: recipe
    -> the recipe whose stage-1 networks it uses.
    """
    last_stages = [(name, "finetune" if (name, "finetune") in networks else "train") for name in baselines]
    pairs = [(network, baseline) for baseline in last_stages for network in networks if network != baseline]
    fine_tunes = [((recipe, stage), (stage1[recipe], "train")) for recipe, stage in networks if stage == "finetune"]
    # A fine-tuned network minus its stage 1 is listed once, not also as stage 1 minus the fine-tuned network.
    pairs = [(network, baseline) for network, baseline in pairs if (baseline, network) not in fine_tunes]
    pairs += [pair for pair in fine_tunes if pair not in pairs]
    names = ["recipe", "stage", "baseline_recipe", "baseline_stage"]
    tables = [
        paired_difference(networks[network], networks[baseline]).assign(
            **dict(zip(names, [*network, *baseline], strict=True))
        )
        for network, baseline in pairs
    ]
    # A single recipe without stage 2 has no comparison.
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def paired_difference(network: dict[int, pd.DataFrame], baseline: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Rows (metric, subset, weighting, mean, low, high, low_images, high_images, seeds): `network` minus `baseline`.

    network, baseline: seed -> result of `score`. low, high: Student t interval over the differences at equal seeds.
    low_images, high_images: bootstrap interval over test images of the mean difference of these networks.
    """
    seeds = sorted(network.keys() & baseline.keys())
    index = network[seeds[0]].index
    deltas = np.stack([network[seed].to_numpy() - baseline[seed].to_numpy() for seed in seeds])
    # deltas: seeds x metrics x resamples
    over_seeds = [mean_interval(values, least=-1, most=1) for values in deltas[:, :, 0].T]
    table = pd.DataFrame(over_seeds, index=index, columns=["mean", "low", "high"]).astype(
        {"low": "Float64", "high": "Float64"}
    )
    table["low_images"], table["high_images"] = percentile_interval(deltas.mean(0)[:, 1:])
    return table.assign(seeds=len(seeds)).reset_index()
