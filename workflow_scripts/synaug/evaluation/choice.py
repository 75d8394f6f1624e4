"""Choice of the recipe that is used in the end, by the validation images.

The candidates with synthetic images have to earn their place: the best candidate without synthetic images stays unless
the best one with them is better by more than the noise of the validation images. `halving` says which candidates are
trained with all seeds.
"""

import logging
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd

from synaug.evaluation.bootstrap import Resamples, group_sums, resample
from synaug.manifests import class_names, read_manifest, with_group

log = logging.getLogger(__name__)

LEAST_IMAGES_OF_WORST = 5  # validation images of a class or cell that can be the worst one


class Candidate(NamedTuple):
    """A recipe after one of its stages. correct: share of its seeds that predict an image correctly, float, N."""

    recipe: str
    stage: str
    synthetic: bool
    correct: np.ndarray
    seeds: int


class ValidationImages(NamedTuple):
    """Class of each image, and its class in a group, int, N."""

    labels: np.ndarray
    cells: np.ndarray


def read_candidates(
    predictions: list[str], networks: list[tuple[str, str, int]], real: str, split: str, with_synthetic: list[str]
) -> tuple[list[Candidate], ValidationImages]:
    """The candidates, in the order in which `networks` names them, and the validation images that compare them.

    predictions, real: manifests of these names. networks: stage, recipe and seed of each of `predictions`. split: name
    of the validation split. with_synthetic: recipes that train on synthetic images. Classes without a validation image
    do not count in any comparison; the log says so.
    """
    correct: dict[tuple[str, str], list] = {}
    for path, (stage, recipe, _) in zip(predictions, networks, strict=True):
        rows = read_manifest("predictions", path, ["image_id", "split", "label", "predicted"])
        rows = rows[rows["split"] == split].set_index("image_id")
        correct.setdefault((recipe, stage), []).append((rows["label"] == rows["predicted"]).astype(float))
    columns = ["image_id", "label", "label_name", "group", "usable"]
    images = with_group(read_manifest("real", real, columns))
    classes = class_names(images)
    images = images.set_index("image_id").loc[rows.index]
    if left_out := sorted(set(classes) - set(images["label_name"])):
        number, *verbs = (f"{len(left_out)} classes", "have", "do") if left_out[1:] else ("1 class", "has", "does")
        log.warning(
            "%s, such as %r, %s no validation image and %s not count in the choice", number, left_out[0], *verbs
        )
    cells, _ = pd.factorize(images["label_name"].astype(str) + ", " + images["group"].astype(str))
    candidates = [
        Candidate(
            recipe,
            stage,
            recipe in with_synthetic,
            pd.concat(seeds, axis=1).loc[rows.index].mean(axis=1).to_numpy(),
            len(seeds),
        )
        for (recipe, stage), seeds in correct.items()
    ]
    return candidates, ValidationImages(rows["label"].to_numpy(), cells)


@lru_cache
def chosen_candidate(chosen: str, changed_ns: int) -> tuple[str, str]:
    """(recipe, stage) that is chosen by the manifest `chosen`, a path.

    changed_ns: its modification time, for the cache.
    """
    [row] = read_manifest("chosen", chosen).query("chosen").itertuples()
    return row.recipe, row.stage


def required_gain(challengers: int) -> float:
    """The gain, in standard errors, that the best of so many candidates with synthetic images must have.

    For one candidate it is 1: a candidate that is not better has such a gain by chance with probability 0.16. The best
    of several has it by chance more often. Their limit is the one that each exceeds with probability 0.16 / challengers
    (Bonferroni). Candidates that halving dropped count too: the best one was found among all that were trained, and the
    seeds by which the others were dropped are part of its mean. Without them, the limit would be too low.
    """
    normal = NormalDist()
    return -normal.inv_cdf(normal.cdf(-1) / max(1, challengers))


