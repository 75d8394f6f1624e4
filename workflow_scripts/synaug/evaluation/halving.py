"""Successive halving of candidates (Jamieson and Talwalkar 2016, arXiv 1502.07943), over seeds.

After each seed but the last, the better half of the candidates is trained with the next seed. A dropped candidate has
fewer networks, each with all its steps, and no network is trained twice.
"""

from functools import lru_cache

import pandas as pd

from synaug.evaluation.choice import Candidate, ValidationImages, metric_value
from synaug.manifests import read_manifest


def halve(
    candidates: list[Candidate], images: ValidationImages, metric: str, always: list[str], stage1: dict[str, str]
) -> pd.DataFrame:
    """Rows of the manifest `candidates`. metric: `evaluation.choose_by`. candidates, always, stage1: see `kept`."""
    table = pd.DataFrame(
        [
            (
                candidate.recipe,
                candidate.stage,
                candidate.synthetic,
                metric_value(candidate.correct, images.labels, images.cells, metric),
                candidate.seeds,
            )
            for candidate in candidates
        ],
        columns=["recipe", "stage", "synthetic", "value", "seeds"],
    )
    return table.assign(kept=kept(table, always, stage1)).drop(columns="synthetic")


def kept(table: pd.DataFrame, always: list[str], stage1: dict[str, str]) -> pd.Series:
    """Whether each candidate is trained with the next seed: the better half of those with all seeds so far, rounded up.

    Candidates with the same stage-1 networks stay or go together, by the value of the best of them: a fine-tune needs
    its stage 1, which takes most of the time. The best candidate without synthetic images stays, because the choice
    compares with it; so does the best one with them. table: columns recipe, synthetic, value and seeds, in the order of
    the config; of equal candidates the first is better. always: recipes that stay. stage1: recipe -> the recipe whose
    stage-1 networks it uses.
    """
    table = table.assign(stage1=table["recipe"].map(stage1))
    compared = table["seeds"] == table["seeds"].max()
    ranked = table[compared].sort_values("value", ascending=False, kind="stable")
    names = ranked["stage1"].drop_duplicates()
    best = ranked.drop_duplicates("synthetic")["stage1"]
    stay = {*names.head((len(names) + 1) // 2), *best, *(stage1[recipe] for recipe in always)}
    return compared & table["stage1"].isin(stay)


@lru_cache
def kept_candidates(candidates: str, changed_ns: int) -> set[tuple[str, str]]:
    """(recipe, stage) of those that stay by the manifest `candidates`, a path.

    changed_ns: its modification time, for the cache.
    """
    table = read_manifest("candidates", candidates)
    table = table[table["kept"]]
    return set(zip(table["recipe"], table["stage"], strict=True))
