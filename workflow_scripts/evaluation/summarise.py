"""Average every metric over seeds, with a 95 % interval, and add what the networks cost."""

from pathlib import Path

import pandas as pd

from synaug.config import Recipe
from synaug.evaluation.costs import add_costs
from synaug.evaluation.intervals import summarise
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log


def main(
    metrics: str,
    balanced: str,
    plan: str,
    images: dict[str, dict],
    stage1: dict[str, str],
    devices: dict[str, int],
    summary: str,
    pilot: str | None = None,
) -> None:
    """Summarise the manifest `metrics` into the manifest `summary`.

    images: recipe -> its keys `data` and `fill`. stage1: recipe -> the recipe whose stage-1 networks it uses. devices:
    recipe -> its key `stage1.devices`. pilot: the plan of the pilot, whose images cost time too. Seconds come from
    benchmarks/ and costs/ in the folder of `metrics`, and from costs/ of other experiments if images were copied from
    them. No rule depends on these files, because seconds differ from run to run.
    """
    rows = read_manifest("metrics", metrics)
    plans = [read_manifest("plan", path, ["image_id", "shard", "fill"]) for path in (plan, pilot) if path]
    table = add_costs(
        summarise(rows),
        rows.groupby(["recipe", "stage"], observed=True)["seed"].unique().map(sorted).to_dict(),
        {recipe: Recipe.model_validate(keys) for recipe, keys in images.items()},
        stage1,
        devices,
        read_manifest("balanced", balanced, ["image_id", "label_name", "group", "source", "fill", "index"]),
        pd.concat(plans),
        Path(metrics).parent,
    )
    write_manifest("summary", table, summary)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.metrics,
            snakemake.input.balanced,
            snakemake.input.plan,
            snakemake.params.images,
            snakemake.params.stage1,
            snakemake.params.devices,
            snakemake.output.summary,
            snakemake.input.get("pilot"),
        )
