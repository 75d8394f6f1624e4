"""Average every metric over the replicates of a variant, with a 95 % interval, and the costs."""

import pandas as pd

from synaug.evaluation.intervals import summarise
from synaug.manifests import read_manifest, write_manifest
from synaug.runtime.logs import job_log

NETWORK = ["recipe", "stage"]
COSTS = ["real_images", "synthetic_images", "train_seconds", "generation_seconds"]


def main(metrics: str, summaries: list[str], varied: str, summary: str) -> None:
    """Summarise the manifest `metrics`, the networks of all replicates, into the manifest `summary`.

    summaries: the manifests `summary` of the replicates, whose costs are averaged. varied: what differs between the
    replicates; networks without synthetic images differ in the training seed only.
    """
    costs = pd.concat([read_manifest("summary", path, [*NETWORK, *COSTS]) for path in summaries])
    # A cost that one replicate has not recorded is unknown, not the mean of the others.
    costs = costs.groupby(NETWORK, as_index=False)[COSTS].agg(lambda values: values.mean(skipna=False))
    costs = costs.round({"real_images": 0, "synthetic_images": 0})
    table = summarise(read_manifest("metrics", metrics)).merge(costs, on=NETWORK, how="left")
    table["varied"] = table["synthetic_images"].gt(0).map({True: varied, False: "training seed"})
    write_manifest("summary", table, summary)


if __name__ == "__main__":
    with job_log(snakemake.log[0]):
        main(
            snakemake.input.metrics, list(snakemake.input.summaries), snakemake.params.varied, snakemake.output.summary
        )
