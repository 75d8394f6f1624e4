"""Average every metric over seeds, with a 95 % interval, and add what the networks cost."""

from pathlib import Path

import pandas as pd

from synaug.config import Recipe
from synaug.evaluation.costs import add_costs
from synaug.evaluation.intervals import summarise
from synaug.manifests import count_rows, read_manifest, write_manifest
from synaug.runtime.logs import job_log


def main(
    metrics: str,
    balanced: str,
    plan: str,
    images: dict[str, dict],
    stage1: dict[str, str],
    summary: str,
    pilot: str | None = None,
) -> None:
    """Summarise the manifest `metrics` into the manifest `summary`.

    images: recipe -> its keys `data` and `fill`. stage1: recipe -> the recipe whose stage-1 networks it uses. pilot:
    the plan of the pilot, whose shards cost time too. Seconds come from benchmarks/ and costs/ in the folder of
    `metrics`. No rule depends on these files, because seconds differ from run to run.
    """
    rows = read_manifest("metrics", metrics)
    plans = [count_rows("plan", path, ["shard", "fill"]) for path in (plan, pilot) if path]
    shards = pd.concat(plans).drop_duplicates(["shard", "fill"])
    table = add_costs(
        summarise(rows),
        rows.groupby(["recipe", "stage"], observed=True)["seed"].unique().map(sorted).to_dict(),
        {recipe: Recipe.model_validate(keys) for recipe, keys in images.items()},
        stage1,
        read_manifest("balanced", balanced, ["image_id", "label_name", "group", "source", "fill", "index"]),
        shards.groupby("fill")["shard"].agg(list).to_dict(),
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
            snakemake.output.summary,
            snakemake.input.get("pilot"),
        )
