"""Score the predictions of every network, and compute differences to the baselines."""

import pandas as pd

from synaug.evaluation.classification import with_intervals
from synaug.evaluation.differences import compare
from synaug.evaluation.scorer import read_scorer, read_test
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.errors import UserError
from synaug.runtime.logs import job_log


def main(
    predictions: list[str],
    networks: list[tuple[str, str, int]],
    imbalance: str,
    real: str,
    test_split: str,
    group_columns: list[str],
    probes: list[str],
    baselines: list[str],
    stage1: dict[str, str],
    metrics: str,
    differences: str,
) -> None:
    """Score `predictions` (manifests of this name) and write the manifests `metrics` and `differences`.

    networks: stage, recipe and seed of each of `predictions`. Only images of `test_split` count. real: the manifest of
    this name; its groups are used if the data set has `group_columns`. probes: manifests `metrics` of the probes, which
    are added. baselines: recipes to compare with. stage1: recipe -> the recipe whose stage-1 networks it uses.
    Raises UserError if the predictions are not for the same test images.
    """
    scorer = read_scorer(predictions[0], test_split, imbalance, real, group_columns)
    resamples = scorer.resample()
    tables, scores_of = [], {}
    for path, (stage, recipe, seed) in zip(predictions, networks, strict=True):
        rows = read_test(path, test_split)
        if not scorer.fits(rows):
            raise UserError(
                f"{path}: its test images differ from those of {predictions[0]}; delete both files and run again"
            )
        scores = scorer.score(rows, resamples)
        scores_of.setdefault((recipe, stage), {})[seed] = scores
        tables.append(with_intervals(scores).assign(stage=stage, recipe=recipe, seed=seed))
    tables += [read_manifest("metrics", path) for path in probes]
    write_manifest("metrics", pd.concat(tables, ignore_index=True), metrics)
    write_manifest("differences", compare(scores_of, baselines, stage1), differences)


def run(snakemake) -> None:
    """Call `main` for the rule `evaluate` or `evaluate_replicates`: they have the same names."""
    main(
        list(snakemake.input.predictions),
        snakemake.params.networks,
        snakemake.input.imbalance,
        snakemake.input.real,
        snakemake.params.test_split,
        snakemake.params.group_columns,
        list(snakemake.input.probes),
        snakemake.params.baselines,
        snakemake.params.stage1,
        snakemake.output.metrics,
        snakemake.output.differences,
    )


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        run(snakemake)