def choose(candidates: list[Candidate], labels: np.ndarray, cells: np.ndarray, metric: str) -> pd.DataFrame:
    """Rows of the manifest `chosen`, the best first; one has chosen = True.

    Only the finalists, the candidates with all seeds, are compared. The others, which halving dropped, come last.
    candidates: in the order of the config; of equal ones the first is better. labels, cells: class of each validation
    image and its class in a group, int, N. metric: `evaluation.choose_by`.
    A standard error is the standard deviation over resamples of the validation images, within cells; all candidates
    are compared on the same resamples.
    """
    if metric.startswith("worst"):
        _warn_of_small_units(_units(labels, cells, metric)[1], metric)
    resamples = resample(cells)
    values = [resampled_metric(candidate.correct, labels, cells, metric, resamples) for candidate in candidates]
    seeds = max(candidate.seeds for candidate in candidates)
    finalists = [(i, candidate) for i, candidate in enumerate(candidates) if candidate.seeds == seeds]
    best = {
        synthetic: max(
            (i for i, candidate in finalists if candidate.synthetic == synthetic),
            key=lambda i: values[i][0],
            default=None,
        )
        for synthetic in (False, True)
    }
    reference = best[False] if best[False] is not None else best[True]
    rows = []
    for candidate, value in zip(candidates, values, strict=True):
        gain = value - values[reference]
        rows.append(
            {
                "recipe": candidate.recipe,
                "stage": candidate.stage,
                "synthetic": candidate.synthetic,
                "metric": metric,
                "validation": value[0],
                "standard_error": value[1:].std(),
                "gain": gain[0],
                "gain_standard_error": gain[1:].std(),
                "images": len(labels),
                "seeds": candidate.seeds,
            }
        )
    table = pd.DataFrame(rows)
    chosen, challenger = reference, best[True]
    margin = required_gain(sum(candidate.synthetic for candidate in candidates))
    if challenger is not None and table["gain"][challenger] > margin * table["gain_standard_error"][challenger]:
        chosen = challenger
    table["chosen"] = np.arange(len(table)) == chosen
    table["reason"] = _reason(table, chosen, challenger, reference, margin)
    return table.sort_values(["seeds", "validation"], ascending=False, kind="stable", ignore_index=True)


def _warn_of_small_units(sizes: np.ndarray, metric: str) -> None:
    """Say how many classes or cells do not count, or are too small, as the worst one."""
    small, kind = int((sizes < LEAST_IMAGES_OF_WORST).sum()), {"worst_class": "classes", "worst_cell": "cells"}[metric]
    if small:
        does_not_count = f"do{'es' * (small == 1)} not count in {metric}"
        log.warning(
            "%d of %d %s %s fewer than %d validation images%s",
            *(small, len(sizes), kind, "has" if small == 1 else "have", LEAST_IMAGES_OF_WORST),
            f" and {does_not_count}" if small < len(sizes) else f", so that {metric} depends on chance",
        )


def _reason(table: pd.DataFrame, chosen: int, challenger: int | None, reference: int, margin: float) -> str:
    """Why this recipe was chosen, in one sentence for the report."""
    # As the report names them.
    names = table["recipe"] + table["stage"].map({"train": "", "finetune": " + fine-tune"})
    if challenger is None or reference == challenger:
        return f"{names[chosen]} has the best {table['metric'][chosen]} accuracy on the validation images."
    gain, error = 100 * table["gain"][challenger], 100 * table["gain_standard_error"][challenger]
    best, other = names[challenger], names[reference]
    subject = f"The best recipe with synthetic images, {best}, is"
    if gain < 0:
        return f"{subject} {-gain:.1f} points worse than the best one without, {other}, on the validation images."
    verdict = "more" if chosen == challenger else "not more"
    return (
        f"{subject} {gain:.1f} points better than the best one without, {other}, on the validation images: {verdict} "
        f"than {margin:.1f} standard errors ({margin * error:.1f})."
    )


def resampled_metric(
    correct: np.ndarray, labels: np.ndarray, cells: np.ndarray, metric: str, resamples: Resamples
) -> np.ndarray:
    """The metric on all images, and on each resample of them: float, 1 + draws.

    correct, labels, cells, metric: as of `choose`. resamples: within the cells, or the classes if there are no groups.
    """
    units, sizes = _units(labels, cells, metric)
    for_means = not metric.startswith("worst")
    return _over_units(group_sums(resamples, units, correct, len(sizes), for_means), sizes, metric)


def metric_value(correct: np.ndarray, labels: np.ndarray, cells: np.ndarray, metric: str) -> float:
    """The metric on all images. Arguments as of `choose`."""
    units, sizes = _units(labels, cells, metric)
    return float(_over_units(np.bincount(units, correct)[None], sizes, metric)[0])


def _units(labels: np.ndarray, cells: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """What `metric` compares or averages: the unit of each image, int, N, and the images of each unit."""
    of_metric = {"balanced": labels, "worst_class": labels, "worst_cell": cells}.get(metric, np.zeros_like(labels))
    _, units, sizes = np.unique(of_metric, return_inverse=True, return_counts=True)
    return units, sizes


def _over_units(sums: np.ndarray, sizes: np.ndarray, metric: str) -> np.ndarray:
    """The mean of the accuracies of the units, or the lowest: rows. sums: correct images, rows x units."""
    accuracies = sums / sizes
    return accuracies[:, counts_as_worst(sizes)].min(1) if metric.startswith("worst") else accuracies.mean(1)


def counts_as_worst(sizes: np.ndarray) -> np.ndarray:
    """Whether each class or cell has enough images to be the worst one; if none has, all count.

    The accuracy of a class of one image is 0 or 1, and no resample shows that this is chance.
    """
    enough = sizes >= LEAST_IMAGES_OF_WORST
    return enough if enough.any() else ~enough
